from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.dataset.description import DatasetDescription, SplitPolicy
from defect_assets.dataset.ingest import ingest
from defect_assets.dataset.leaks import leaks
from defect_assets.dataset.samples import ROWS
from defect_assets.dataset.split import (
    PARTS,
    Split,
    UnknownFold,
    divide,
    divisions,
    moves,
    read_part,
    split_snapshot,
)
from defect_assets.store import Record, Store
from tests.conftest import deliver
from tests.dataset.test_snapshot import cut_next, take_in

classes = st.sampled_from(["Free", "Crack", "Fray"])
groups = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=4),
    st.lists(classes, min_size=1, max_size=4),
    min_size=1,
    max_size=30,
)
policies = st.builds(SplitPolicy, seed=st.integers(0, 100), folds=st.sampled_from([0, 2, 3, 5]))


def _samples(members: dict[str, list[str]]) -> pa.Table:
    rows = [
        (f"{group}-{i}", group, name)
        for group, names in members.items()
        for i, name in enumerate(names)
    ]
    columns = list(zip(*rows, strict=True)) or [()] * 3
    return pa.table(dict(zip(["sample", "group", "class"], columns, strict=True)))


def _where(rows: pa.Table) -> dict[str, tuple[str, ...]]:
    """Return the part of each sample in each division."""
    names = ["sample", *divisions(rows)]
    return {row["sample"]: tuple(row[n] for n in names[1:]) for row in rows.to_pylist()}


def _split(store: Store, description: DatasetDescription) -> Split:
    snapshot = cut_next(store, description)
    return split_snapshot(store, store.content(f"datasets/{snapshot.id}") or "")


@given(members=groups, policy=policies)
def test_every_group_is_in_one_part_of_each_division(
    members: dict[str, list[str]], policy: SplitPolicy
) -> None:
    rows = divide(_samples(members), policy, "Free")
    assert divisions(rows) == ["part", *(f"fold-{k + 1}" for k in range(policy.folds))]
    places: dict[str, set[tuple[str, ...]]] = {}
    where = _where(rows)
    for row in rows.to_pylist():
        places.setdefault(row["group"], set()).add(where[row["sample"]])
    assert places.keys() == members.keys()
    assert all(len(parts) == 1 for parts in places.values())
    assert {part for parts in where.values() for part in parts} <= set(PARTS)


@given(members=groups, policy=policies.filter(lambda policy: policy.folds))
def test_every_sample_is_tested_by_one_fold(
    members: dict[str, list[str]], policy: SplitPolicy
) -> None:
    rows = divide(_samples(members), policy, "Free")
    assert all(parts[1:].count("test") == 1 for parts in _where(rows).values())
    # As many folds have a test as there can be.
    tests = [set(rows[name].to_pylist()) for name in divisions(rows)[1:]]
    assert sum("test" in parts for parts in tests) == min(policy.folds, len(members))


@given(members=groups, policy=policies, data=st.data())
def test_the_order_of_samples_makes_no_difference(
    members: dict[str, list[str]], policy: SplitPolicy, data: st.DataObject
) -> None:
    samples = _samples(members)
    order = data.draw(st.permutations(range(len(samples))))
    one, other = (divide(s, policy, "Free") for s in (samples, samples.take(list(order))))
    assert _where(one) == _where(other)


@given(before=groups, added=groups, policy=policies)
def test_what_was_somewhere_stays_there_as_data_grows(
    before: dict[str, list[str]], added: dict[str, list[str]], policy: SplitPolicy
) -> None:
    first = divide(_samples(before), policy, "Free")
    both = {
        group: before.get(group, []) + added.get(group, [])
        for group in before.keys() | added.keys()
    }
    second = divide(_samples(both), policy, "Free", first)
    then, now = _where(first), _where(second)
    assert {sample: now[sample] for sample in then} == then
    assert len(moves(first, second)) == 0


@given(members=groups, policy=policies, data=st.data())
def test_only_what_its_group_demands_moves_and_it_is_listed(
    members: dict[str, list[str]], policy: SplitPolicy, data: st.DataObject
) -> None:
    samples = _samples(members)
    first = divide(samples, policy, "Free")
    names = sorted(members)
    renamed = data.draw(
        st.dictionaries(st.sampled_from(names), st.sampled_from([*names, "other"]), max_size=5)
    )
    group_of = [renamed.get(group, group) for group in samples["group"].to_pylist()]
    other = samples.set_column(1, "group", [group_of])
    second = divide(other, policy, "Free", first)
    then, now = _where(first), _where(second)
    listed = moves(first, second)
    assert set(listed["sample"].to_pylist()) == {s for s in then if then[s] != now[s]}
    for row in listed.to_pylist():
        was = tuple(row[f"{name}_before"] for name in divisions(second))
        assert (was, tuple(row[n] for n in divisions(second))) == (
            then[row["sample"]],
            now[row["sample"]],
        )
    places: dict[str, set[tuple[str, ...]]] = {}
    for sample, group in zip(samples["sample"].to_pylist(), group_of, strict=True):
        places.setdefault(group, set()).add(then[sample])
    torn = {group for group, parts in places.items() if len(parts) > 1}
    assert set(listed["group"].to_pylist()) <= torn


