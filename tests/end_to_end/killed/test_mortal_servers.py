"""A delivery goes the road by itself while daemon, code server and run workers are killed again and
again, at points that a seed draws. A server is started again, a run's worker is not.
"""

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg
import pytest
import yaml

from defect_assets.home import Home
from defect_assets.store.verify import verify
from tests.end_to_end.conftest import Checkout
from tests.end_to_end.killed.test_faults import assert_whole, in_dagster, nursery
from tests.servers.dagster import Servers, dagster_servers, kill
from tests.small import contents

pytestmark = pytest.mark.slow

POLICY = {
    "cut": {"batches": 1},
    "train": {"configs": [{"config": "C-01"}], "a_day": 1000},
    "release": {},
    "attempts": 1000,  # what a kill ends is asked for again
}
VICTIMS = ["daemon", "code server", "run worker"] * 3 + ["all at once"]
"""Who is killed along a road, in an order that its seed draws."""
KILLS = 30
ROADS = 6
"""Within so many roads there must be as many kills."""
CALM = 12
"""Events that Dagster hears of before a kill, at most; a run has some twenty."""
PATIENCE = 20.0
"""Seconds after which someone is killed though less happened."""


@dataclass(frozen=True)
class Undisturbed:
    """What there is where nobody is killed, and homes at the beginning and half way."""

    checkout: Checkout
    starts: tuple[Home, Home]
    contents: dict[str, str | None]
    in_dagster: dict[tuple[str, str], str]


@pytest.fixture(scope="module")
def undisturbed(copy_checkout: Callable[[], Checkout]) -> Undisturbed:
    checkout = copy_checkout()
    checkout.configure(commit=False, steps=100)
    (checkout.root / "configs" / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    # A run whose code server was killed before it began is given up by Dagster after a while.
    instance = checkout.root / "configs" / "deploy" / "local" / "dagster.yaml"
    sooner = "start_timeout_seconds: 30\n  poll_interval_seconds: 5"
    instance.write_text(instance.read_text().replace("start_timeout_seconds: 180", sooner))
    checkout.look_often()  # who waits less is more often killed at work
    checkout.cli("import", "synthetic", "--tiles", "24", "--name", "one")
    home = Home(checkout.home)
    delivered, divided = (Home(checkout.root / name) for name in ("delivered", "divided"))
    shutil.copytree(home.root, delivered.root)
    with nursery(checkout, home.root) as born:
        assert born.walk(0, "dataset_split", "training_config")[0] == 0, born.log.read_text()
        shutil.copytree(home.root, divided.root)
        assert born.walk()[0] == 0, born.log.read_text()
    starts = delivered, divided
    return Undisturbed(checkout, starts, contents(home.store()), in_dagster(home))


def test_whoever_is_killed_the_road_leads_to_the_same(undisturbed: Undisturbed) -> None:
    kills = 0
    for seed in range(ROADS):
        checkout = Checkout(undisturbed.checkout.root, f"road-{seed}")
        home = Home(checkout.home)
        shutil.copytree(undisturbed.starts[seed % 2].root, home.root)
        kills += killed_along_a_road(undisturbed, checkout, random.Random(seed))
        checkout.cli("repro")
        assert_whole(home, undisturbed.contents, undisturbed.in_dagster)
        if kills >= KILLS:
            return
    raise AssertionError(f"only {kills} were killed")


def killed_along_a_road(undisturbed: Undisturbed, checkout: Checkout, rng: random.Random) -> int:
    """Kill one after another until the road is walked; return how many were killed."""
    home = Home(checkout.home)
    store = home.store()
    kills = 0
    with dagster_servers(checkout) as servers:
        servers.switch_on()
        servers.start_daemon()
        for victim in rng.sample(VICTIMS, len(VICTIMS)):
            await_point(home, servers, rng.randint(1, CALM), victim)
            kills += strike(servers, victim, rng)
            assert verify(store).damages == ()
            assert contents(store).items() <= undisturbed.contents.items()
            assert in_dagster(home).items() <= undisturbed.in_dagster.items()
            if contents(store) == undisturbed.contents:
                break
    return kills


def await_point(home: Home, servers: Servers, events: int, victim: str) -> None:
    """Wait until so many more events happened, and the victim is there."""
    deadline = time.monotonic() + PATIENCE
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        point = events_until_now(instance) + events
        while time.monotonic() < deadline:
            if events_until_now(instance) >= point and (victim != "run worker" or servers.runs()):
                return
            time.sleep(0.2)


def events_until_now(instance: dg.DagsterInstance) -> int:
    return sum(len(instance.all_logs(run.run_id)) for run in instance.get_runs())


def strike(servers: Servers, victim: str, rng: random.Random) -> bool:
    """Kill a process, and start it again if it is a server; tell whether there was one."""
    runs = servers.runs()
    if victim == "run worker":
        kill(*rng.sample(runs, min(1, len(runs))))
        return bool(runs)
    if victim in ("daemon", "all at once"):
        kill(*servers.daemons)
        servers.daemons.clear()
    if victim in ("code server", "all at once"):
        kill(servers.code_server)
    if victim == "all at once":
        kill(*runs)
    if victim != "daemon":
        servers.start_code_server()
    if not servers.daemons:
        servers.start_daemon()
    return True
