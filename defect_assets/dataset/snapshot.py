"""A snapshot: an immutable, numbered version of the dataset.

It is a short header over batches; later batches override earlier ones sample by sample. The next
number follows from what changed, and so does the changelog.
"""

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from defect_assets.dataset.batch import named_batches, read_batch
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.version import Bump, Version
from defect_assets.store import Digest, Store

REF = "datasets/"
FIRST = Version("DS-", 1, 0, 0)


class CutRefused(Exception):
    """A snapshot that cannot be cut; the message says why and what to do."""


class UnknownDataset(LookupError):
    """There is no snapshot of this id; the message lists those that there are."""


class BatchPin(BaseModel):
    """One batch of a snapshot, by name and content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    digest: Digest


class Changelog(BaseModel):
    """What changed since the parent: samples per class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    added: dict[str, int] = Field(default_factory=dict)
    relabelled: dict[str, int] = Field(default_factory=dict)
    removed: dict[str, int] = Field(default_factory=dict)
    classes_changed: bool = False
    """Whether the class map or the reading of masks changed."""
    split_changed: bool = False
    """Whether the split policy changed, and with it the membership of the test split."""

    @property
    def bump(self) -> Bump | None:
        """The number that rises; None where nothing changed."""
        if self.classes_changed or self.split_changed or self.removed:
            return Bump.MAJOR
        if self.added:
            return Bump.MINOR
        return Bump.PATCH if self.relabelled else None

    def __str__(self) -> str:
        parts = [
            f"{sum(counts.values())} samples {verb} ({_listed(counts)})"
            for verb, counts in [
                ("added", self.added),
                ("relabelled", self.relabelled),
                ("removed", self.removed),
            ]
            if counts
        ]
        if self.classes_changed:
            parts.append("class map or mask format changed")
        if self.split_changed:
            parts.append("split policy changed")
        return "; ".join(parts) or "nothing changed"


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


def latest_version(store: Store) -> Version | None:
    """Return the newest snapshot's version, or None where there is none."""
    versions = [Version.parse(name.removeprefix(REF)) for name in store.refs.names(REF)]
    return max(versions, default=None)


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


def samples_of(store: Store, batches: tuple[BatchPin, ...]) -> pd.DataFrame:
    """Return the samples of some batches, later ones overriding earlier ones, sorted by id.

    Each row has a further column ``batch``, the batch that the sample's row is from.
    """
    tables = [
        store.objects.get_table(read_batch(store, pin.digest).rows).assign(batch=pin.id)
        for pin in batches
    ]
    table = pd.concat(tables, ignore_index=True)
    return table.drop_duplicates("sample", keep="last").sort_values("sample", ignore_index=True)


def next_snapshot(store: Store, description: DatasetDescription) -> Snapshot | None:
    """Return the snapshot that would be cut now, or None where nothing is pending.

    All batches that were taken in and are not in the newest snapshot are added, in the order in
    which they were taken in, so that a correction comes after what it corrects.

    Raises
    ------
    CutRefused
        If samples have a class that the description lacks.
    """
    newest = latest_version(store)
    parent_digest, parent = find_snapshot(store, str(newest)) if newest else (None, None)
    before = parent.batches if parent else ()
    pinned = {pin.id for pin in before}
    pending = tuple(
        BatchPin(id=id, digest=digest) for id, digest in named_batches(store) if id not in pinned
    )
    batches = before + pending
    if not batches:
        return None
    samples = samples_of(store, batches)
    unknown = sorted(set(samples["class"]) - set(description.class_ids))
    if unknown:
        raise CutRefused(
            f"no snapshot can be cut: the dataset's description lacks {', '.join(unknown)}, "
            "which samples have; a class cannot go while it is in use"
        )
    changelog = _difference(store, parent, samples, description)
    if newest is None:
        version = FIRST
    elif changelog.bump is None:
        return None
    else:
        version = newest.bumped(changelog.bump)
    return Snapshot(
        id=str(version),
        parent=parent_digest,
        parent_id=parent.id if parent else None,
        batches=batches,
        description=description,
        samples=len(samples),
        groups=samples["group"].nunique(),
        counts=_counts(samples["class"]),
        changelog=changelog,
    )


def cut(store: Store, dataset: str, description: DatasetDescription) -> tuple[Digest, Snapshot]:
    """Return the snapshot named ``dataset`` and its digest: the one that has this id, or the next.

    The caller gives the next one its name.

    Raises
    ------
    CutRefused
        If the id is not that of the next snapshot, or nothing is pending.
    """
    if store.refs.get(REF + dataset):
        return find_snapshot(store, dataset)
    snapshot = next_snapshot(store, description)
    if snapshot is None:
        newest = latest_version(store)
        raise CutRefused(
            f"{dataset} cannot be cut: nothing changed since {newest}"
            if newest
            else f"{dataset} cannot be cut: no batch was taken in yet; materialize raw_images first"
        )
    if snapshot.id != dataset:
        raise CutRefused(
            f"{dataset} cannot be cut: since {snapshot.parent_id or 'the beginning'} there are "
            f"{snapshot.changelog}, so the next version is {snapshot.id}"
        )
    return store.objects.put_json(snapshot.model_dump(mode="json")), snapshot


def _difference(
    store: Store,
    parent: Snapshot | None,
    samples: pd.DataFrame,
    description: DatasetDescription,
) -> Changelog:
    if parent is None:
        return Changelog(added=_counts(samples["class"]))
    before = samples_of(store, parent.batches).set_index("sample")
    after = samples.set_index("sample")
    common = after.index.intersection(before.index)
    labels = ["mask", "class", "group"]
    relabelled = (after.loc[common, labels] != before.loc[common, labels]).any(axis=1)
    old = parent.description
    return Changelog(
        added=_counts(after.loc[after.index.difference(before.index), "class"]),
        relabelled=_counts(after.loc[common[relabelled], "class"]),
        removed=_counts(before.loc[before.index.difference(after.index), "class"]),
        classes_changed=old.labels != description.labels,
        split_changed=old.split != description.split,
    )


def _counts(classes: "pd.Series[str]") -> dict[str, int]:
    return {str(name): int(count) for name, count in sorted(classes.value_counts().items())}


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
