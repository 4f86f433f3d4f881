from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.dataset.description import DatasetDescription, SplitPolicy
from defect_assets.dataset.ingest import ingest
from defect_assets.dataset.samples import ROWS
from defect_assets.dataset.split import (
    PARTS,
    assign_groups,
    leaks,
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


def _samples(members: dict[str, list[str]]) -> pa.Table:
    rows = [
        (f"{group}-{i}", group, name)
        for group, names in members.items()
        for i, name in enumerate(names)
    ]
    columns = list(zip(*rows, strict=True)) or [()] * 3
    return pa.table(dict(zip(["sample", "group", "class"], columns, strict=True)))


@given(members=groups, seed=st.integers(0, 100))
def test_every_group_is_in_one_part(members: dict[str, list[str]], seed: int) -> None:
    samples = _samples(members)
    parts = assign_groups(samples, SplitPolicy(seed=seed), "Free")
    assert parts.keys() == members.keys()
    assert set(parts.values()) <= set(PARTS)


@given(members=groups, data=st.data())
def test_the_order_of_samples_makes_no_difference(
    members: dict[str, list[str]], data: st.DataObject
) -> None:
    samples = _samples(members)
    order = data.draw(st.permutations(range(len(samples))))
    policy = SplitPolicy()
    assert assign_groups(samples, policy, "Free") == assign_groups(
        samples.take(list(order)), policy, "Free"
    )


@given(before=groups, added=groups)
def test_what_was_in_a_part_stays_there_as_data_grows(
    before: dict[str, list[str]], added: dict[str, list[str]]
) -> None:
    policy = SplitPolicy()
    first = assign_groups(_samples(before), policy, "Free")
    both = {
        group: before.get(group, []) + added.get(group, [])
        for group in before.keys() | added.keys()
    }
    second = assign_groups(_samples(both), policy, "Free", first)
    assert {group: second[group] for group in first} == first


def test_the_ratios_are_kept_class_by_class() -> None:
    members = {f"{name}{i}": [name] * 3 for name in ("Free", "Crack") for i in range(50)}
    samples = _samples(members)
    parts = assign_groups(samples, SplitPolicy(train=0.6, val=0.2, test=0.2), "Free")
    table = samples.to_pandas().assign(part=lambda t: t["group"].map(parts))
    shares = table.groupby("class")["part"].value_counts(normalize=True)
    for name in ("Free", "Crack"):
        assert [shares[name, part] for part in PARTS] == pytest.approx([0.6, 0.2, 0.2])


@given(members=groups.filter(lambda members: len(members) >= 3))
def test_three_parts_suffice_for_train_val_and_test(members: dict[str, list[str]]) -> None:
    parts = assign_groups(_samples(members), SplitPolicy(), "Free")
    assert set(parts.values()) == set(PARTS)


def test_another_seed_gives_another_split() -> None:
    samples = _samples({f"g{i}": ["Free"] for i in range(40)})
    one, two = (assign_groups(samples, SplitPolicy(seed=seed), "Free") for seed in (0, 1))
    assert one != two


def test_a_torn_group_and_a_torn_image_are_found(
    store: Store, delivery: Path, description: DatasetDescription
) -> None:
    take_in(store, delivery, description)
    snapshot = cut_next(store, description)
    split = split_snapshot(store, store.content(f"datasets/{snapshot.id}") or "")
    assert leaks(store, split) == []

    rows = store.objects.get_table(split.rows).to_pandas()
    rows.loc[rows["sample"] == "tile-0003-exp2", "part"] = "moved"
    moved = store.objects.put_table(pa.Table.from_pandas(rows))
    torn = split.model_copy(update={"rows": moved})
    assert leaks(store, torn) == ["tile-0003"]


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
    snapshot = cut_next(store, description)
    split = split_snapshot(store, store.content(f"datasets/{snapshot.id}") or "")
    assert "copy-0" in leaks(store, split)


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
    second = cut_next(store, other)
    split = split_snapshot(store, store.content(f"datasets/{second.id}") or "")
    table = store.objects.get_table(split.rows)
    assert assign_groups(table, other.split, "Free") == dict(
        zip(table["group"].to_pylist(), table["part"].to_pylist(), strict=True)
    )
