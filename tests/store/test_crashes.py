"""The process is killed at some point of ingest, cut, push and gc: whoever comes after it finds a
sound store, what had a name still has it, and to do the same again gives the same.

A process that a fork server made does the work. What it asks of the file system is counted, and at
one of these points it kills itself: between writing and linking, linking and syncing, and so on.
A killed process loses nothing that it wrote, so syncing is only counted, not done.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import find_snapshot, versions
from defect_assets.home import Home
from defect_assets.inbox import take_in
from defect_assets.store import Store, open_store, packs
from defect_assets.store.collect import collect, find_garbage
from defect_assets.store.transfer import plan_transfer, transfer
from defect_assets.store.verify import verify
from tests.end_to_end.killed.mortality import Mortal
from tests.small import contents, cut, deliver, home_of, ingest, mask, plain

POINTS = 200
SAMPLE = 12


def prepare(root: Path) -> None:
    """Make a home with three deliveries in its inbox and with garbage in its store.

    The garbage shares packs with what will be named: its index must be written anew.
    """
    packs.PACK_BYTES = 400
    home = home_of(root)
    store = home.store()
    plain(home, "never", range(2, 26))
    take_in(home, store, "never")
    shutil.rmtree(home.inbox / "never")
    shutil.rmtree(home.taken)
    plain(home, "one", range(10))
    deliver(home, "two", {}, {"s003": mask(1, 103)}, remove=["s004"])
    plain(home, "three", range(30, 38))


def work(home: Home, mark: Callable[[str], None]) -> None:
    """Do what people do, in the order in which they do it; from the beginning, or go on."""
    store, remote = home.store(), open_store(str(home.root / "remote"))
    for version, deliveries in (("DS-1.0.0", ("one",)), ("DS-2.0.0", ("two", "three"))):
        mark("ingest")
        for name in deliveries:
            ingest(home, store, name)
        mark("cut")
        if store.refs.get(f"datasets/{version}") is None:
            cut(home, store)
    mark("push")
    transfer(store, remote, plan_transfer(store, remote))
    mark("gc")
    collect(store, 0)


class Worker(Mortal):
    """Notes at what work it came by each point."""

    def __init__(self, last: int) -> None:
        super().__init__(last)
        self.phases: list[str] = []
        self.phase = ""

    def mark(self, phase: str) -> None:
        self.phase = phase

    def point(self) -> None:
        self.phases.append(self.phase)
        super().point()

    def watch(self) -> None:
        super().watch()
        os.fsync = lambda descriptor: self.point()
        os.mkdir = self.before_and_after(os.mkdir)
        tempfile.mkstemp = self.before_and_after(tempfile.mkstemp)


def live(root: Path, last: int, report: Path | None) -> None:
    """Do the work, up to some point; where one comes to the end, say what there was."""
    packs.PACK_BYTES = 400
    worker = Worker(last)
    worker.watch()
    work(Home(root), worker.mark)
    if report:
        report.write_text(json.dumps(worker.phases))


def run(function: Callable[..., None], *args: Any) -> int | None:
    """Call a function in a process of its own; return how that ended."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=function, args=args)
    process.start()
    process.join(60)
    return process.exitcode


def keys(store: Store) -> set[str]:
    folders = ("objects", "tables", "indexes", "refs")
    return {entry.key for folder in folders for entry in store.backend.entries(folder)}


def history(store: Store) -> dict[str, Any]:
    return {
        str(version): samples_of(store, find_snapshot(store, str(version))[1].batches).to_pylist()
        for version in versions(store)
    }


@dataclass(frozen=True)
class Undisturbed:
    """What there is where nobody was killed."""

    prepared: Path
    phases: list[str]
    contents: dict[str, str | None]
    remote: dict[str, str | None]
    history: dict[str, Any]
    values: int
    """Objects of which there are as many, but of other content: records say when."""
    others: set[str]

    def points(self, count: int) -> list[int]:
        """Return points spread over all, each at random in its part."""
        # Another run takes some steps more or fewer: who holds a lease, and when, is of the clock.
        total = len(self.phases) - 10
        edges = [i * total // count for i in range(count + 1)]
        return [random.Random(i).randint(edges[i] + 1, edges[i + 1]) for i in range(count)]


def split(store: Store) -> tuple[int, set[str]]:
    records = {f"objects/{d[:2]}/{d[2:]}" for d in map(store.refs.get, store.refs.names()) if d}
    return len(records), keys(store) - records


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("crashes")
    assert run(prepare, folder / "prepared") == 0
    root = folder / "home"
    shutil.copytree(folder / "prepared", root)
    assert run(live, root, 0, folder / "phases.json") == 0
    store, remote = Home(root).store(), open_store(str(root / "remote"))
    assert len(store.objects.packs.by_pack()) > 5
    assert not verify(store).damages
    return Undisturbed(
        folder / "prepared",
        json.loads((folder / "phases.json").read_text()),
        contents(store),
        contents(remote),
        history(store),
        *split(store),
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "PACK_BYTES", 400)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def check(undisturbed: Undisturbed, root: Path, point: int) -> str:
    """Kill the work at a point, look at what is left, and do it again; return where it was."""
    shutil.copytree(undisturbed.prepared, root)
    assert run(live, root, point, None) == -signal.SIGKILL
    home = Home(root)
    store, remote = home.store(), open_store(str(root / "remote"))

    for left, whole in ((store, undisturbed.contents), (remote, undisturbed.remote)):
        assert verify(left).damages == ()
        there = contents(left)
        assert there == {name: whole[name] for name in there}
    told = history(store)
    assert told == {version: undisturbed.history[version] for version in told}
    if contents(remote):
        assert contents(store) == undisturbed.contents

    work(home, lambda phase: None)

    for left, whole in ((store, undisturbed.contents), (remote, undisturbed.remote)):
        assert contents(left) == whole
        assert verify(left).damages == ()
        assert find_garbage(left, 0).entries == ()
    assert history(store) == undisturbed.history
    assert split(store) == (undisturbed.values, undisturbed.others)
    assert keys(store) == keys(remote)
    assert not list((root / "store").rglob(".partial-*"))
    collect(remote, 0)
    assert not list((root / "remote").rglob(".partial-*"))
    assert verify(remote).damages == ()
    shutil.rmtree(root)
    return undisturbed.phases[point - 1]


def test_the_points_are_spread_over_all_that_is_done(undisturbed: Undisturbed) -> None:
    for count in (SAMPLE, POINTS):
        points = undisturbed.points(count)
        assert len(set(points)) == count
        found = Counter(undisturbed.phases[point - 1] for point in points)
        assert set(found) == {"ingest", "cut", "push", "gc"}


def test_a_killed_process_harms_nothing(undisturbed: Undisturbed, tmp_path: Path) -> None:
    for point in undisturbed.points(SAMPLE):
        check(undisturbed, tmp_path / str(point), point)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(POINTS))
def test_a_killed_process_harms_nothing_wherever_it_is(
    undisturbed: Undisturbed, tmp_path: Path, number: int
) -> None:
    check(undisturbed, tmp_path / "home", undisturbed.points(POINTS)[number])