def test_a_group_goes_to_where_most_of_it_was() -> None:
    samples = _samples({"a": ["Free"] * 5, "b": ["Free"], "c": ["Free"] * 2, "d": ["Free"]})
    first = divide(samples, SplitPolicy(), "Free")
    merged = samples.set_column(1, "group", [["all"] * len(samples)])
    second = divide(merged, SplitPolicy(), "Free", first)
    assert set(_where(second).values()) == {_where(first)["a-0"]}


def test_the_ratios_are_kept_class_by_class() -> None:
    members = {f"{name}{i}": [name] * 3 for name in ("Free", "Crack") for i in range(50)}
    rows = divide(_samples(members), SplitPolicy(train=0.7, val=0.1, test=0.2), "Free").to_pandas()
    shares = rows.groupby("class")["part"].value_counts(normalize=True)
    folds = rows.groupby("class")["fold-2"].value_counts(normalize=True)
    for name in ("Free", "Crack"):
        assert [shares[name, part] for part in PARTS] == pytest.approx([0.7, 0.1, 0.2])
        assert [folds[name, part] for part in PARTS] == pytest.approx([0.7, 0.1, 0.2])


@given(
    sizes=st.dictionaries(
        st.sampled_from(["Crack", "Fray"]),
        st.lists(st.integers(1, 6), min_size=5, max_size=20),
        min_size=1,
    )
)
def test_defective_images_are_spread_evenly_over_the_folds(sizes: dict[str, list[int]]) -> None:
    members = {
        f"{name}{i}": [name] * size + ["Free"]
        for name, of_name in sizes.items()
        for i, size in enumerate(of_name)
    }
    rows = divide(_samples(members), SplitPolicy(), "Free").to_pandas()
    for name, of_name in sizes.items():
        tested = [
            int(((rows["class"] == name) & (rows[f"fold-{k}"] == "test")).sum())
            for k in range(1, 6)
        ]
        # Where each goes to the least, the most have one group more than the least.
        assert max(tested) - min(tested) <= max(of_name)


@given(members=groups.filter(lambda members: len(members) >= 3))
def test_three_parts_suffice_for_train_val_and_test(members: dict[str, list[str]]) -> None:
    rows = divide(_samples(members), SplitPolicy(), "Free")
    assert set(rows["part"].to_pylist()) == set(PARTS)


def test_another_seed_gives_another_split() -> None:
    samples = _samples({f"g{i}": ["Free"] for i in range(40)})
    one, two = (divide(samples, SplitPolicy(seed=seed), "Free") for seed in (0, 1))
    assert one["part"] != two["part"]
    assert one["fold-1"] != two["fold-1"]


def test_a_rare_class_trains_first() -> None:
    members = {f"f{i}": ["Free"] for i in range(9)} | {f"c{i}": ["Crack"] for i in range(9)}
    first = divide(_samples(members), SplitPolicy(), "Free")
    rows = divide(_samples(members | {"rare": ["Fray"]}), SplitPolicy(), "Free", first)
    assert _where(rows)["rare-0"][0] == "train"


def test_a_part_of_a_fold_is_read(
    store: Store, delivery: Path, description: DatasetDescription
) -> None:
    take_in(store, delivery, description)
    split = _split(store, description)
    assert len(split.folds) == 5
    tested = [image.sample for k in range(1, 6) for image in read_part(store, split, "test", k)]
    assert len(tested) == len(set(tested)) == 36
    for k, fold in enumerate(split.folds, start=1):
        for part in PARTS:
            images = list(read_part(store, split, part, k))
            assert len(images) == sum(fold.counts[part].values())
            assert len({image.group for image in images}) == fold.groups[part]
    for fold in (0, 6):
        with pytest.raises(UnknownFold, match=f"no fold {fold}, it has folds 1 to 5"):
            read_part(store, split, "test", fold)


