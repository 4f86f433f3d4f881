"""Bit rot and loss: found wherever they are, told in words of samples and versions, and mended."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from defect_assets.cli import app
from defect_assets.dataset.images import read_images
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import find_snapshot, latest_version
from defect_assets.home import Home
from defect_assets.store import Corrupted, Record, Store, open_store, packs, tables
from defect_assets.store.columns import column
from defect_assets.store.digest import object_digest, object_key
from defect_assets.store.inventory import Inventory
from defect_assets.store.packs import read_index
from defect_assets.store.transfer import plan_transfer, transfer
from defect_assets.store.verify import Damage, repair, verify
from tests.small import DESCRIPTION, cut, deliver, home_of, ingest, mask, plain

KINDS = ("pack", "table's file", "value", "table", "index", "name")


def fill(home: Home, pack_bytes: int) -> None:
    """Three deliveries and two versions; the second corrects, removes and adds."""
    before, packs.PACK_BYTES = packs.PACK_BYTES, pack_bytes
    try:
        store = home.store()
        plain(home, "one", range(12))
        ingest(home, store, "one")
        cut(home, store)
        deliver(home, "two", {}, {"s003": mask(1, 103)}, remove=["s004"])
        plain(home, "three", range(12, 18))
        for name in ("two", "three"):
            ingest(home, store, name)
        cut(home, store)
        assert str(latest_version(store)) == "DS-2.0.0"
    finally:
        packs.PACK_BYTES = before


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = home_of(tmp_path_factory.mktemp("rot") / "home")
    fill(home, 500)
    return home


@pytest.fixture(scope="module")
def copy(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """What was pushed elsewhere: the same packs."""
    copy = open_store(str(tmp_path_factory.mktemp("copy")))
    transfer(home.store(), copy, plan_transfer(home.store(), copy))
    return copy


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """What was taken in elsewhere from the same deliveries: other packs, the same content."""
    home = home_of(tmp_path_factory.mktemp("twin") / "home")
    fill(home, 900)
    return home.store()


def files_by_kind(home: Home) -> dict[str, list[str]]:
    store = home.store()
    packed = {object_key(pack) for pack in store.objects.packs.by_pack()}
    pointers = [entry.key for entry in store.backend.entries("tables")]
    table_files = {object_key(store.backend.read(key).decode()) for key in pointers}
    objects = [entry.key for entry in store.backend.entries("objects")]
    return {
        "pack": [key for key in objects if key in packed],
        "table's file": [key for key in objects if key in table_files],
        "value": [key for key in objects if key not in packed | table_files],
        "table": pointers,
        "index": [entry.key for entry in store.backend.entries("indexes")],
        "name": [entry.key for entry in store.backend.entries("refs")],
    }


def spare_index(home: Home) -> str:
    """Return the index of the delivery with one mask: its pack is that mask, and found without."""
    store = home.store()
    [spare] = [
        entry.key
        for entry in store.backend.entries("indexes")
        if len(read_index(store.backend, entry.key)) == 1
    ]
    return spare


class Hurt:
    """One file of a store, flipped or gone for as long as one is in here."""

    def __init__(self, home: Home, key: str, change: Callable[[bytes], bytes | None]) -> None:
        self.home, self.key, self.change = home, key, change
        self.path = home.root / "store" / key

    def __enter__(self) -> Store:
        self.root = self.home.root / "store"
        self.before = {p: p.read_bytes() for p in self.root.rglob("*") if p.is_file()}
        data = self.change(self.before[self.path])
        self.path.unlink()
        if data is not None:
            self.path.write_bytes(data)
        return self.home.store()

    def __exit__(self, *_: object) -> None:
        """Put things back, whatever was mended meanwhile."""
        for path in [p for p in self.root.rglob("*") if p.is_file()]:
            if path not in self.before:
                path.unlink()
        for path, data in self.before.items():
            if not path.exists() or path.read_bytes() != data:
                path.unlink(missing_ok=True)
                path.write_bytes(data)


def flip(position: float, bit: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        at = int(position * len(data))
        return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]

    return change


def gone(_: bytes) -> None:
    return None


def touched(store: Store, home: Home, member: str) -> tuple[set[str], set[str]]:
    """Return the samples whose image or mask this is, and the names that lead to them."""
    sound = home.store()
    samples, names = set(), set()
    for name in sound.refs.names():
        reached = Inventory(sound).reached([name])
        for key in reached.keys:
            if not key.startswith("tables/"):
                continue
            table = sound.objects.get_table(key.removeprefix("tables/").replace("/", ""))
            if "image" not in table.column_names:
                continue
            for row in table.to_pylist():
                if member in (row["image"], row["mask"]):
                    samples.add(row["sample"])
                    names.add(name)
    return samples, names


def unreadable(store: Store, dataset: str) -> dict[str, str]:
    """Return the samples of a version that cannot be read, with what is said of them."""
    _, snapshot = find_snapshot(store, dataset)
    samples = samples_of(store, snapshot.batches)
    failed = {}
    for sample in samples["sample"].to_pylist():
        one = samples_of(store, snapshot.batches, only=column([sample], pa.string()))
        try:
            [_] = read_images(store, one, DESCRIPTION)
        except Corrupted as error:
            failed[sample] = str(error)
    return failed


def one_damage(found: tuple[Damage, ...]) -> Damage:
    assert len(found) == 1, "\n".join(map(str, found))
    return found[0]


cases = given(
    number=st.integers(0, 1000),
    position=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
some = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_all_is_sound_at_first(home: Home, copy: Store, twin: Store) -> None:
    found = verify(home.store())
    kinds = files_by_kind(home)
    assert found.damages == ()
    assert found.keys == sum(map(len, kinds.values()))
    assert all(len(keys) > 2 for keys in kinds.values())
    assert not verify(copy).damages
    assert not verify(twin).damages
    theirs = twin.objects.packs.by_pack()
    assert {digest for held in theirs.values() for digest, _ in held} == {
        digest for held in home.store().objects.packs.by_pack().values() for digest, _ in held
    }
    # All but those of a single object, whose digest is also the pack's.
    same = theirs.keys() & home.store().objects.packs.by_pack().keys()
    assert all(len(theirs[pack]) == 1 for pack in same)
    assert len(same) < len(theirs) / 2


@pytest.mark.parametrize("kind", KINDS)
@some
@cases
def test_a_flipped_bit_is_found_told_and_mended(
    home: Home, copy: Store, kind: str, number: int, position: float, bit: int
) -> None:
    keys = files_by_kind(home)[kind]
    key = keys[number % len(keys)]
    with Hurt(home, key, flip(position, bit)) as store:
        damage = one_damage(verify(store).damages)
        assert damage.key == key
        assert damage.names or kind == "index"
        assert repair(store, copy, damage)
        assert verify(home.store()).damages == ()
        assert (home.root / "store" / key).read_bytes() == copy.backend.read(key)


@pytest.mark.parametrize("kind", ["pack", "table's file", "table", "index"])
@some
@cases
def test_a_store_that_was_packed_otherwise_mends_it_too(
    home: Home, twin: Store, kind: str, number: int, position: float, bit: int
) -> None:
    keys = files_by_kind(home)[kind]
    key = keys[number % len(keys)]
    with Hurt(home, key, flip(position, bit)) as store:
        assert repair(store, twin, one_damage(verify(store).damages))
        fresh = home.store()
        assert verify(fresh).damages == ()
        assert not unreadable(fresh, "DS-1.0.0") | unreadable(fresh, "DS-2.0.0")


@pytest.mark.parametrize("kind", ["pack", "table's file", "value", "index", "table"])
def test_every_file_that_is_lost_is_missed_and_fetched(home: Home, copy: Store, kind: str) -> None:
    spare = spare_index(home)
    for key in files_by_kind(home)[kind]:
        with Hurt(home, key, gone) as store:
            found = verify(store).damages
            assert bool(found) == (key != spare)
            if kind == "pack":
                assert one_damage(found).key == key
            for damage in found:
                assert damage.names
                assert repair(store, copy, damage), damage
            fresh = home.store()
            assert verify(fresh).damages == (), key
            assert not unreadable(fresh, "DS-1.0.0") | unreadable(fresh, "DS-2.0.0")


@pytest.mark.parametrize("kind", ["pack", "index"])
def test_what_is_lost_is_fetched_from_a_store_that_was_packed_otherwise(
    home: Home, twin: Store, kind: str
) -> None:
    for key in files_by_kind(home)[kind]:
        with Hurt(home, key, gone) as store:
            for damage in verify(store).damages:
                assert repair(store, twin, damage)
            fresh = home.store()
            assert verify(fresh).damages == ()
            assert not unreadable(fresh, "DS-1.0.0") | unreadable(fresh, "DS-2.0.0")


@some
@cases
def test_of_a_pack_the_touched_sample_and_its_versions_are_named(
    home: Home, number: int, position: float, bit: int
) -> None:
    keys = files_by_kind(home)["pack"]
    key = keys[number % len(keys)]
    with Hurt(home, key, flip(position, bit)) as store:
        damage = one_damage(verify(store).damages)
        assert "1 of its" in damage.reason
        [member] = damage.members
        with Hurt(home, key, lambda data: flip(position, bit)(data)):  # as it was
            samples, names = touched(store, home, member)
        assert set(damage.rows) == samples != set()
        assert set(damage.names) == names
        for dataset in ("DS-1.0.0", "DS-2.0.0"):
            failed = unreadable(home.store(), dataset)
            assert failed.keys() <= samples
            assert bool(failed) <= (f"datasets/{dataset}" in names)
            for sample, said in failed.items():
                assert f" of {sample}, " in said
                assert object_key(object_digest(key)) in said


def test_a_damaged_index_names_what_cannot_be_found_by_it(home: Home) -> None:
    rows: set[str] = set()
    spare = spare_index(home)
    for key in files_by_kind(home)["index"]:
        with Hurt(home, key, flip(0.5, 1)) as store:
            damage = one_damage(verify(store).damages)
            if key == spare:
                assert not damage.rows
                continue
            assert "datasets/DS-2.0.0" in damage.names
            assert set(damage.rows) == unreadable(home.store(), "DS-2.0.0").keys() | (
                set(damage.rows) & {"s003", "s004"}  # as they were before the correction
            )
            rows |= set(damage.rows)
    assert rows == {f"s{number:03}" for number in range(18)}


def test_samples_of_a_lost_pack_are_named_by_who_reads_them(home: Home) -> None:
    for key in files_by_kind(home)["pack"]:
        with Hurt(home, key, gone) as store:
            rows = set(one_damage(verify(store).damages).rows)
            for sample, said in unreadable(home.store(), "DS-2.0.0").items():
                assert sample in rows
                assert f" of {sample}, {key}, is gone" in said


def test_a_table_is_mended_by_one_that_was_written_otherwise(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of the library that writes the files gives them other bytes."""
    write = tables.pq.write_table
    other = home_of(tmp_path / "other")
    with monkeypatch.context() as patch:
        patch.setattr(
            tables.pq,
            "write_table",
            lambda table, to, **options: write(table, to, **options | {"compression": "snappy"}),
        )
        fill(other, 500)
    source = other.store()
    for key in files_by_kind(home)["table's file"]:
        assert object_digest(key) not in source.objects
        with Hurt(home, key, flip(0.3, 2)) as store:
            assert repair(store, source, one_damage(verify(store).damages))
            fresh = home.store()
            assert verify(fresh).damages == ()
            assert find_snapshot(fresh, "DS-2.0.0") == find_snapshot(source, "DS-2.0.0")
            assert not unreadable(fresh, "DS-2.0.0")


