"""What differs between two sequences of batches, sample by sample."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from defect_assets.dataset.batch import BatchPin
from defect_assets.dataset.changelog import Changelog
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.samples import latest_rows, rows_of
from defect_assets.store import Store
from defect_assets.store.columns import codes, column, repeated

CHANGES = (
    "sample",
    "change",  # added, relabelled, regrouped (with the label that it had) or removed
    "class",  # of a removed sample: what it was
    "class_before",  # empty for what was added, as are the following
    "group",
    "group_before",
    "image",
    "mask",
    "mask_before",
)

_COLUMNS = ("sample", "class", "group", "image", "mask")


def difference(store: Store, before: Sequence[BatchPin], after: Sequence[BatchPin]) -> pa.Table:
    """Return the samples that differ, with the columns `CHANGES`, sorted by id.

    Batches with which both begin are not compared; of the others, only the samples that they hold
    are looked up. So the cost is that of what changed, not that of the dataset.
    """
    common = 0
    while before[common : common + 1] == after[common : common + 1] != ():
        common += 1
    later = [*before[common:], *after[common:]]
    if not later:
        return compare_samples(*[latest_rows(store, (), _COLUMNS)] * 2)
    # To look up what came first is to read it all.
    touched = touched_by(store, later) if common or (before and after) else None
    old, new = (latest_rows(store, pins, _COLUMNS, touched) for pins in (before, after))
    return compare_samples(old, new)


def changelog(
    changes: pa.Table, before: DatasetDescription | None, after: DatasetDescription
) -> Changelog:
    """Count what differs by kind and class; see `difference`."""
    counts: dict[str, dict[str, int]] = {"added": {}, "relabelled": {}, "removed": {}}
    for kind, name, count in _count(changes, "change", "class"):
        if kind != "regrouped":  # a relabelled sample may be regrouped, too
            counts[kind][name] = count
    was, now = changes["group_before"], changes["group"]
    new = pc.is_in(was, value_set=column([""], pa.string()))
    moved = pc.and_not(pc.not_equal(was, now), new)
    return Changelog(
        **counts,
        regrouped=dict(_count(changes.filter(moved), "class")),
        classes_changed=before is not None and before.labels != after.labels,
        split_changed=before is not None and before.split != after.split,
        grouping_changed=before is not None
        and before.groups.near_duplicates != after.groups.near_duplicates,
    )


def _count(rows: pa.Table, *columns: str) -> list[tuple[Any, ...]]:
    """Return each combination of values, and how often it is there, sorted."""
    if not len(rows):
        return []
    which, meant = zip(*(codes(rows[name]) for name in columns), strict=True)
    shape = tuple(map(len, meant))
    found, counts = np.unique(np.ravel_multi_index(which, shape), return_counts=True)
    said = [
        texts.take(column(at, pa.int64())).to_pylist()
        for texts, at in zip(meant, np.unravel_index(found, shape), strict=True)
    ]
    return sorted(zip(*said, counts.tolist(), strict=True))


def touched_by(store: Store, batches: Sequence[BatchPin]) -> pa.Array:
    """Return the ids of all samples that some batches say something of."""
    return rows_of(store, batches, ("sample",))["sample"].unique()


def carried_by(
    store: Store, before: Sequence[BatchPin], after: Sequence[BatchPin], changes: pa.Table
) -> dict[str, BatchPin]:
    """Return, for each sample that differs, the batch by which it does.

    That is the last of the later batches that says something of it and that the earlier sequence
    lacks, or else the last of those that the later one lacks.

    Parameters
    ----------
    store
        Where they lie.
    before, after
        Sequences of batches; later ones override earlier ones.
    changes
        What differs between them; see `difference`.

    Returns
    -------
    dict
        By sample. What differs only by the order of the batches is left out.
    """
    found: dict[str, BatchPin] = {}
    for pins, others in ((before, after), (after, before)):
        for pin in pins:
            if pin not in others:
                found |= dict.fromkeys(touched_by(store, [pin]).to_pylist(), pin)
    return {s: found[s] for s in changes["sample"].to_pylist() if s in found}


def compare_samples(old: pa.Table, new: pa.Table) -> pa.Table:
    """Return what differs between two tables of samples, as `difference` does.

    Parameters
    ----------
    old, new
        Columns sample, class, group, image, mask.
    """
    # Where each new sample stands among the old ones; null: nowhere.
    at = pc.index_in(new["sample"], value_set=old["sample"])
    kept, was = new.filter(pc.is_valid(at)), old.take(at.drop_null())
    relabelled = pc.or_(
        pc.not_equal(kept["mask"], was["mask"]), pc.not_equal(kept["class"], was["class"])
    )
    regrouped = pc.and_not(pc.not_equal(kept["group"], was["group"]), relabelled)
    gone = old.filter(pc.invert(pc.is_in(old["sample"], value_set=new["sample"])))
    parts = [
        _changes("added", new.filter(pc.is_null(at)), None),
        _changes("relabelled", kept.filter(relabelled), was.filter(relabelled)),
        _changes("regrouped", kept.filter(regrouped), was.filter(regrouped)),
        _changes("removed", gone, gone),
    ]
    return pa.concat_tables(parts).sort_by("sample")


def _changes(kind: str, rows: pa.Table, before: pa.Table | None) -> pa.Table:
    columns = {name: rows[name] for name in _COLUMNS} | {"change": repeated(kind, len(rows))}
    blank = repeated("", len(rows))
    for name in ("class", "group", "mask"):
        columns[f"{name}_before"] = before[name] if before else blank
    return pa.table({name: columns[name] for name in CHANGES})
