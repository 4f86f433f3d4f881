"""What no name leads to goes, and nothing else: whoever writes, dies or looks on meanwhile."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from defect_assets.dataset.images import read_images
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import find_snapshot, latest_version
from defect_assets.home import Home
from defect_assets.inbox import take_in
from defect_assets.store import (
    Corrupted,
    Record,
    RefConflict,
    Store,
    StoreBusy,
    digest_of,
    leases,
    open_store,
    packs,
)
from defect_assets.store.collect import CollectionRefused, collect, find_garbage
from defect_assets.store.digest import object_key
from defect_assets.store.packs import packs_in, read_index
from defect_assets.store.tables import table_key
from defect_assets.store.transfer import plan_transfer, transfer
from defect_assets.store.verify import verify
from tests.small import (
    DESCRIPTION,
    contents,
    cut,
    damage,
    deliver,
    home_of,
    ingest,
    mask,
    picture,
    plain,
)

HOUR = 3600.0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(packs, "PACK_BYTES", 500)
    return home_of(tmp_path / "home")


@pytest.fixture
def store(home: Home) -> Store:
    return home.store()


def keys(store: Store) -> set[str]:
    folders = ("objects", "tables", "indexes", "refs")
    return {entry.key for folder in folders for entry in store.backend.entries(folder)}


def leased(store: Store) -> list[str]:
    return [entry.key for entry in store.backend.entries("leases")]


def age(home: Home, hours: float, which: set[str]) -> None:
    """Make some keys look as if they had been written some time ago."""
    then = time.time() - hours * HOUR
    for key in which:
        os.utime(home.root / "store" / key, (then, then))


def read_all(store: Store) -> int:
    """Read every image of the newest version, and return how many there are."""
    _, snapshot = find_snapshot(store, str(latest_version(store)))
    return len(list(read_images(store, samples_of(store, snapshot.batches), DESCRIPTION)))


def abandon(home: Home, store: Store, name: str) -> None:
    """Take a delivery in as far as someone does who dies before naming it."""
    take_in(home, store, name)


def die_at_work(root: Path, name: str) -> None:
    """Take a delivery in, and die before it has its name."""
    home = Home(root)
    packs.PACK_BYTES = 500
    take_in(home, home.store(), name)
    os.kill(os.getpid(), signal.SIGKILL)


def write_and_wait(root: Path, pipe: Any) -> None:
    open_store(str(root / "store")).objects.put(b"at work")
    pipe.send("written")
    pipe.recv()


def collect_and_wait(root: Path, pipe: Any) -> None:
    store = open_store(str(root / "store"))
    with leases.collecting(store.backend):
        pipe.send("collecting")
        pipe.recv()


class Other:
    """Something that another process does until it is told to end, or killed."""

    def __init__(self, work: Callable[[Path, Any], None], root: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(root, theirs))
        self.process.start()
        theirs.close()
        assert self.pipe.poll(60)
        self.pipe.recv()

    def kill(self) -> None:
        """Kill it, and do not ask what became of it: the kernel keeps it as a zombie."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)

    def end(self) -> None:
        self.pipe.send("end")
        self.process.join(60)


def test_what_names_lead_to_is_no_garbage(home: Home, store: Store) -> None:
    for name, first in [("one", 0), ("two", 20)]:
        plain(home, name, range(first, first + 20))
        ingest(home, store, name)
        cut(home, store)
    before = keys(store)
    assert find_garbage(store, 0).entries == ()
    assert collect(store, 0).entries == ()
    assert keys(store) == before
    assert read_all(store) == 40


def test_what_was_never_named_is_removed_to_the_last_file(home: Home, store: Store) -> None:
    plain(home, "one", range(20))
    ingest(home, store, "one")
    cut(home, store)
    before = keys(store)
    plain(home, "two", range(20, 40))
    abandon(home, store, "two")
    new = keys(store) - before
    assert {key.split("/")[0] for key in new} == {"objects", "tables", "indexes"}
    found = find_garbage(store, 0)
    assert {entry.key for entry in found.entries} == new
    assert found.kept == len([key for key in before if not key.startswith("refs/")])
    assert collect(store, 0) == found
    assert keys(store) == before
    assert read_all(store) == 20
    assert not verify(store).damages