@pytest.mark.parametrize("most", [0, 1, 2, 5, 100])
def test_some_images_of_each_class_are_read(
    store: Store, delivery: Path, description: DatasetDescription, most: int
) -> None:
    take_in(store, delivery, description)
    split = _split(store, description)
    every = [image.sample for image in read_part(store, split, "train")]
    some = [image.sample for image in read_part(store, split, "train", of_each_class=most)]
    assert some == [sample for sample in every if sample in some]
    assert len(some) == sum(min(most, count) for count in split.counts["train"].values())


def test_fewer_groups_than_folds_leave_folds_without_a_test(
    store: Store, inbox: Path, description: DatasetDescription
) -> None:
    take_in(store, deliver(inbox, "few", 1, 2), description)
    split = _split(store, description)
    assert [fold.groups["test"] for fold in split.folds] == [1, 1, 0, 0, 0]
    assert list(read_part(store, split, "test", 5)) == []


def test_a_split_without_folds_says_so(
    store: Store, delivery: Path, description: DatasetDescription
) -> None:
    take_in(store, delivery, description)
    policy = description.split.model_copy(update={"folds": 0})
    split = _split(store, description.model_copy(update={"split": policy}))
    assert split.folds == ()
    with pytest.raises(UnknownFold, match="it has no folds"):
        read_part(store, split, "test", 1)


def test_a_torn_group_and_a_torn_image_are_found(
    store: Store, delivery: Path, description: DatasetDescription
) -> None:
    take_in(store, delivery, description)
    split = _split(store, description)
    assert not leaks(store, split)

    rows = store.objects.get_table(split.rows).to_pandas()
    rows.loc[rows["sample"] == "tile-0003-exp2", "part"] = "moved"
    moved = store.objects.put_table(pa.Table.from_pandas(rows))
    torn = split.model_copy(update={"rows": moved})
    assert leaks(store, torn).groups == ["tile-0003"]


def test_the_same_image_under_two_names_is_a_leak(
    store: Store, delivery: Path, description: DatasetDescription
) -> None:
    """Ingest refuses it; should it get in all the same, the check says so."""
    batch = ingest(store, delivery, description)
    [first, *_] = rows = store.objects.get_table(batch.rows).to_pylist()
    rows += [first | {"sample": f"copy-{i}", "group": f"copy-{i}"} for i in range(10)]
    table = pa.Table.from_pylist(rows, schema=ROWS)
    content = store.objects.put_json(
        batch.model_dump(mode="json") | {"rows": store.objects.put_table(table)}
    )
    store.publish_once("batches/first", Record(asset="raw_images", content=content))
    split = _split(store, description)
    [torn] = leaks(store, split).images
    assert {"copy-0", first["sample"]} <= set(torn)


def test_a_snapshots_split_is_stable_and_repeatable(
    store: Store, delivery: Path, inbox: Path, description: DatasetDescription
) -> None:
    take_in(store, delivery, description)
    first = cut_next(store, description)
    digest = store.content(f"datasets/{first.id}")
    assert digest is not None
    split = split_snapshot(store, digest)
    assert split_snapshot(store, digest) == split
    assert sum(split.groups.values()) == 12
    assert all(split.groups[part] for part in PARTS)

    take_in(store, deliver(inbox, "second", 13, 12), description)
    second = cut_next(store, description)
    later = split_snapshot(store, store.content(f"datasets/{second.id}") or "")
    before = store.objects.get_table(split.rows).to_pandas().set_index("sample")["part"]
    after = store.objects.get_table(later.rows).to_pandas().set_index("sample")["part"]
    assert (after.loc[before.index] == before).all()
    assert len(after) == 2 * len(before)


def test_another_policy_divides_anew(
    store: Store, delivery: Path, description: DatasetDescription
) -> None:
    take_in(store, delivery, description)
    cut_next(store, description)
    other = description.model_copy(update={"split": SplitPolicy(seed=5)})
    split = _split(store, other)
    rows = store.objects.get_table(split.rows)
    assert _where(rows) == _where(divide(rows, other.split, "Free"))
    assert split.moved is None


def test_a_sample_that_comes_back_is_where_it_was(
    store: Store, delivery: Path, inbox: Path, description: DatasetDescription
) -> None:
    take_in(store, delivery, description)
    first = _where(store.objects.get_table(_split(store, description).rows))
    (inbox / "less").mkdir()
    (inbox / "less" / "batch.yaml").write_text(f"remove: {sorted(first)[:9]}")
    take_in(store, inbox / "less", description)
    assert len(_where(store.objects.get_table(_split(store, description).rows))) == 27
    take_in(store, deliver(inbox, "again", 1, 5), description)
    assert _where(store.objects.get_table(_split(store, description).rows)) == first
