"""Copies of a store elsewhere: what is missing is copied, names last, nothing is overwritten."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from defect_assets.cli import app
from defect_assets.dataset.images import read_images
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import find_snapshot
from defect_assets.home import Home
from defect_assets.inbox import take_in
from defect_assets.store import Corrupted, Record, RefConflict, Store, open_store, packs
from defect_assets.store.collect import find_garbage
from defect_assets.store.digest import object_key
from defect_assets.store.tables import table_key
from defect_assets.store.transfer import MissingInSource, plan_transfer, transfer
from defect_assets.store.verify import verify
from tests.small import DESCRIPTION, contents, cut, damage, home_of, ingest, plain


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(packs, "PACK_BYTES", 500)
    home = home_of(tmp_path / "home")
    store = home.store()
    plain(home, "one", range(12))
    ingest(home, store, "one")
    cut(home, store)
    return home


@pytest.fixture
def store(home: Home) -> Store:
    return home.store()


@pytest.fixture
def remote(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "remote"))


def keys(store: Store, *folders: str) -> set[str]:
    folders = folders or ("objects", "tables", "indexes")
    return {entry.key for folder in folders for entry in store.backend.entries(folder)}


def push(source: Store, destination: Store) -> set[str]:
    """Copy what is missing; return what was."""
    before = keys(destination)
    plan = plan_transfer(source, destination)
    sizes: list[int] = []
    transfer(source, destination, plan, sizes.append)
    assert sum(sizes) == plan.bytes
    new = keys(destination) - before
    assert new == {entry.key for entry in plan.entries}
    return new


def test_a_copy_is_complete_and_sound(store: Store, remote: Store) -> None:
    push(store, remote)
    assert keys(remote) == keys(store)
    assert contents(remote) == contents(store)
    assert [store.refs.get(n) for n in store.refs.names()] == [
        remote.refs.get(n) for n in remote.refs.names()
    ]
    assert not verify(remote).damages
    assert find_garbage(remote, 0).entries == ()
    _, snapshot = find_snapshot(remote, "DS-1.0.0")
    assert len(list(read_images(remote, samples_of(remote, snapshot.batches), DESCRIPTION))) == 12


def test_only_what_is_missing_is_copied(home: Home, store: Store, remote: Store) -> None:
    push(store, remote)
    assert push(store, remote) == set()
    before = keys(store)
    plain(home, "two", range(8, 16))  # four of them are known
    ingest(home, store, "two")
    assert push(store, remote) == keys(store) - before
    assert plan_transfer(store, remote).names == {}


def test_garbage_is_not_copied(home: Home, store: Store, remote: Store) -> None:
    named = keys(store)
    store.objects.put(b"never named")
    with store.objects.packing() as packer:
        packer.add([(store.objects.put(data), data) for data in (b"a" * 300, b"b" * 300)])
    push(store, remote)
    assert keys(remote) == named


def test_of_an_index_only_what_is_in_use_is_copied_and_once(
    home: Home, store: Store, remote: Store, tmp_path: Path
) -> None:
    """Half of the packs of one index are garbage: the copy's index does not know them."""
    other = home_of(tmp_path / "other")
    plain(other, "all", range(40))
    plain(other, "some", range(4))
    plain(other, "others", range(20, 24))
    theirs = other.store()
    take_in(other, theirs, "all")
    ingest(other, theirs, "some")
    ingest(other, theirs, "others")
    plan = plan_transfer(theirs, remote)
    transfer(theirs, remote, plan)
    held = remote.objects.packs.by_pack()
    assert all(remote.backend.exists(object_key(pack)) for pack in held)
    assert held.keys() < theirs.objects.packs.by_pack().keys()
    assert not verify(remote).damages
    before = keys(remote, "indexes")
    plain(other, "again", range(4))
    ingest(other, theirs, "again")
    transfer(theirs, remote, plan_transfer(theirs, remote))
    assert "batches/again" in contents(remote)
    assert keys(remote, "indexes") == before


class Limited:
    """A backend's way to create that fails after some objects."""

    def __init__(self, create: Callable[[str, bytes], bool], count: int) -> None:
        self.create, self.left = create, count

    def __call__(self, key: str, data: bytes) -> bool:
        if self.left == 0:
            raise OSError("the line is down")
        self.left -= 1
        return self.create(key, data)


