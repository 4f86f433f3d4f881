"""Which physical part a sample is of: what deliveries say, and what their names say."""

from pathlib import Path

import pytest
import yaml

from defect_assets.dataset.delivery import DeliveryRefused
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.split import divisions, split_snapshot
from defect_assets.home import Home
from defect_assets.store import Store
from defect_assets.store.verify import verify
from tests import small
from tests.small import picture


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return small.home_of(tmp_path / "home")


@pytest.fixture
def store(home: Home) -> Store:
    return home.store()


def _deliver(home: Home, store: Store, name: str, names: list[str], **tables: str) -> None:
    """Deliver defect-free images; a table's name is that of its file without the suffix."""
    first = sum(len(list((d / "images").iterdir())) for d in home.inbox.iterdir())
    images = {sample: picture(first + n) for n, sample in enumerate(names)}
    small.deliver(home, name, images, {})
    for table, text in tables.items():
        suffix = "yaml" if table == "batch" else "csv"
        (home.inbox / name / f"{table}.{suffix}").write_text(text)
    small.ingest(home, store, name)


def _groups(home: Home, store: Store) -> dict[str, str]:
    snapshot = small.cut(home, store)
    assert snapshot is not None
    samples = samples_of(store, snapshot.batches, ("sample", "group"))
    return dict(zip(*(column.to_pylist() for column in samples.columns), strict=True))


@pytest.mark.parametrize(
    "table", ["sample,group\na,p1\nb,p1\n", "stem,cls,group\na,Free,p1\nb,Free,p1\nlater,x,p2\n"]
)
def test_a_table_of_groups_says_the_part(home: Home, store: Store, table: str) -> None:
    _deliver(home, store, "first", ["a", "b"], groups=table)
    assert _groups(home, store) == {"a": "p1", "b": "p1"}


def test_an_image_that_the_table_forgets_is_refused(home: Home, store: Store) -> None:
    with pytest.raises(DeliveryRefused, match=r"images/b\.png: groups\.csv says no part of it"):
        _deliver(home, store, "first", ["a", "b"], groups="sample,group\na,p1\nbb,p1\n")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("sample,groups\na,p1\n", "no columns 'sample' and 'group'"),
        ("sample,group\na,p1\na,p2\n", "a stands in it more than once"),
        ("sample,group\na\n", "line 2 has 1 cells, not 2"),
        ("", "it is empty"),
    ],
)
def test_what_is_wrong_with_the_table_is_named(
    home: Home, store: Store, table: str, says: str
) -> None:
    with pytest.raises(DeliveryRefused, match=says):
        _deliver(home, store, "first", ["a"], groups=table)


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        (
            {"samples": "sample,group\na,p1\n", "groups": "sample,group\na,p2\n"},
            r"groups\.csv: a is of part p2 by it, of part p1 by samples\.csv",
        ),
        (
            {"groups": "sample,group\na,p1\n", "batch": "groups: {a: p2}"},
            r"batch\.yaml: a is of part p2 by it, of part p1 by groups\.csv",
        ),
        (
            {"samples": "sample,group\na,p1\n", "batch": "groups: {a: p2}"},
            r"batch\.yaml: a is of part p2 by it, of part p1 by samples\.csv",
        ),
    ],
)
def test_tables_that_contradict_each_other_are_refused(
    home: Home, store: Store, tables: dict[str, str], says: str
) -> None:
    with pytest.raises(DeliveryRefused, match=says):
        _deliver(home, store, "first", ["a"], **tables)


