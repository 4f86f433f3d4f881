"""The test that several models are held against: the same images, under one or two sets of labels.

Where the labels changed between two versions of the data, no set is simply the right one. A model
that learned from damaged labels does well by damaged labels. So every model looks at each image
once and is counted by both sets, and by those images alone whose label stayed as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from defect_assets.dataset.images import LabelledImage, read_images
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import Snapshot, read_snapshot
from defect_assets.dataset.split import read_split
from defect_assets.evaluation.counts import count_image, read_counts
from defect_assets.registry.code import code_version
from defect_assets.registry.comparison.tested import common_test
from defect_assets.store import Digest, Store, canonical_json, digest_of
from defect_assets.store.columns import column

if TYPE_CHECKING:
    from defect_assets.inference.postprocessing import Analysis


class Labels(StrEnum):
    """By which labels is counted."""

    GOOD = "labels of the good one"
    BAD = "labels of the bad one"
    UNCHANGED = "images whose label is the same for both"


@dataclass(frozen=True)
class Yardstick:
    """Test images, and their labels in two versions of the data."""

    images: tuple[Digest, ...]
    rows: tuple[pa.Table, ...]
    """The samples, see `defect_assets.dataset.samples.ROWS`: as the first version labels them, and
    as the second does where any differs."""
    snapshots: tuple[Snapshot, ...]
    unchanged: frozenset[str]
    """Samples whose label is the same in both."""
    left_out: int
    """Test images of either that do not count: only one of the two tested them, another photograph
    took their place, or one of the two was trained on their part."""

    @property
    def digest(self) -> Digest:
        """Stands for the images and all their labels."""
        labels = [s.description.model_dump(mode="json") for s in self.snapshots]
        return digest_of(canonical_json([labels, [rows.to_pylist() for rows in self.rows]]))


def yardstick(store: Store, good: Digest, bad: Digest) -> Yardstick:
    """Return the test that the models of two splits have in common.

    Parameters
    ----------
    store
        Where all lies.
    good, bad
        The digests of the splits. Parts are those of the good one.
    """
    splits = [read_split(store, digest) for digest in (good, bad)]
    snapshots = [read_snapshot(store, split.snapshot) for split in splits]
    common = common_test(store, good, bad)
    ids = column(sorted(common.samples - common.seen), pa.string())
    tables = [samples_of(store, s.batches, only=ids) for s in snapshots]
    one, other = (table["image"].to_pylist() for table in tables)
    same = column([a == b for a, b in zip(one, other, strict=True)], pa.bool_())
    groups = store.objects.get_table(splits[0].rows, ["sample", "group"])
    part_of = dict(zip(*(groups[name].to_pylist() for name in ("sample", "group")), strict=True))
    rows = [_in_parts(table.filter(same), part_of) for table in tables]
    labels_differ = snapshots[0].description.labels != snapshots[1].description.labels
    relabelled = common.relabelled if not labels_differ else common.samples
    kept = set(rows[0]["sample"].to_pylist())
    count = 2 if kept & relabelled else 1
    tested = [sum(split.counts["test"].values()) for split in splits]
    return Yardstick(
        images=tuple(rows[0]["image"].to_pylist()),
        rows=tuple(rows[:count]),
        snapshots=tuple(snapshots[:count]),
        unchanged=frozenset(kept - relabelled),
        left_out=sum(tested) - len(common.samples) - len(kept),
    )


def count(
    store: Store,
    yardstick: Yardstick,
    analyses: Iterable[Analysis],
    class_map: dict[int, str],
) -> tuple[pd.DataFrame, ...]:
    """Count what a model finds by each set of labels.

    Parameters
    ----------
    store
        Where the images lie.
    yardstick
        The test.
    analyses
        What the model finds in each of its images, in their order.
    class_map
        The classes that the model tells apart.
    """
    labelled = [
        read_images(store, rows, snapshot.description)
        for rows, snapshot in zip(yardstick.rows, yardstick.snapshots, strict=True)
    ]
    counted: list[list[dict]] = [[] for _ in labelled]
    for analysis, *truths in zip(analyses, *labelled, strict=True):
        for rows, truth, snapshot in zip(counted, truths, yardstick.snapshots, strict=True):
            rows.append(_row(truth, analysis, class_map, snapshot))
    return tuple(pd.DataFrame(rows) for rows in counted)


def _row(
    truth: LabelledImage, analysis: Analysis, class_map: dict[int, str], snapshot: Snapshot
) -> dict:
    if class_map != snapshot.description.class_map:
        # The model tells other classes apart, or none: what is left is any defect against none.
        truth, class_map = truth.as_binary(), {1: "Defect"}
        analysis = replace(analysis, mask=(analysis.mask > 0).astype(np.uint8))
    return count_image(truth, analysis, class_map)


def by_labels(yardstick: Yardstick, tables: tuple[pd.DataFrame, ...]) -> dict[Labels, pd.DataFrame]:
    """Return the tables of `count` by the labels, and the one of the images that both agree on."""
    found = dict(zip((Labels.GOOD, Labels.BAD), tables, strict=False))
    if len(tables) > 1 and yardstick.unchanged:
        agreed = tables[0]["sample"].isin(yardstick.unchanged)
        found[Labels.UNCHANGED] = tables[0][agreed].reset_index(drop=True)
    return found


COUNTING = code_version("evaluation.counts", "evaluation.regions")


def put_tables(store: Store, tables: tuple[pd.DataFrame, ...]) -> Digest:
    """Store the tables of `count`, and return the digest of their tree."""
    return store.objects.put_tree(
        {f"{i}.csv": table.to_csv(index=False).encode() for i, table in enumerate(tables)}
    )


def get_tables(store: Store, digest: Digest) -> tuple[pd.DataFrame, ...]:
    """Return the tables that `put_tables` stored."""
    files = store.objects.get_tree(digest)
    return tuple(read_counts(files[name]) for name in sorted(files))


def _in_parts(table: pa.Table, part_of: dict[str, str]) -> pa.Table:
    groups = column([part_of[s] for s in table["sample"].to_pylist()], pa.string())
    return table.set_column(table.column_names.index("group"), "group", groups)