def test_what_was_interrupted_goes_on_where_it_was(
    store: Store, remote: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = len(plan_transfer(store, remote).entries)
    names = len(list(store.refs.names()))
    for count in range(total + names):
        with monkeypatch.context() as patch:
            # Each time one step further: what came before is there.
            left = 1 if count else 0
            patch.setattr(remote.backend, "create", Limited(remote.backend.create, left))
            with pytest.raises(OSError, match="line is down"):
                transfer(store, remote, plan_transfer(store, remote))
        fresh = open_store(str(remote.backend))
        assert len(keys(fresh)) == min(count, total)
        assert len(list(fresh.refs.names())) == max(0, count - total)
        assert not verify(fresh).damages
    transfer(store, remote, plan_transfer(store, remote))
    assert keys(remote) == keys(store)
    assert contents(remote) == contents(store)


def publish(store: Store, name: str, text: bytes) -> None:
    store.publish(name, Record(asset="x", content=store.objects.put(text)))


def test_a_name_that_moved_on_here_moves_there(store: Store, remote: Store) -> None:
    publish(store, "experiments/x", b"one")
    push(store, remote)
    publish(store, "experiments/x", b"two")
    publish(store, "experiments/x", b"three")
    push(store, remote)
    assert remote.refs.get("experiments/x") == store.refs.get("experiments/x")
    assert not verify(remote).damages


def test_a_name_that_moved_on_there_stays_there(store: Store, remote: Store) -> None:
    publish(store, "experiments/x", b"one")
    push(store, remote)
    publish(remote, "experiments/x", b"two")
    ahead = remote.refs.get("experiments/x")
    plan = plan_transfer(store, remote)
    assert (plan.names, plan.conflicts) == ({}, {})
    push(store, remote)
    assert remote.refs.get("experiments/x") == ahead
    push(remote, store)
    assert store.refs.get("experiments/x") == ahead


def test_names_that_parted_are_left_alone_and_told(store: Store, remote: Store) -> None:
    publish(store, "experiments/x", b"one")
    push(store, remote)
    publish(store, "experiments/x", b"ours")
    publish(remote, "experiments/x", b"theirs")
    publish(store, "experiments/y", b"new")
    before = remote.refs.get("experiments/x")
    plan = plan_transfer(store, remote)
    assert set(plan.names) == {"experiments/y"}
    [(name, why)] = plan.conflicts.items()
    assert name == "experiments/x"
    for one in (store, remote):
        assert f"{one.content('experiments/x')}"[:12] in why
        assert str(one.backend) in why
    push(store, remote)
    assert remote.refs.get("experiments/x") == before
    assert remote.content("experiments/y") == store.content("experiments/y")


def test_the_same_content_recorded_twice_is_no_conflict(store: Store, remote: Store) -> None:
    publish(store, "experiments/x", b"same")
    publish(remote, "experiments/x", b"same")
    assert plan_transfer(store, remote).conflicts == {}
    before = remote.refs.get("experiments/x")
    push(store, remote)
    assert remote.refs.get("experiments/x") == before


def test_two_homes_that_cut_the_same_number_otherwise_are_told(
    home: Home, store: Store, remote: Store, tmp_path: Path
) -> None:
    push(store, remote)
    other = home_of(tmp_path / "other")
    plain(other, "two", range(30, 34))
    theirs = other.store()
    ingest(other, theirs, "two")
    cut(other, theirs)
    plan = plan_transfer(theirs, remote)
    assert set(plan.names) == {"batches/two"}
    assert set(plan.conflicts) == {"datasets/DS-1.0.0"}
    assert contents(remote)["datasets/DS-1.0.0"] == contents(store)["datasets/DS-1.0.0"]


def test_a_name_that_someone_sets_meanwhile_is_not_overwritten(store: Store, remote: Store) -> None:
    publish(store, "experiments/x", b"ours")
    plan = plan_transfer(store, remote)
    publish(remote, "experiments/x", b"theirs")
    theirs = remote.refs.get("experiments/x")
    with pytest.raises(RefConflict):
        transfer(store, remote, plan)
    assert remote.refs.get("experiments/x") == theirs


def _pack(store: Store) -> str:
    return object_key(min(store.objects.packs.by_pack()))


def _header(store: Store) -> str:
    return object_key(contents(store)["batches/one"] or "")


def _pointer(store: Store) -> str:
    header = store.objects.get_json(contents(store)["batches/one"] or "")
    return table_key(header["rows"])


def _file(store: Store) -> str:
    return object_key(store.backend.read(_pointer(store)).decode())


@pytest.mark.parametrize("at", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("place", [_pack, _header, _pointer, _file])
def test_what_is_damaged_is_not_passed_on(
    home: Home, store: Store, remote: Store, place: Callable[[Store], str], at: int
) -> None:
    key = place(store)
    damage(home.root / "store" / key, at)
    fresh = home.store()
    with pytest.raises((MissingInSource, Corrupted), match=key):
        transfer(fresh, remote, plan_transfer(fresh, remote))
    assert not remote.backend.exists(key)
    assert list(remote.refs.names()) == []


@pytest.mark.parametrize("place", [_pack, _header, _pointer, _file])
def test_what_is_lost_is_told_before_anything_is_copied(
    home: Home, store: Store, remote: Store, place: Callable[[Store], str]
) -> None:
    (home.root / "store" / place(store)).unlink()
    with pytest.raises(MissingInSource, match="nothing was copied; run defect-assets verify"):
        plan_transfer(home.store(), remote)
    assert keys(remote) == set()


def test_what_is_damaged_there_does_not_hide_behind_a_copy(
    home: Home, store: Store, remote: Store
) -> None:
    """What is there is not looked at, nor replaced: to find that is verify's affair."""
    push(store, remote)
    key = _pack(store)
    damage(Path(str(remote.backend)) / key)
    assert push(store, remote) == set()
    assert [damage.key for damage in verify(remote).damages] == [key]


def test_the_commands_push_pull_and_clone(
    home: Home, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFECT_HOME", str(home.root))
    runner, place = CliRunner(), str(tmp_path / "there")
    result = runner.invoke(app, ["pull", place])
    assert result.exit_code == 1
    assert "there is no store in" in result.output
    assert runner.invoke(app, ["push", place]).exit_code == 0
    assert "nothing to copy" in runner.invoke(app, ["push", place]).output

    folder = tmp_path / "clone"
    assert runner.invoke(app, ["clone", place, str(folder)]).exit_code == 0
    clone = Home(folder)
    assert clone.description() == DESCRIPTION
    assert contents(clone.store()) == contents(store)

    plain(home, "two", range(20, 24))
    ingest(home, store, "two")
    cut(home, store)
    assert runner.invoke(app, ["push", place]).exit_code == 0
    monkeypatch.setenv("DEFECT_HOME", str(folder))
    assert runner.invoke(app, ["pull", place]).exit_code == 0
    assert contents(clone.store()) == contents(store)
    assert not verify(clone.store()).damages

    publish(clone.store(), "x", b"theirs")
    publish(open_store(place), "x", b"ours")
    result = runner.invoke(app, ["pull", place])
    assert result.exit_code == 1
    assert "1 names stand for something else there" in result.output