def test_a_pack_of_one_object_is_neither_garbage_nor_written_twice(
    home: Home, store: Store, tmp_path: Path
) -> None:
    """As a correction of one mask makes it: the pack's digest is the mask's."""
    plain(home, "one", range(4))
    ingest(home, store, "one")
    deliver(home, "fix", {}, {"s001": mask(2, 1)})
    ingest(home, store, "fix")
    cut(home, store)
    before = keys(store)
    assert collect(store, 0).entries == ()
    plain(home, "more", [4])
    (home.inbox / "more" / "masks" / "s004.png").write_bytes(mask(2, 1))
    ingest(home, home.store(), "more")
    held = home.store().objects.packs.by_pack()
    assert sum(map(len, held.values())) == len({d for some in held.values() for d, _ in some})
    copy = open_store(str(tmp_path / "copy"))
    transfer(store, copy, plan_transfer(store, copy))
    assert before < keys(store) == keys(copy)


def test_what_is_young_is_left_alone(home: Home, store: Store) -> None:
    plain(home, "one", range(20))
    abandon(home, store, "one")
    before = keys(store)
    found = collect(store, 1)
    assert (found.entries, found.young) == ((), len(before))
    assert keys(store) == before
    age(home, 2, before)
    assert len(collect(store, 1).entries) == len(before)
    assert keys(store) == set()


def test_what_something_young_needs_is_left_alone(home: Home, store: Store) -> None:
    """Someone died, long ago, after the packs and the table's file; and today, just before the
    name. What they wrote today says that the old files are there."""
    plain(home, "one", range(20))
    abandon(home, store, "one")
    written = keys(store)
    age(home, 48, {key for key in written if key.startswith("objects/")})
    collect(store, 24)
    ingest(home, store, "one")
    cut(home, store)
    assert not verify(store).damages
    assert read_all(store) == 20


def test_what_was_collected_can_be_taken_in_again(home: Home, store: Store) -> None:
    plain(home, "one", range(20))
    abandon(home, store, "one")
    collect(store, 0)
    assert not keys(store)
    ingest(home, store, "one")
    cut(home, store)
    assert not verify(store).damages
    assert read_all(store) == 20


def test_who_looked_before_the_collection_is_not_misled(home: Home, store: Store) -> None:
    """A long-lived process knows of packs that another one has removed since."""
    plain(home, "one", range(20))
    abandon(home, store, "one")
    looker = home.store()
    assert looker.objects.get(digest_of(picture(7))) == picture(7)
    collect(store, 0)
    ingest(home, looker, "one")
    cut(home, looker)
    assert not verify(home.store()).damages
    assert read_all(home.store()) == 20


def test_of_an_index_only_what_goes_is_forgotten(home: Home, store: Store) -> None:
    """Nobody reads one index twice: its living packs keep their places."""
    plain(home, "all", range(30))
    abandon(home, store, "all")
    [index] = [key for key in keys(store) if key.startswith("indexes/")]
    many = packs_in(read_index(store.backend, index))
    plain(home, "some", range(4))
    ingest(home, store, "some")
    cut(home, store)
    found = collect(store, 0)
    assert found.indexes == (index,)
    assert index not in keys(store)
    [rewritten] = [key for key in keys(store) if key.startswith("indexes/")]
    few = packs_in(read_index(store.backend, rewritten))
    assert few < many
    assert all(store.backend.exists(object_key(pack)) for pack in few)
    assert not any(store.backend.exists(object_key(pack)) for pack in many - few)
    assert not verify(store).damages
    assert read_all(store) == 4
    ingest(home, store, "all")
    assert not verify(store).damages
    assert find_garbage(store, 0).entries == ()


class Interrupted:
    """A backend's way to delete that is interrupted after some steps."""

    def __init__(self, delete: Callable[[str], None], steps: int) -> None:
        self.delete, self.left = delete, steps

    def __call__(self, key: str) -> None:
        if not key.startswith("leases/"):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
        self.delete(key)