@pytest.mark.parametrize("change", [lambda data: data + b"!", lambda data: data[:-40]])
def test_a_pack_of_another_length_is_mended(
    home: Home, twin: Store, change: Callable[[bytes], bytes]
) -> None:
    for key in files_by_kind(home)["pack"]:
        with Hurt(home, key, change) as store:
            assert repair(store, twin, one_damage(verify(store).damages))
            assert verify(home.store()).damages == ()


def test_what_nobody_has_is_not_mended(home: Home, tmp_path: Path) -> None:
    empty = open_store(str(tmp_path / "empty"))
    for keys in files_by_kind(home).values():
        with Hurt(home, keys[0], flip(0.5, 0)) as store:
            damage = one_damage(verify(store).damages)
            assert not repair(store, empty, damage)
            assert one_damage(verify(home.store()).damages) == damage


def test_a_damaged_source_mends_nothing(home: Home, copy: Store) -> None:
    for kind, keys in files_by_kind(home).items():
        key = keys[0]
        theirs = Path(str(copy.backend)) / key
        sound = theirs.read_bytes()
        theirs.chmod(0o644)
        theirs.write_bytes(flip(0.5, 0)(sound))
        with Hurt(home, key, flip(0.5, 0)) as store:
            assert not repair(store, open_store(str(copy.backend)), verify(store).damages[0]), kind
            assert one_damage(verify(home.store()).damages).key == key
        theirs.write_bytes(sound)


