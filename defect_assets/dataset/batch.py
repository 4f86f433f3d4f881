"""A batch: one delivery, taken into the store for good."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from defect_assets.spreading import while_waiting
from defect_assets.store import Digest, Record, Store

REF = "batches/"


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


def batch_names(store: Store) -> set[str]:
    """Return the id of every batch; no record is read."""
    return {name.removeprefix(REF) for name in store.refs.names(REF)}


def batch_records(store: Store, known: Iterable[BatchPin] = ()) -> list[tuple[str, Record]]:
    """Return the id and record of every batch but those that one knows, by their times."""
    ids = sorted(batch_names(store).difference(pin.id for pin in known))
    records = while_waiting(lambda id: store.record(f"{REF}{id}"), ids)
    found = [(id, record) for id, record in zip(ids, records, strict=True) if record]
    return sorted(found, key=lambda batch: (batch[1].created_at, batch[0]))
