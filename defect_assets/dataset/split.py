"""Dividing a snapshot, so that no physical part is in two places.

Once into train, val and test, and as often as its policy has folds: in a fold, a fifth of the parts
(of five folds) is the test, and of the others some validate and the rest train.
"""

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from defect_assets.dataset.alike import Alike, find_alike, join_groups
from defect_assets.dataset.assignment import NOWHERE, assign, majority
from defect_assets.dataset.description import SplitPolicy
from defect_assets.dataset.images import LabelledImage, read_images
from defect_assets.dataset.samples import ROWS, samples_of
from defect_assets.dataset.snapshot import Snapshot, read_snapshot
from defect_assets.errors import UserError
from defect_assets.store import Digest, Store
from defect_assets.store.columns import column, numbers

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
TEST = PARTS.index("test")
REF = "splits/"


class UnknownFold(UserError):
    """A fold that a split does not have."""


class Fold(BaseModel):
    """What is in one fold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: dict[Part, dict[str, int]]
    """Samples per part and class."""
    groups: dict[Part, int]
    """Groups per part; 0 in test where there are fewer groups than folds."""


class Split(BaseModel):
    """A split's header; its digest is the data version of ``dataset_split``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    snapshot: Digest
    policy: SplitPolicy
    rows: Digest
    """The table (sample, group, class, part, fold-1, fold-2 …). Groups are joined already, where
    the description says that near-duplicates are of one part."""
    counts: dict[Part, dict[str, int]]
    """Samples per part and class."""
    groups: dict[Part, int]
    """Groups per part."""
    folds: tuple[Fold, ...] = ()
    moved: Digest | None = None
    """The table of the samples that had to move, because a group is another one now: sample,
    group, and of each division where the sample was and where it is. None where none moved, and
    where the policy is new, so that all is divided anew."""

    def division(self, fold: int | None = None) -> str:
        """Return the column of the table that says who is where, of a fold or of the split itself.

        Raises
        ------
        UnknownFold
            If there is no such fold.
        """
        if fold is None:
            return "part"
        if not 1 <= fold <= len(self.folds):
            has = f"folds 1 to {len(self.folds)}" if self.folds else "no folds"
            raise UnknownFold(
                f"the split of {self.dataset} has no fold {fold}, it has {has}: set `folds` in the "
                "dataset's description, or materialize dataset_split again if it is an old one"
            )
        return f"fold-{fold}"


def split_snapshot(store: Store, digest: Digest) -> Split:
    """Divide a snapshot and store the table of who is where.

    What was in the parent's split stays where it was; new groups are added by class. A group that
    would be torn apart, since samples were given another group or a new image looks like two old
    ones, goes to where most of it was; what moves is listed.

    Raises
    ------
    TooManyImages
        If near-duplicates are to be joined, and there are more images than can be compared.
    """
    snapshot = read_snapshot(store, digest)
    before, rows = _divided(store, snapshot)
    moved = moves(before, rows)
    whole = _inventory(rows, "part")
    return Split(
        dataset=snapshot.id,
        snapshot=digest,
        policy=snapshot.description.split,
        rows=store.objects.put_table(rows),
        counts=whole.counts,
        groups=whole.groups,
        folds=tuple(_inventory(rows, name) for name in divisions(rows)[1:]),
        moved=store.objects.put_table(moved) if len(moved) else None,
    )


def read_split(store: Store, digest: Digest) -> Split:
    """Return the split with a digest."""
    return Split.model_validate(store.objects.get_json(digest))


def read_part(
    store: Store,
    split: Split,
    part: Part,
    fold: int | None = None,
    of_each_class: int | None = None,
) -> Iterator[LabelledImage]:
    """Yield the images of one part of a split, in the order of their ids.

    Parameters
    ----------
    store
        Where they lie.
    split
        The split.
    part
        Which part.
    fold
        Of which fold, from 1 on; by default of the division into train, val and test.
    of_each_class
        No more than so many images of each class, spread evenly over its samples; by default all.

    Raises
    ------
    UnknownFold
        If the split does not have this fold.
    """
    wanted = part_of(store, split, part, fold)
    if of_each_class is not None:
        wanted = wanted.take(_spread(wanted["class"].to_pylist(), of_each_class))
    return read_images(store, wanted, read_snapshot(store, split.snapshot).description)