def test_a_share_reads_only_some_and_all_shares_together_everything(home: Home) -> None:
    key = files_by_kind(home)["pack"][0]
    whole = verify(home.store())
    with Hurt(home, key, flip(0.5, 0)) as store:
        found = []
        for seed in range(12):
            part = verify(store, share=0.4, seed=seed)
            assert 0 < part.bytes < whole.bytes
            assert part == verify(store, share=0.4, seed=seed)
            found.append(bool(part.damages))
        assert {True, False} == set(found)
        assert verify(store, share=0).bytes == 0


def test_a_share_misses_nothing_that_is_lost(home: Home) -> None:
    for key in files_by_kind(home)["pack"]:
        with Hurt(home, key, gone) as store:
            assert one_damage(verify(store, share=0).damages).key == key


def test_progress_comes_to_the_end(home: Home) -> None:
    told: list[tuple[int, int]] = []
    found = verify(home.store(), progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (found.bytes, found.bytes)


def test_names_that_move_meanwhile_are_no_damage(home: Home) -> None:
    """Someone publishes while a large store is looked through."""
    store = home.store()
    name = "experiments/x"
    store.publish(name, _record(store, b"before"))

    def publish(done: int, total: int) -> None:
        other = home.store()
        other.publish(name, _record(other, f"{done}".encode()))

    assert verify(store, progress=publish).damages == ()
    (home.root / "store" / "refs" / name).unlink()


def _record(store: Store, data: bytes) -> Record:
    return Record(asset="x", content=store.objects.put(data))


def test_the_command_tells_it_to_people_and_programs(
    home: Home, copy: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFECT_HOME", str(home.root))
    runner = CliRunner()
    sound = runner.invoke(app, ["verify"])
    assert sound.exit_code == 0
    assert "all is sound" in sound.output
    keys = files_by_kind(home)
    key = keys["pack"][0]
    with Hurt(home, key, flip(0.5, 0)) as store:
        [damage] = verify(store).damages
        result = runner.invoke(app, ["verify"])
        assert result.exit_code == 1
        assert f"damaged {key}: a pack, 1 of its" in result.output
        assert f"samples: {damage.rows[0]}" in result.output
        assert f"touches: {', '.join(damage.names)}" in result.output

        result = runner.invoke(app, ["verify", "--json"])
        assert result.exit_code == 1
        report = json.loads(result.stdout)
        assert [d["key"] for d in report["damages"]] == [key]
        assert report["damages"][0]["rows"] == list(damage.rows)
        assert report["damages"][0]["names"] == list(damage.names)
        assert not report["damages"][0]["repaired"]

        result = runner.invoke(app, ["verify", "--json", "--repair-from", str(copy.backend)])
        assert result.exit_code == 0
        assert json.loads(result.stdout)["damages"][0]["repaired"]
        assert runner.invoke(app, ["verify"]).exit_code == 0
    with Hurt(home, key, flip(0.5, 0)):
        nowhere = str(home.root / "nowhere")
        result = runner.invoke(app, ["verify", "--repair-from", nowhere])
        assert result.exit_code == 1
        assert f"there is no store in {nowhere}" in result.output.replace("\n", "")
