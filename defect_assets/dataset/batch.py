"""A batch: one delivery, taken into the store for good."""

from pydantic import BaseModel, ConfigDict, Field

from defect_assets.store import Digest, Store

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


def named_batches(store: Store) -> list[tuple[str, Digest]]:
    """Return the id and digest of every batch, in the order in which they were taken in."""
    records = [(name, store.record(name)) for name in store.refs.names(REF)]
    named = [(record.created_at, name, record.content) for name, record in records if record]
    return [(name.removeprefix(REF), content) for _, name, content in sorted(named)]
