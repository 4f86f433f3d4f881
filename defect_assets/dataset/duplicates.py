"""Images that a snapshot holds more than once."""

from dataclasses import dataclass

import pyarrow.compute as pc

from defect_assets.dataset.alike import read_spectra
from defect_assets.dataset.grouping import SIMILARITY
from defect_assets.dataset.near_duplicates import similar_pairs
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import Snapshot
from defect_assets.store import Store

COMPARED = 2_000
"""Images that are compared with each other at most: it takes some seconds."""


@dataclass(frozen=True)
class Duplicates:
    """What a snapshot holds more than once."""

    same: list[list[str]]
    """Samples whose images are the same bit by bit, sorted."""
    contradicting: list[list[str]]
    """Those of `same` that have different classes or masks."""
    near: list[tuple[str, str, float]]
    """Two samples of different groups whose images are near-duplicates, and their similarity; the
    most similar first."""
    compared: int
    """Images that were looked at for `near`; none where the description says
    ``near_duplicates: off``."""

    def __bool__(self) -> bool:
        return bool(self.same or self.near)


def find_duplicates(store: Store, snapshot: Snapshot) -> Duplicates:
    """Return what a snapshot holds more than once."""
    samples = samples_of(store, snapshot.batches, ("sample", "image", "class", "mask", "group"))
    by_image: dict[str, list[dict[str, str]]] = {}
    counted = pc.value_counts(samples["image"])
    repeated = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
    for row in samples.filter(pc.is_in(samples["image"], value_set=repeated)).to_pylist():
        by_image.setdefault(row["image"], []).append(row)
    same = sorted(by_image.values(), key=lambda rows: rows[0]["sample"])
    rule = snapshot.description.groups.near_duplicates
    # Digests are as good as chance: the first ones are a fair sample.
    images = sorted(pc.unique(samples["image"]).to_pylist())[:COMPARED] if rule is not False else []
    shown = {
        image: (sample, group)
        for image, sample, group in zip(
            *(samples[name].to_pylist() for name in ("image", "sample", "group")), strict=True
        )
    }
    near = []
    similarity = rule.similarity if rule else SIMILARITY
    for one, other, alike in similar_pairs(read_spectra(store, images), similarity):
        (a, group), (b, another) = shown[images[one]], shown[images[other]]
        if group != another:
            near.append((*sorted((a, b)), alike))
    return Duplicates(
        same=[[row["sample"] for row in rows] for rows in same],
        contradicting=[
            [row["sample"] for row in rows]
            for rows in same
            if len({(row["class"], row["mask"]) for row in rows}) > 1
        ],
        near=sorted(near, key=lambda pair: (-pair[2], pair)),
        compared=len(images),
    )