def part_of(store: Store, split: Split, part: Part, fold: int | None = None) -> pa.Table:
    """Return the samples of one part of a split; see `read_part`, which reads them."""
    name = split.division(fold)
    snapshot = read_snapshot(store, split.snapshot)
    rows = store.objects.get_table(split.rows, ["sample", "group", name])
    samples = samples_of(store, snapshot.batches, (*ROWS.names[:-1], "batch"))
    # Both are sorted by sample. What is one group for the split is one part for whoever measures.
    samples = samples.set_column(samples.column_names.index("group"), "group", rows["group"])
    return samples.filter(pc.equal(rows[name], pa.scalar(part)))


def _spread(classes: list[str], most: int) -> np.ndarray:
    """Return the rows of at most so many of each class, spread evenly, in their order."""
    chosen = []
    for name in set(classes):
        rows = np.flatnonzero(np.array(classes) == name)
        chosen.append(rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)])
    return np.sort(np.concatenate(chosen)) if chosen else np.array([], np.int64)


def divisions(rows: pa.Table) -> list[str]:
    """Return the columns of a split's table that say who is where: part, fold-1, fold-2 …"""
    return rows.column_names[rows.column_names.index("part") :]


def divide(
    samples: pa.Table, policy: SplitPolicy, defect_free: str, before: pa.Table | None = None
) -> pa.Table:
    """Divide samples by their groups. Their order makes no difference.

    Parameters
    ----------
    samples
        Columns sample, group, class.
    policy
        Ratios, folds and seed.
    defect_free
        The class without a defect.
    before
        A table as this returns, of the same policy; what is in it stays where it was, unless its
        group is another one now and was elsewhere.

    Returns
    -------
    pyarrow.Table
        Columns sample, group, class, then part, fold-1, fold-2 …, each ``train``, ``val`` or
        ``test``; in the order of the samples. Each sample is in the test of one fold.
    """
    names = pc.unique(samples["group"])
    names = names.take(pc.sort_indices(names))
    group_of = numbers(pc.index_in(samples["group"], value_set=names))
    counts = _counts(group_of, len(names), samples["class"], defect_free)
    was = _codes_before(samples["sample"], policy, before)
    keys = names.to_pylist()

    def place(which: np.ndarray, held: np.ndarray, ratios: list[float], draw: str) -> np.ndarray:
        """Return the place of some groups, which most of their samples held before."""
        votes = majority(held, group_of, len(keys), len(ratios))
        chosen = [keys[g] for g in which.tolist()]
        return assign(chosen, counts[which], ratios, draw, votes[which])

    everyone = np.arange(len(keys))
    three = [policy.train, policy.val, policy.test]
    columns = [place(everyone, was[0], three, str(policy.seed))]
    if policy.folds:
        tested = was[1:] == TEST
        fold_before = np.where(tested.any(axis=0), tested.argmax(axis=0), NOWHERE)
        fold_of = place(everyone, fold_before, [1.0] * policy.folds, f"{policy.seed}/folds")
        for fold in range(policy.folds):
            others = np.flatnonzero(fold_of != fold)
            held = np.where(tested[fold], NOWHERE, was[1 + fold])
            parts = np.full(len(keys), TEST)
            parts[others] = place(others, held, three[:TEST], f"{policy.seed}/fold-{fold + 1}")
            columns.append(parts)
    table = samples.select(["sample", "group", "class"])
    labels = column(PARTS, pa.string())
    for name, parts in zip(_names(policy), columns, strict=True):
        table = table.append_column(name, labels.take(column(parts[group_of], pa.int64())))
    return table


def moves(before: pa.Table | None, rows: pa.Table) -> pa.Table:
    """Return the samples that are elsewhere than before.

    Parameters
    ----------
    before, rows
        Tables of `divide`, of the same policy; None where there was none.

    Returns
    -------
    pyarrow.Table
        Columns sample, group, then part_before, part, fold-1_before, fold-1 …
    """
    known = before if before is not None else rows.slice(0, 0)
    at = pc.index_in(rows["sample"], value_set=known["sample"])
    kept, was = rows.filter(pc.is_valid(at)), known.take(at.drop_null())
    columns = {"sample": kept["sample"], "group": kept["group"]}
    moved = np.zeros(len(kept), bool)
    for name in divisions(rows):
        columns |= {f"{name}_before": was[name], name: kept[name]}
        moved |= _codes(was[name]) != _codes(kept[name])
    return pa.table(columns).filter(column(moved, pa.bool_()))


