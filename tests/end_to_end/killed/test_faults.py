"""Whoever works is killed at some point of the road, again and again: whoever comes after finds a
sound store, takes nothing half-made for whole, and comes to what there is where nobody is killed.
"""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from defect_assets.home import Home
from defect_assets.run_workers import WORKER
from defect_assets.store.verify import verify
from tests.conftest import PROJECT
from tests.end_to_end.conftest import Checkout
from tests.small import contents

pytestmark = pytest.mark.slow

WALK = "repro"
BLOCKING = [("dataset_split", "no_part_in_several_places"), ("defect_bento", "bento_answers")]
KILLS = 15
"""A seed; there are two."""


@dataclass
class Nursery:
    """See `tests.end_to_end.killed.mortal`."""

    process: subprocess.Popen
    log: Path

    def walk(self, last: int = 0, *stages: str) -> tuple[int, int]:
        """Walk up to some point; return how that ended, and how many points there were."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join([str(last), WALK, *stages]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.log.read_text()[-3000:]
        status, points = map(int, line.split())
        return status, points


@contextmanager
def nursery(checkout: Checkout, home: Path) -> Iterator[Nursery]:
    environment = checkout.environment | {
        "DEFECT_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
        "BENTOML_HOME": str(home / "bentoml"),
        "OMP_NUM_THREADS": "1",
        # The code is the checkout's; the tests are here.
        "PYTHONPATH": os.pathsep.join([checkout.environment["PYTHONPATH"], str(PROJECT)]),
    }
    log = home.with_suffix(".log")
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("mortal.py"))],
            cwd=checkout.root,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", log.read_text()[-3000:]
        yield Nursery(process, log)
    finally:
        process.kill()
        process.wait()


def deliver(checkout: Checkout, home: Path) -> None:
    for name, first in (("one", 1), ("two", 17)):
        checkout.cli(
            *("--home", str(home), "import", "synthetic"),
            *("--first", str(first), "--tiles", "16", "--name", name),
        )


def in_dagster(home: Home) -> dict[tuple[str, str], str]:
    """Return the newest data version of each partition, as Dagster tells it."""
    found: dict[tuple[str, str], str] = {}
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        for key in instance.all_asset_keys():
            records = instance.fetch_materializations(key, limit=1000).records
            for record in records:  # the newest first
                event = record.asset_materialization
                assert event is not None
                version = (event.tags or {})["dagster/data_version"]
                found.setdefault((key.to_user_string(), str(event.partition)), version)
    return found


def assert_whole(
    home: Home, there: dict[str, str | None], told: dict[tuple[str, str], str]
) -> None:
    """Demand that all is there, for the store and for Dagster, and nobody said to be at work."""
    assert verify(home.store()).damages == ()
    assert contents(home.store()) == there
    assert in_dagster(home) == told
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        # One that was killed in its first moment holds nothing; it is buried some minutes later.
        unfinished = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        assert [run for run in unfinished if WORKER in run.tags] == []
        events = instance.event_log_storage
        assert events.get_concurrency_info("gpu").claimed_slots == []
        for asset, name in BLOCKING:
            key = dg.AssetCheckKey(dg.AssetKey(asset), name)
            [last] = events.get_asset_check_execution_history(key, limit=1)
            assert last.status == AssetCheckExecutionRecordStatus.SUCCEEDED


@dataclass(frozen=True)
class Undisturbed:
    """What there is where nobody is killed."""

    checkout: Checkout
    points: int
    contents: dict[str, str | None]
    in_dagster: dict[tuple[str, str], str]


@pytest.fixture(scope="module")
def undisturbed(copy_checkout: Callable[[], Checkout]) -> Undisturbed:
    checkout = copy_checkout()
    checkout.configure(steps=60)
    home = checkout.root / "undisturbed"
    deliver(checkout, home)
    with nursery(checkout, home) as born:
        status, points = born.walk()
        assert status == 0, born.log.read_text()[-3000:]
    done = Home(home)
    return Undisturbed(checkout, points, contents(done.store()), in_dagster(done))


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_again_and_again_it_comes_to_the_same(undisturbed: Undisturbed, seed: int) -> None:
    rng = random.Random(seed)
    place = undisturbed.checkout.root / f"killed-{seed}"
    deliver(undisturbed.checkout, place)
    home = Home(place)
    kills = 0
    with nursery(undisturbed.checkout, place) as born:
        while kills < KILLS:
            # A walk that goes on has fewer points before it than one from the start.
            status, _ = born.walk(rng.randint(1, max(2, undisturbed.points * 2 // KILLS)))
            if status == 0:
                break
            assert status == -9, born.log.read_text()[-3000:]
            kills += 1
            store = home.store()
            assert verify(store).damages == ()
            there = contents(store)
            assert there.items() <= undisturbed.contents.items()
            for (asset, partition), version in in_dagster(home).items():
                assert undisturbed.in_dagster[asset, partition] == version
        assert kills == KILLS
        status, _ = born.walk()
        assert status == 0, born.log.read_text()[-3000:]
    assert_whole(home, undisturbed.contents, undisturbed.in_dagster)
