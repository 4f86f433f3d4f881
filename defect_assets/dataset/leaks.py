"""What is in several places of a split that must be in one."""

from dataclasses import dataclass

import pyarrow as pa

from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import read_snapshot
from defect_assets.dataset.split import Split, divisions
from defect_assets.store import Store


@dataclass(frozen=True)
class Leaks:
    """What is torn apart by a split, or by one of its folds."""

    groups: list[str]
    """Groups, sorted."""
    images: list[list[str]]
    """Samples whose images are the same bit by bit, sorted."""

    def __bool__(self) -> bool:
        return bool(self.groups or self.images)


def leaks(store: Store, split: Split) -> Leaks:
    """Return what is in several parts of a split, or of one of its folds."""
    snapshot = read_snapshot(store, split.snapshot)
    rows = store.objects.get_table(split.rows)
    samples = samples_of(store, snapshot.batches, ("sample", "image"))
    # Both are sorted by sample.
    rows = rows.append_column("image", samples["image"])
    return Leaks(
        groups=[group for group, _ in _torn(rows, "group")],
        images=sorted(members for _, members in _torn(rows, "image")),
    )


def _torn(rows: pa.Table, thing: str) -> list[tuple[str, list[str]]]:
    """Return the values of a column that are in several parts, and their samples."""
    places = [name for name in divisions(rows) if name != "image"]
    found = rows.group_by(thing).aggregate(
        [(name, "count_distinct") for name in places] + [("sample", "list")]
    )
    return sorted(
        (row[thing], sorted(row["sample_list"]))
        for row in found.to_pylist()
        if any(row[f"{name}_count_distinct"] > 1 for name in places)
    )
