"""A batch: one delivery, taken into the store for good."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from defect_assets.store import Digest, Record, Store

REF = "batches/"
AT_ONCE = 16
"""Records that are asked for at the same time."""


class Batch(BaseModel):
    """A delivery's content; its digest is the data version of ``raw_images``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    notes: str
    rows: Digest
    """The table of its samples, see `defect_assets.dataset.samples.ROWS`."""
    counts: dict[str, int]
    """Samples per class."""
    removed: dict[str, int] = Field(default_factory=dict)
    """Samples withdrawn, per class."""


class BatchPin(BaseModel):
    """One batch of a snapshot, by name and content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    digest: Digest


def read_batch(store: Store, digest: Digest) -> Batch:
    """Return the batch with a digest."""
    return Batch.model_validate(store.objects.get_json(digest))


def named_batches(store: Store) -> list[tuple[str, Digest]]:
    """Return the id and digest of every batch, in the order in which they were taken in."""
    return [(name, record.content) for name, record in _records(store)]


def batch_names(store: Store) -> set[str]:
    """Return the id of every batch; no record is read."""
    return {name.removeprefix(REF) for name in store.refs.names(REF)}


def name_batch(store: Store, name: str, record: Record) -> None:
    """Name a batch, for good, as the newest one.

    Its record's time orders it, and later batches override earlier ones. Where the clock was set
    back the time is just after the newest one's, as in a hybrid logical clock.

    Raises
    ------
    RefConflict
        If the name stands for another one already.
    """
    for _, newest in _records(store)[-1:]:
        if newest.created_at >= record.created_at:
            after = newest.created_at + timedelta(microseconds=1)
            record = record.model_copy(update={"created_at": after})
    store.publish_once(f"{REF}{name}", record)


def _records(store: Store) -> list[tuple[str, Record]]:
    """Return the name and record of every batch, the oldest first."""
    names = list(store.refs.names(REF))
    with ThreadPoolExecutor(AT_ONCE) as pool:  # in a bucket each waits for an answer
        found = zip(names, pool.map(store.record, names), strict=True)
        known = [(name.removeprefix(REF), record) for name, record in found if record]
    return sorted(known, key=lambda batch: (batch[1].created_at, batch[0]))
