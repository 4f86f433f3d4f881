"""A released model on newer data: only parts that it never saw count."""

from pathlib import Path

import pyarrow as pa
import pytest

from defect_assets.dataset.split import read_split
from defect_assets.registry.reevaluation import NothingToTest, reevaluate
from defect_assets.registry.release.releases import Release
from defect_assets.store import Digest, Store
from tests.experiments import Made, publish_experiment
from tests.registry.releasing import publish_release


@pytest.fixture
def release(store: Store, dataset: str, project: Path) -> Release:
    publish_experiment(store, Made(dataset=dataset))
    return publish_release(store, project)


def divided_again(store: Store, into_test: set[str]) -> tuple[Digest, int]:
    """Put some physical parts into the test of DS-1.0.0; return the split, and how many images."""
    split = read_split(store, store.content("splits/DS-1.0.0") or "")
    rows = store.objects.get_table(split.rows).to_pylist()
    moved = [row for row in rows if row["group"] in into_test and row["part"] != "test"]
    for row in moved:
        row["part"] = "test"
    tested = dict(split.counts)
    tested["test"] = {"all": sum(split.counts["test"].values()) + len(moved)}
    table = pa.Table.from_pylist(rows, schema=store.objects.get_table(split.rows).schema)
    changed = split.model_copy(update={"rows": store.objects.put_table(table), "counts": tested})
    return store.objects.put_json(changed.model_dump(mode="json")), len(moved)


def learned_from(store: Store) -> list[str]:
    split = read_split(store, store.content("splits/DS-1.0.0") or "")
    rows = store.objects.get_table(split.rows).to_pylist()
    return sorted({row["group"] for row in rows if row["part"] == "train"})


def test_its_own_test_is_all_new_to_it(store: Store, release: Release) -> None:
    split = store.content("splits/DS-1.0.0") or ""
    found = reevaluate(store, release, split)
    assert found.left_out == 0
    assert found.test.images == sum(read_split(store, split).counts["test"].values())


def test_parts_that_it_learned_from_do_not_count(store: Store, release: Release) -> None:
    own = reevaluate(store, release, store.content("splits/DS-1.0.0") or "")
    split, moved = divided_again(store, set(learned_from(store)[:3]))
    found = reevaluate(store, release, split)
    assert found.left_out == moved > 0
    assert found.test == own.test


def test_where_it_saw_everything_there_is_nothing_to_test(store: Store, release: Release) -> None:
    split = read_split(store, store.content("splits/DS-1.0.0") or "")
    rows = store.objects.get_table(split.rows).to_pylist()
    for row in rows:
        row["part"] = {"train": "test", "test": "train"}.get(row["part"], row["part"])
    table = pa.Table.from_pylist(rows, schema=store.objects.get_table(split.rows).schema)
    changed = split.model_copy(update={"rows": store.objects.put_table(table)})
    swapped = store.objects.put_json(changed.model_dump(mode="json"))
    with pytest.raises(NothingToTest, match=r"v0\.1\.0 learned from all"):
        reevaluate(store, release, swapped)
