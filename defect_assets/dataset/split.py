"""Dividing a snapshot into train, val and test, so that no physical part is in two of them."""

from collections import Counter
from collections.abc import Iterator
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from defect_assets.dataset.description import SplitPolicy
from defect_assets.dataset.images import LabelledImage, read_images
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import Snapshot, read_snapshot
from defect_assets.store import Digest, Store, digest_of
from defect_assets.store.columns import column

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
REF = "splits/"


class Split(BaseModel):
    """A split's header; its digest is the data version of ``dataset_split``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    snapshot: Digest
    policy: SplitPolicy
    rows: Digest
    """The table (sample, group, class, part)."""
    counts: dict[Part, dict[str, int]]
    """Samples per part and class."""
    groups: dict[Part, int]
    """Groups per part."""


def split_snapshot(store: Store, digest: Digest) -> Split:
    """Divide a snapshot and store the table of who is where.

    A group that was in the parent's split stays where it was; new groups are added by class.
    """
    snapshot = read_snapshot(store, digest)
    parts = _parts(store, snapshot)
    samples = samples_of(store, snapshot.batches, ("sample", "group", "class"))
    of_sample = [parts[group] for group in samples["group"].to_pylist()]
    table = samples.append_column("part", column(of_sample, pa.string()))
    counts = Counter(zip(of_sample, samples["class"].to_pylist(), strict=True))
    return Split(
        dataset=snapshot.id,
        snapshot=digest,
        policy=snapshot.description.split,
        rows=store.objects.put_table(table),
        counts={
            part: {name: n for (p, name), n in sorted(counts.items()) if p == part}
            for part in PARTS
        },
        groups={part: sum(p == part for p in parts.values()) for part in PARTS},
    )


def read_split(store: Store, digest: Digest) -> Split:
    """Return the split with a digest."""
    return Split.model_validate(store.objects.get_json(digest))


def read_part(
    store: Store, split: Split, part: Part, fold: int | None = None
) -> Iterator[LabelledImage]:
    """Yield the images of one part of a split, in the order of their ids."""
    snapshot = read_snapshot(store, split.snapshot)
    column = "part" if fold is None else f"fold-{fold}"
    parts = store.objects.get_table(split.rows, ["sample", column])
    chosen = parts.filter(pc.equal(parts[column], part))["sample"].combine_chunks()
    samples = samples_of(store, snapshot.batches)
    wanted = samples.filter(pc.is_in(samples["sample"], value_set=chosen))
    return read_images(store, wanted, snapshot.description)


def leaks(store: Store, split: Split) -> list[str]:
    """Return the groups that a split tears apart, by name or by content: there must be none.

    A group is torn if it, or an image that is the same bit by bit, is in several parts.
    """
    snapshot = read_snapshot(store, split.snapshot)
    samples = samples_of(store, snapshot.batches, ("sample", "image"))
    images = dict(zip(samples["sample"].to_pylist(), samples["image"].to_pylist(), strict=True))
    rows = store.objects.get_table(split.rows).to_pylist()
    parts: dict[str, set[str]] = {}
    for row in rows:
        for thing in (f"group {row['group']}", f"image {images.get(row['sample'])}"):
            parts.setdefault(thing, set()).add(row["part"])
    return sorted(
        {
            row["group"]
            for row in rows
            if len(parts[f"group {row['group']}"]) > 1
            or len(parts[f"image {images.get(row['sample'])}"]) > 1
        }
    )


def assign_groups(
    samples: pa.Table,
    policy: SplitPolicy,
    defect_free: str,
    before: dict[str, Part] | None = None,
) -> dict[str, Part]:
    """Assign each group to a part.

    Class by class, groups are taken in an order drawn from the seed, and each goes to the part
    that has the least of its share. The order of the samples makes no difference.

    Parameters
    ----------
    samples
        Columns sample, group, class.
    policy
        Ratios and seed.
    defect_free
        The class without a defect. A group belongs to its most frequent class of defect, if any.
    before
        Where groups are already; they stay.

    Returns
    -------
    dict
        The part of each group.
    """
    before = before or {}
    ratios = {"train": policy.train, "val": policy.val, "test": policy.test}
    parts: dict[str, Part] = {}
    # Counted over all classes, so that what one class has too few groups to fill, the next does.
    filled = dict.fromkeys(PARTS, 0)
    for _, stratum in sorted(_strata(samples, defect_free).items()):
        for group in stratum.keys() & before.keys():
            parts[group] = before[group]
            filled[before[group]] += stratum[group]
        for group in sorted(
            stratum.keys() - before.keys(), key=lambda g: digest_of(f"{policy.seed}/{g}".encode())
        ):
            part = min(PARTS, key=lambda p: filled[p] / ratios[p])
            parts[group] = part
            filled[part] += stratum[group]
    return parts


def _parts(store: Store, snapshot: Snapshot) -> dict[str, Part]:
    """Assign a snapshot's groups, beginning with its first ancestor.

    Recomputing the ancestors' splits, rather than reading what was materialized of them, makes
    the split a function of the snapshot alone.
    """
    lineage = [snapshot]
    while lineage[-1].parent and not lineage[-1].changelog.split_changed:
        lineage.append(read_snapshot(store, lineage[-1].parent))
    parts: dict[str, Part] = {}
    for ancestor in reversed(lineage):
        samples = samples_of(store, ancestor.batches, ("sample", "group", "class"))
        description = ancestor.description
        parts = assign_groups(samples, description.split, description.defect_free, parts)
    return parts


def _strata(samples: pa.Table, defect_free: str) -> dict[str, dict[str, int]]:
    """Return, for each class, its groups and their numbers of samples."""
    classes: dict[str, Counter[str]] = {}
    for group, name in zip(samples["group"].to_pylist(), samples["class"].to_pylist(), strict=True):
        classes.setdefault(group, Counter())[name] += 1
    strata: dict[str, dict[str, int]] = {}
    for group, counts in classes.items():
        defects = {name: n for name, n in counts.items() if name != defect_free}
        # The name breaks ties, so that the order of the samples does not.
        stratum = min(defects, key=lambda name: (-defects[name], name)) if defects else defect_free
        strata.setdefault(stratum, {})[group] = counts.total()
    return strata