def test_a_table_alone_regroups_known_samples_and_what_moves_is_listed(
    home: Home, store: Store
) -> None:
    names = [f"s{n}" for n in range(12)]
    _deliver(home, store, "first", names)
    first = small.cut(home, store)
    assert first is not None
    split = split_snapshot(store, store.content("datasets/DS-1.0.0") or "")
    before = {r["sample"]: r for r in store.objects.get_table(split.rows).to_pylist()}
    tested = next(s for s in names if before[s]["part"] == "test")
    trained = [s for s in names if before[s]["part"] == "train"][:2]
    table = "".join(f"{sample},p\n" for sample in [tested, *trained])
    _deliver(home, store, "fix", [], groups="sample,group\n" + table)
    second = small.cut(home, store)
    assert second is not None
    assert second.id == "DS-2.0.0"
    assert second.changelog.regrouped == {"Free": 3}
    assert not second.changelog.relabelled
    assert "3 samples regrouped (Free 3)" in str(second.changelog)

    later = split_snapshot(store, store.content("datasets/DS-2.0.0") or "")
    assert later.moved is not None
    moved = {row["sample"]: row for row in store.objects.get_table(later.moved).to_pylist()}
    assert (moved[tested]["part_before"], moved[tested]["part"]) == ("test", "train")
    after = {r["sample"]: r for r in store.objects.get_table(later.rows).to_pylist()}
    places = divisions(store.objects.get_table(later.rows))
    assert moved.keys() == {
        s for s in names if any(before[s][name] != after[s][name] for name in places)
    }
    assert moved.keys() <= {tested, *trained}
    # A header's digests are references: nothing dangles.
    store.objects.put_json(later.model_dump(mode="json"))
    assert verify(store).damages == ()


def test_a_table_alone_may_name_known_samples_only(home: Home, store: Store) -> None:
    _deliver(home, store, "first", ["a"])
    with pytest.raises(DeliveryRefused, match=r"groups\.csv: there is no sample b"):
        _deliver(home, store, "fix", [], groups="sample,group\na,p\nb,p\n")


def _rule(home: Home, rules: dict) -> None:
    described = yaml.safe_load(home.dataset.read_text()) | {"groups": rules}
    home.dataset.write_text(yaml.safe_dump(described))


CAPTURES = {"capture_sequence": {"pattern": r"num_(?P<capture>\d+)", "gap": 300}}


def test_a_pattern_finds_the_part_in_the_name(home: Home, store: Store) -> None:
    _rule(home, {"pattern": r"^(?P<group>part-\d+)-"})
    _deliver(home, store, "first", ["part-1-left", "part-1-right", "part-2-left"])
    assert list(_groups(home, store).values()) == ["part-1", "part-1", "part-2"]


def test_what_the_delivery_says_comes_before_the_rule(home: Home, store: Store) -> None:
    _rule(home, {"pattern": r"^(?P<group>part-\d+)-"})
    _deliver(home, store, "first", ["part-1-a", "x"], batch="groups: {part-1-a: p, x: p}")
    assert _groups(home, store) == {"part-1-a": "p", "x": "p"}


def test_a_name_that_does_not_fit_the_rule_is_refused(home: Home, store: Store) -> None:
    _rule(home, {"pattern": r"^(?P<group>part-\d+)-"})
    with pytest.raises(DeliveryRefused, match=r"images/prt-1-a\.png: its name does not fit"):
        _deliver(home, store, "first", ["part-1-b", "prt-1-a"])


def test_a_capture_sequence_is_cut_at_its_gaps_and_goes_on_in_the_next_delivery(
    home: Home, store: Store
) -> None:
    _rule(home, CAPTURES)
    _deliver(home, store, "first", ["exp1_num_1000", "exp2_num_1300", "exp1_num_1601"])
    _deliver(home, store, "second", ["exp2_num_1620", "exp1_num_9", "exp3_num_700"])
    assert _groups(home, store) == {
        "exp1_num_1000": "part-1000",
        "exp2_num_1300": "part-1000",
        "exp3_num_700": "part-1000",
        "exp1_num_1601": "part-1601",
        "exp2_num_1620": "part-1601",
        "exp1_num_9": "part-9",
    }


def test_a_known_sample_keeps_its_part_whatever_the_rule(home: Home, store: Store) -> None:
    _deliver(home, store, "first", ["part-1-a"])
    _rule(home, {"pattern": r"^(?P<group>part-\d+)-"})
    folder = home.inbox / "again" / "images"
    folder.mkdir(parents=True)
    (folder / "part-1-a.png").write_bytes(picture(0))
    (folder / "part-2-a.png").write_bytes(picture(9))
    (folder.parent / "_COMPLETE").touch()
    small.ingest(home, store, "again")
    assert _groups(home, store) == {"part-1-a": "part-1-a", "part-2-a": "part-2"}
