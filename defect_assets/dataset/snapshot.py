"""A snapshot: an immutable, numbered version of the dataset.

It is a short header over batches; later batches override earlier ones sample by sample. The next
number follows from what changed, and so does the changelog.
"""

from pydantic import BaseModel, ConfigDict

from defect_assets.dataset.batch import BatchPin, batch_records
from defect_assets.dataset.changelog import Changelog
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.version import Version
from defect_assets.errors import UserError
from defect_assets.store import Digest, Store

REF = "datasets/"


class UnknownDataset(UserError):
    """There is no snapshot of this id; the message lists those that there are."""


class Snapshot(BaseModel):
    """A snapshot's header; its digest is the data version of ``dataset_manifest``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    parent: Digest | None
    parent_id: str | None
    batches: tuple[BatchPin, ...]
    description: DatasetDescription
    samples: int
    groups: int
    counts: dict[str, int]
    """Samples per class."""
    changelog: Changelog
    changes: Digest
    """The table of all that changed since the parent: sample, change, class, class_before, group,
    group_before, dice. The last is the overlap of the old and the new mask of what was
    relabelled, 1 for all else."""
    notes: str = ""


def versions(store: Store) -> list[Version]:
    """Return the versions of all snapshots, oldest first."""
    return sorted(Version.parse(name.removeprefix(REF)) for name in store.refs.names(REF))


def latest_version(store: Store) -> Version | None:
    """Return the newest snapshot's version, or None where there is none."""
    return max(versions(store), default=None)


def newest_snapshot(store: Store) -> Snapshot | None:
    """Return the newest snapshot's header, or None where there is none."""
    newest = latest_version(store)
    return find_snapshot(store, str(newest))[1] if newest else None


def read_snapshot(store: Store, digest: Digest) -> Snapshot:
    """Return the snapshot with a digest."""
    return Snapshot.model_validate(store.objects.get_json(digest))


def find_snapshot(store: Store, dataset: str) -> tuple[Digest, Snapshot]:
    """Return a snapshot's digest and header by its id, e.g. ``DS-1.2.0``.

    Raises
    ------
    UnknownDataset
        If no snapshot has this id.
    """
    digest = store.content(REF + dataset)
    if digest is None:
        known = ", ".join(n.removeprefix(REF) for n in store.refs.names(REF)) or "none"
        raise UnknownDataset(f"there is no dataset {dataset}; known: {known}")
    return digest, read_snapshot(store, digest)


def unpinned(store: Store, newest: Snapshot | None) -> tuple[BatchPin, ...]:
    """Return the batches that the newest snapshot lacks, in the order in which they came."""
    records = batch_records(store, newest.batches if newest else ())
    return tuple(BatchPin(id=id, digest=record.content) for id, record in records)


def is_current(store: Store, newest: Snapshot, description: DatasetDescription) -> bool:
    """Tell, without looking into any batch, whether nothing is pending."""
    one, other = newest.description, description
    same = (one.labels, one.split, one.groups.near_duplicates) == (
        other.labels,
        other.split,
        other.groups.near_duplicates,
    )
    return same and not unpinned(store, newest)
