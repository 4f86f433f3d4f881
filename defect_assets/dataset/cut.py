"""Cutting the next snapshot from what was taken in since the newest one."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from defect_assets.dataset.batch import BatchPin
from defect_assets.dataset.changelog import Changelog
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.difference import changelog, difference, touched_by
from defect_assets.dataset.overlap import overlap
from defect_assets.dataset.samples import latest_rows, rows_of
from defect_assets.dataset.snapshot import (
    REF,
    Snapshot,
    find_snapshot,
    is_current,
    latest_version,
    unpinned,
)
from defect_assets.dataset.version import Bump, Version
from defect_assets.errors import UserError
from defect_assets.store import Digest, Store
from defect_assets.store.columns import codes, column, numbers

FIRST = Version("DS-", 1, 0, 0)


class CutRefused(UserError):
    """A snapshot that cannot be cut; the message says why and what to do."""


@dataclass(frozen=True)
class Pending:
    """What would be cut now."""

    version: Version
    """The least that the change allows."""
    parent: Snapshot | None
    parent_digest: Digest | None
    batches: tuple[BatchPin, ...]
    new: tuple[BatchPin, ...]
    """Those that the parent lacks."""
    description: DatasetDescription
    changes: pa.Table
    """See `difference`."""
    changelog: Changelog

    def allows(self, version: Version) -> bool:
        """Tell whether a person may give the next snapshot this number: a higher one, in order."""
        if self.parent is None:
            return version == FIRST
        parent = Version.parse(self.parent.id)
        return version >= self.version and version in [parent.bumped(bump) for bump in Bump]


def pending(store: Store, description: DatasetDescription) -> Pending | None:
    """Return what would be cut now, or None where nothing is pending.

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
    if parent and is_current(store, parent, description):
        return None
    new = unpinned(store, parent)
    changes = difference(store, before, before + new)
    log = changelog(changes, parent.description if parent else None, description)
    if parent is None or newest is None:
        if not new:
            return None
        version = FIRST
    elif log.bump is None:
        return None
    else:
        version = newest.bumped(log.bump)
    # A class cannot go from the description while it is in use.
    gone = {*(parent.counts if parent else ()), *changes["class"].to_pylist()} - set(
        description.class_ids
    )
    if gone:
        used = pc.unique(latest_rows(store, before + new, ("sample", "class"))["class"])
        if unknown := sorted(gone.intersection(used.to_pylist())):
            raise CutRefused(
                f"no snapshot can be cut: the dataset's description lacks {', '.join(unknown)}, "
                "which samples have; a class cannot go while it is in use"
            )
    return Pending(version, parent, parent_digest, before + new, new, description, changes, log)


def next_snapshot(
    store: Store, description: DatasetDescription, version: Version | None = None, notes: str = ""
) -> Snapshot | None:
    """Return the snapshot that is cut now, or None where nothing is pending.

    Parameters
    ----------
    store
        Where it lies. The table of changes is put into it.
    description
        The dataset's, of which the snapshot holds a copy.
    version
        A higher number than the difference asks for; by default what it asks for.
    notes
        For people.

    Raises
    ------
    CutRefused
        If samples have a class that the description lacks, or the number cannot be given.
    """
    next_one = pending(store, description)
    if next_one is None:
        return None
    if version is not None and not next_one.allows(version):
        since = next_one.parent.id if next_one.parent else "the beginning"
        raise CutRefused(
            f"{version} cannot be cut: since {since} there are {next_one.changelog}, so the next "
            f"version is {next_one.version}; it can be raised to the next minor or major one, "
            "never lowered"
        )
    _refuse_two_images(store, next_one)
    samples = latest_rows(store, next_one.batches, ("sample", "class", "group"))
    classes = pc.value_counts(samples["class"])
    return Snapshot(
        id=str(version or next_one.version),
        parent=next_one.parent_digest,
        parent_id=next_one.parent.id if next_one.parent else None,
        batches=next_one.batches,
        description=description,
        samples=len(samples),
        groups=pc.count_distinct(samples["group"]).as_py(),
        counts=dict(sorted((row["values"], row["counts"]) for row in classes.to_pylist())),
        changelog=next_one.changelog,
        changes=store.objects.put_table(_with_overlaps(store, next_one)),
        notes=notes,
    )


def cut(
    store: Store, dataset: str, description: DatasetDescription, notes: str = ""
) -> tuple[Digest, Snapshot]:
    """Return the snapshot named ``dataset`` and its digest: the one that has this id, or the next.

    The caller gives the next one its name.

    Raises
    ------
    CutRefused
        If the id is not that of the next snapshot, or nothing is pending.
    """
    if store.refs.get(REF + dataset):
        return find_snapshot(store, dataset)
    snapshot = next_snapshot(store, description, Version.parse(dataset), notes)
    if snapshot is None:
        newest = latest_version(store)
        raise CutRefused(
            f"{dataset} cannot be cut: nothing changed since {newest}"
            if newest
            else f"{dataset} cannot be cut: no batch was taken in yet; materialize raw_images first"
        )
    return store.objects.put_json(snapshot.model_dump(mode="json")), snapshot


def _refuse_two_images(store: Store, cut: Pending) -> None:
    """Refuse where one id stands for two images: batches that were taken in apart, say.

    Raises
    ------
    CutRefused
        If there is such an id.
    """
    touched = touched_by(store, cut.new)
    stands, ids = codes(rows_of(store, cut.batches, ("sample",), touched)["sample"])
    again = ids.take(column(np.flatnonzero(np.bincount(stands) > 1), pa.int64()))
    # What is removed by now may have been anything.
    there = latest_rows(store, cut.batches, ("sample",), again)["sample"]
    if not len(there):
        return
    said = rows_of(store, cut.batches, ("sample", "image", "batch"), there)
    (samples, _), (images, _) = (codes(said[name]) for name in ("sample", "image"))
    firsts = np.empty(samples.max() + 1, np.int64)  # the row in which each sample stands first
    firsts[samples[::-1]] = np.arange(len(samples))[::-1]
    others = np.flatnonzero(images != images[firsts[samples]])
    if not len(others):
        return
    rows = said.take(column([firsts[samples[others[0]]], others[0]], pa.int64()))
    first, other = rows.to_pylist()
    raise CutRefused(
        f"no snapshot can be cut: {first['sample']} is one image in {first['batch']} and another "
        f"in {other['batch']}; remove it in a delivery and deliver it under another name"
    )


def _with_overlaps(store: Store, cut: Pending) -> pa.Table:
    """Return the table of changes as it is stored."""
    relabelled = pc.is_in(cut.changes["change"], value_set=column(["relabelled"], pa.string()))
    dice = np.ones(len(cut.changes))
    dice[numbers(pc.indices_nonzero(relabelled))] = [
        overlap(store, row["mask_before"], row["mask"], cut.description)
        for row in cut.changes.filter(relabelled).select(["mask_before", "mask"]).to_pylist()
    ]
    said = ["sample", "change", "class", "class_before", "group", "group_before"]
    return cut.changes.select(said).append_column("dice", column(dice, pa.float64()))
