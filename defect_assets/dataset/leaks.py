"""What is in several places of a split that must be in one."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from defect_assets.dataset.alike import read_spectra
from defect_assets.dataset.grouping import SIMILARITY
from defect_assets.dataset.near_duplicates import LIMIT, similar_pairs
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import read_snapshot
from defect_assets.dataset.split import Split, divisions
from defect_assets.store import Store
from defect_assets.store.columns import numbers

ENOUGH = 1000
"""Near-duplicates after which no more are looked for."""


@dataclass(frozen=True)
class Leaks:
    """What is torn apart by a split, or by one of its folds."""

    groups: list[str]
    """Groups, sorted."""
    images: list[list[str]]
    """Samples whose images are the same bit by bit, sorted."""
    near_duplicates: list[tuple[str, str, float]]
    """Two samples whose images are near-duplicates, and their similarity; the most similar first,
    at most about `ENOUGH`."""
    compared: int
    """Images that were looked at for near-duplicates; no more than `LIMIT`, taken at random, and
    none where the description says ``near_duplicates: off``."""

    def __bool__(self) -> bool:
        return bool(self.groups or self.images or self.near_duplicates)


def leaks(store: Store, split: Split) -> Leaks:
    """Return what is in several parts of a split, or of one of its folds."""
    snapshot = read_snapshot(store, split.snapshot)
    rows = store.objects.get_table(split.rows)
    places = divisions(rows)
    samples = samples_of(store, snapshot.batches, ("sample", "image"))
    # Both are sorted by sample.
    rows = rows.append_column("image", samples["image"])
    rule = snapshot.description.groups.near_duplicates
    images = sorted(pc.unique(rows["image"]).to_pylist())[:LIMIT] if rule is not False else []
    return Leaks(
        groups=[group for group, _ in _torn(rows, "group", places)],
        images=sorted(members for _, members in _torn(rows, "image", places)),
        near_duplicates=_torn_near_duplicates(
            store, rows, places, images, rule.similarity if rule else SIMILARITY
        ),
        compared=len(images),
    )


def describe(torn: Leaks) -> tuple[str, str]:
    """Say what is wrong with a split, and how to mend it; both are empty where nothing is."""
    wrong = [f"the group {group} is in several parts" for group in torn.groups]
    wrong += [f"{' and '.join(same)} are the same image" for same in torn.images]
    wrong += [f"{a} looks like {b} ({alike:.2f})" for a, b, alike in torn.near_duplicates]
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    mend = ""
    if torn.near_duplicates:
        mend = (
            "Give what shows one part one group in a delivery with groups.csv, or let it be "
            "joined by `groups: {near_duplicates: {}}` in the dataset's description; if different "
            "parts look alike, say `groups: {near_duplicates: off}` there. Then cut a new version"
        )
    elif torn.images:
        mend = "Remove all of them but one in a delivery. Then cut a new version"
    elif torn.groups:
        mend = "Split the dataset anew, and train on that"
    return "; ".join(wrong[:3]) + more, mend


def _torn(rows: pa.Table, thing: str, places: list[str]) -> list[tuple[str, list[str]]]:
    """Return the values of a column that are in several parts, and their samples."""
    found = rows.group_by(thing).aggregate([(name, "count_distinct") for name in places])
    apart = np.zeros(len(found), bool)
    for name in places:
        apart |= numbers(found[f"{name}_count_distinct"]) > 1
    torn: dict[str, list[str]] = {found[thing][i].as_py(): [] for i in np.flatnonzero(apart)}
    if torn:
        for value, sample in zip(rows[thing].to_pylist(), rows["sample"].to_pylist(), strict=True):
            if value in torn:
                torn[value].append(sample)
    return sorted((value, sorted(members)) for value, members in torn.items())


def _torn_near_duplicates(
    store: Store, rows: pa.Table, places: list[str], images: list[str], similarity: float
) -> list[tuple[str, str, float]]:
    """Return the near-duplicates that are in several parts."""
    # Digests are as good as chance: the first ones are a fair sample.
    place_of = dict(
        zip(
            rows["image"].to_pylist(),
            zip(*(rows[name].to_pylist() for name in ["sample", *places]), strict=True),
            strict=True,
        )
    )
    found = []
    for one, other, alike in similar_pairs(read_spectra(store, images), similarity):
        (sample, *here), (second, *there) = place_of[images[one]], place_of[images[other]]
        if here != there:
            found.append((*sorted((sample, second)), alike))
            if len(found) == ENOUGH:
                break
    return sorted(found, key=lambda pair: (-pair[2], pair))
