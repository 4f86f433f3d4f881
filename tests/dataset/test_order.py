"""Batches keep the order in which they came, and what is old is not asked for again."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.dataset.changelog import Changelog
from defect_assets.dataset.cut import next_snapshot
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.ingest import ingest
from defect_assets.dataset.order import name_batch, ordered_batches
from defect_assets.dataset.snapshot import Snapshot
from defect_assets.home import known_description
from defect_assets.store import Record, Store, open_store
from defect_assets.store.cache import CachedBackend
from defect_assets.store.local import LocalBackend
from tests.conftest import deliver

TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


def cut(store: Store, number: int) -> None:
    """Name a snapshot of all batches, without a look into them."""
    snapshot = Snapshot(
        id=f"DS-1.{number}.0",
        parent=None,
        parent_id=None,
        batches=ordered_batches(store),
        description=known_description("synthetic-tiles"),
        samples=0,
        groups=0,
        counts={},
        changelog=Changelog(),
        changes=store.objects.put(b""),
    )
    publish(store, snapshot)


def publish(store: Store, snapshot: Snapshot) -> None:
    content = store.objects.put_json(snapshot.model_dump(mode="json"))
    store.publish_once(f"datasets/{snapshot.id}", Record(asset="dataset_manifest", content=content))


@given(
    said=st.lists(st.tuples(TIMES, st.booleans()), max_size=8),
    names=st.permutations([f"batch-{number}" for number in range(8)]),
)
def test_batches_keep_their_order_whatever_the_clock_says(
    said: list[tuple[datetime, bool]],
    names: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    store = open_store(str(tmp_path_factory.mktemp("store")))
    content = store.objects.put(b"{}")
    named = names[: len(said)]
    for number, (name, (when, is_cut)) in enumerate(zip(named, said, strict=True)):
        name_batch(store, name, Record(asset="raw_images", content=content, created_at=when))
        if is_cut:
            cut(store, number)
    assert [pin.id for pin in ordered_batches(store)] == named
    for name in named:  # and to name one again, later, does not move it
        name_batch(store, name, Record(asset="raw_images", content=content))
    assert [pin.id for pin in ordered_batches(store)] == named


class Bucket(LocalBackend):
    """A place that says which files are read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []

    def read(self, key: str) -> bytes:
        self.asked.append(key)
        return super().read(key)

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        self.asked.append(key)
        return super().read_ranges(key, ranges)


def test_what_a_snapshot_has_is_not_asked_for_again(
    inbox: Path, tmp_path: Path, description: DatasetDescription
) -> None:
    bucket = Bucket(tmp_path / "bucket")
    store = Store(CachedBackend(bucket, tmp_path / "cache"))

    def take_in(number: int) -> int:
        """Take in one more delivery; return how often the bucket was asked for something."""
        name = f"batch-{number}"
        folder = deliver(inbox, name, number, 1)
        bucket.asked.clear()
        batch = ingest(store, folder, description)
        content = store.objects.put_json(batch.model_dump(mode="json"))
        name_batch(store, name, Record(asset="raw_images", content=content))
        return len(bucket.asked)

    asked = []
    for number in range(6):
        asked.append(take_in(number))
        snapshot = next_snapshot(store, description)
        assert snapshot is not None
        publish(store, snapshot)
    assert len(set(asked[2:])) == 1
    bucket.delete("refs/batches/batch-0")  # a lost name is verify's to tell, and keeps nobody here
    assert take_in(6)