def _divided(store: Store, snapshot: Snapshot) -> tuple[pa.Table | None, pa.Table]:
    """Divide a snapshot, beginning with its first ancestor of the same policy.

    Recomputing the ancestors' splits, rather than reading what was materialized of them, makes
    the split a function of the snapshot alone.

    Returns
    -------
    tuple
        Where all was before that ever was in an ancestor, or None; and the snapshot's own table.
    """
    lineage = [snapshot]
    while lineage[-1].parent and not lineage[-1].changelog.split_changed:
        lineage.append(read_snapshot(store, lineage[-1].parent))
    tables = [samples_of(store, a.batches, ("sample", "group", "class", "image")) for a in lineage]
    alike: dict[float, Alike] = {}
    before, rows = None, None
    for ancestor, samples in zip(reversed(lineage), reversed(tables), strict=True):
        before = rows if before is None or rows is None else _with_removed(before, rows)
        description = ancestor.description
        if above := description.groups.joined_above:
            # Of all images that ever were there, once for all ancestors.
            if above not in alike:
                alike[above] = find_alike(store, [table["image"] for table in tables], above)
            samples = join_groups(samples, alike[above])
        rows = divide(samples, description.split, description.defect_free, before)
    assert rows is not None
    return before, rows


def _with_removed(before: pa.Table, rows: pa.Table) -> pa.Table:
    """Return where samples are, or were when they were removed: they may come back."""
    gone = pc.invert(pc.is_in(before["sample"], value_set=rows["sample"]))
    return pa.concat_tables([rows, before.filter(gone)])


def _names(policy: SplitPolicy) -> list[str]:
    return ["part", *(f"fold-{fold}" for fold in range(1, policy.folds + 1))]


def _codes(parts: pa.ChunkedArray) -> np.ndarray:
    """Return the index of each part in `PARTS`, integers of shape (samples,)."""
    return numbers(pc.index_in(parts, value_set=column(PARTS, pa.string())))


def _codes_before(
    samples: pa.ChunkedArray, policy: SplitPolicy, before: pa.Table | None
) -> np.ndarray:
    """Return where samples were, int64 of shape (1 + folds, samples), `NOWHERE` for new ones."""
    codes = np.full((1 + policy.folds, len(samples)), NOWHERE)
    if before is not None:
        at = numbers(pc.fill_null(pc.index_in(samples, value_set=before["sample"]), NOWHERE))
        for row, name in enumerate(_names(policy)):
            codes[row, at != NOWHERE] = _codes(before[name])[at[at != NOWHERE]]
    return codes


def _counts(
    group_of: np.ndarray, groups: int, classes: pa.ChunkedArray, defect_free: str
) -> np.ndarray:
    """Return the images of each class in each group, int64 of shape (groups, classes).

    Classes are sorted by name, the one without a defect comes last.
    """
    names = [*sorted(set(pc.unique(classes).to_pylist()) - {defect_free}), defect_free]
    class_of = numbers(pc.index_in(classes, value_set=column(names, pa.string())))
    cells = np.bincount(group_of * len(names) + class_of, minlength=groups * len(names))
    return cells.reshape(groups, len(names))


def _inventory(rows: pa.Table, division: str) -> Fold:
    """Count what is in each part of one division."""
    samples = rows.group_by([division, "class"]).aggregate([([], "count_all")]).to_pylist()
    groups = rows.group_by(division).aggregate([("group", "count_distinct")]).to_pylist()
    counts = {(row[division], row["class"]): row["count_all"] for row in samples}
    numbers_of = {row[division]: row["group_count_distinct"] for row in groups}
    return Fold(
        counts={
            part: {name: n for (p, name), n in sorted(counts.items()) if p == part}
            for part in PARTS
        },
        groups={part: numbers_of.get(part, 0) for part in PARTS},
    )