def test_a_collection_that_is_interrupted_leaves_nothing_dangling(
    home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of its steps the same delivery can be taken in again."""
    plain(home, "some", range(4))
    ingest(home, store, "some")
    cut(home, store)
    plain(home, "all", range(30))
    abandon(home, store, "all")
    total = len(find_garbage(store, 0).entries)
    assert total > 10
    for steps in range(total):
        store = home.store()
        with monkeypatch.context() as patch:
            patch.setattr(store.backend, "delete", Interrupted(store.backend.delete, steps))
            with pytest.raises(KeyboardInterrupt):
                collect(store, 0)
        fresh = home.store()
        assert not verify(fresh).damages, f"after {steps} of {total}"
        abandon(home, fresh, "all")
        assert not verify(fresh).damages, f"after {steps} of {total}, and again"
        for number in range(30):
            assert fresh.objects.get(digest_of(picture(number))) == picture(number)
    collect(store, 0)
    assert find_garbage(home.store(), 0).entries == ()
    assert read_all(home.store()) == 4


def test_a_live_writer_keeps_the_collector_away_and_a_dead_one_does_not(
    home: Home, store: Store
) -> None:
    writer = Other(write_and_wait, home.root)
    before = keys(store)
    with pytest.raises(StoreBusy, match=f"process {writer.process.pid} on .* is writing"):
        collect(store, 0)
    assert keys(store) == before
    writer.kill()
    assert len(collect(store, 0).entries) == 1
    writer.process.join()


def test_who_says_goodbye_does_not_keep_the_collector_away(home: Home, store: Store) -> None:
    writer = Other(write_and_wait, home.root)
    writer.end()
    assert not [key for key in leased(store) if "writers" in key]
    assert len(collect(store, 0).entries) == 1


def test_nothing_is_left_of_the_dead(home: Home, store: Store) -> None:
    """Or each crash would make every collection after it a little slower."""
    plain(home, "one", range(5))
    for _ in range(2):
        child = multiprocessing.get_context("spawn").Process(
            target=die_at_work, args=(home.root, "one")
        )
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
    assert len(leased(store)) == 2
    collect(store, 0)
    assert len(leased(store)) == 1  # one's own, which holds for as long as one lives


def test_a_writer_waits_for_the_collector_while_it_lives(
    home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "PATIENCE", 0.3)
    collector = Other(collect_and_wait, home.root)
    late = home.store()
    with pytest.raises(StoreBusy, match="garbage is being collected .* try again later"):
        late.objects.put(b"late")
    with pytest.raises(StoreBusy, match="garbage is being collected"):
        collect(store, 0)
    collector.kill()
    assert late.objects.get(late.objects.put(b"late")) == b"late"
    assert len(collect(store, 0).entries) == 1
    collector.process.join()


def test_who_is_about_to_rely_on_what_there_is_keeps_the_collector_away(
    home: Home, store: Store
) -> None:
    """A delivery whose files are all there already is looked at for minutes before anything is
    written; what it will name must not go meanwhile."""
    plain(home, "one", range(20))
    abandon(home, store, "one")
    os.utime(home.inbox / "one")
    looked: list[str] = []

    def look(done: int, total: int) -> None:
        other = multiprocessing.get_context("spawn").Process(
            target=collect_elsewhere, args=(home.root,)
        )
        other.start()
        other.join(60)
        looked.append(f"{other.exitcode}")

    late = home.store()
    for lease in leased(store):  # of what was done above, in this process
        store.backend.delete(lease)
    take_in(home, late, "one", look)
    assert looked == ["7"]
    assert not verify(late).damages


def collect_elsewhere(root: Path) -> None:
    try:
        collect(open_store(str(root / "store")), 0)
    except StoreBusy:
        os._exit(7)


def test_the_process_that_writes_may_collect(home: Home, store: Store) -> None:
    digest = store.objects.put(b"mine")
    collect(store, 0)
    assert digest not in store.objects


def test_half_written_files_of_the_dead_are_swept_up(home: Home, store: Store) -> None:
    store.publish("x", Record(asset="x", content=store.objects.put(b"x")))
    for folder in ("objects", "refs"):
        (home.root / "store" / folder / ".partial-abc").write_bytes(b"half")
    assert not verify(store).damages
    collect(store, 1)
    assert len(list((home.root / "store").rglob(".partial-*"))) == 2
    collect(store, 0)
    assert not list((home.root / "store").rglob(".partial-*"))


def header_key(store: Store) -> str:
    record = store.record("batches/one")
    assert record is not None
    return object_key(record.content)


def record_key(store: Store) -> str:
    digest = store.refs.get("batches/one")
    assert digest is not None
    return object_key(digest)


def file_key(store: Store) -> str:
    return object_key(store.backend.read(pointer_key(store)).decode())


def pointer_key(store: Store) -> str:
    record = store.record("batches/one")
    assert record is not None
    return table_key(store.objects.get_json(record.content)["rows"])


def index_key(store: Store) -> str:
    return next(key for key in keys(store) if key.startswith("indexes/"))


def pack_key(store: Store) -> str:
    return object_key(min(store.objects.packs.by_pack()))


def name_key(store: Store) -> str:
    return "refs/batches/one"


PLACES = [header_key, record_key, file_key, pointer_key, index_key, pack_key, name_key]


@pytest.mark.parametrize("at", [0, 1, -1], ids=["first", "second", "last"])
@pytest.mark.parametrize("place", PLACES[:5] + PLACES[6:])
def test_nothing_goes_while_something_is_damaged(
    home: Home, store: Store, place: Callable[[Store], str], at: int
) -> None:
    """What it led to cannot be told, so what it led to must not go: whichever byte it is."""
    plain(home, "one", range(20))
    ingest(home, store, "one")
    damage(home.root / "store" / place(store), at)
    before = keys(store)
    with pytest.raises((CollectionRefused, Corrupted), match="run defect-assets verify|verify tel"):
        collect(home.store(), 0)
    assert keys(store) == before


@pytest.mark.parametrize("place", PLACES[:6])
def test_nothing_goes_while_something_is_missing(
    home: Home, store: Store, place: Callable[[Store], str]
) -> None:
    plain(home, "one", range(20))
    ingest(home, store, "one")
    (home.root / "store" / place(store)).unlink()
    before = keys(store)
    with pytest.raises(CollectionRefused, match="run defect-assets verify"):
        collect(home.store(), 0)
    assert keys(store) == before


def act(root: Path, what: str, names: tuple[str, ...], pipe: Any) -> None:
    """Wait for the start, then take deliveries in or cut; say what became of it."""
    packs.PACK_BYTES = 500
    home = Home(root)
    store = home.store()
    pipe.send("ready")
    pipe.recv()
    try:
        for name in names:
            ingest(home, store, name)
        if what == "cut":
            cut(home, store)
        pipe.send("done")
    except RefConflict as error:
        pipe.send(f"lost: {error}")


def at_once(home: Home, *works: tuple[str, tuple[str, ...]]) -> list[str]:
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for what, names in works:
        pipe, theirs = context.Pipe()
        process = context.Process(target=act, args=(home.root, what, names, theirs))
        process.start()
        pipes.append(pipe)
        processes.append(process)
    for pipe in pipes:
        assert pipe.poll(60)
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    said = [pipe.recv() if pipe.poll(60) else "silence" for pipe in pipes]
    for process in processes:
        process.join(60)
    return said


def test_two_that_take_in_at_once_lose_nothing(home: Home, store: Store, tmp_path: Path) -> None:
    """The same delivery, and others that share images with it."""
    for name, numbers in [("a", range(30)), ("b", range(20, 50)), ("c", range(25, 35))]:
        plain(home, name, numbers)
    said = at_once(home, ("ingest", ("a", "b")), ("ingest", ("a", "c")))
    assert said == ["done", "done"]
    assert set(contents(store)) == {"batches/a", "batches/b", "batches/c"}
    cut(home, store)
    assert not verify(store).damages
    looker = home.store()
    assert read_all(looker) == 50

    collect(store, 0)  # what was written twice may go once
    assert not verify(home.store()).damages
    assert read_all(home.store()) == 50
    assert read_all(looker) == 50

    copy = open_store(str(tmp_path / "copy"))
    transfer(store, copy, plan_transfer(store, copy))
    assert not verify(copy).damages
    assert find_garbage(copy, 0).entries == ()


def test_of_two_that_cut_at_once_both_are_right_or_one_is_told(home: Home, store: Store) -> None:
    for name, numbers in [("a", range(10)), ("b", range(10, 20)), ("c", range(20, 30))]:
        plain(home, name, numbers)
    ingest(home, store, "a")
    said = at_once(home, ("cut", ("b",)), ("cut", ("c",)))
    assert all(word == "done" or "already names" in word for word in said)
    assert "done" in said
    cut(home, store)  # what came too late
    assert read_all(store) == 30
    assert not verify(store).damages
    collect(store, 0)  # a snapshot that lost
    assert read_all(home.store()) == 30
