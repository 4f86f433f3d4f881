"""Where data differ, batch by batch: who has to be looked at."""

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from defect_assets.dataset.difference import carried_by, difference
from defect_assets.dataset.masks import defective_pixels
from defect_assets.dataset.snapshot import Snapshot, read_snapshot
from defect_assets.dataset.split import read_split
from defect_assets.registry.comparison.differences import BatchDifference, DataDifference, parts_of
from defect_assets.store import Store


class Suspect(BaseModel):
    """A batch by which two versions of the data differ."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: BatchDifference
    samples: tuple[str, ...]
    """Those that differ by it."""
    learned: int
    """Of these, those that the one model or the other was trained or validated on."""
    area: float | None
    """Defective area of the relabelled ones after, by that before; None where there is none."""
    overlap: float | None
    """Dice of their masks before and after, pooled; 1: the same."""

    def __str__(self) -> str:
        text = f"{self.batch}; {self.learned} of them were learned from"
        if self.area is not None and self.overlap is not None:
            text += (
                f"; the relabelled have {self.area:.0%} of the defective area that they had "
                f"(Dice of old and new masks {self.overlap:.3f})"
            )
        return text


def suspects(store: Store, data: DataDifference) -> tuple[Suspect, ...]:
    """Return the batches by which two versions of the data differ, most learned samples first."""
    if not (data.splits.before and data.splits.after) or not data.batches:
        return ()
    before, after = (read_split(store, d) for d in (data.splits.before, data.splits.after))
    old, new = (read_snapshot(store, split.snapshot) for split in (before, after))
    changes = difference(store, old.batches, new.batches)
    origin = carried_by(store, old.batches, new.batches, changes)
    learned = {
        sample
        for split in (before, after)
        for sample, part in parts_of(store, split).items()
        if part != "test"
    }
    found = []
    for batch in data.batches:
        pins = new.batches if batch.added else old.batches
        samples = tuple(s for s, by in origin.items() if by.id == batch.id and by in pins)
        area, overlap = _masks(store, changes, samples, old, new)
        found.append(
            Suspect(
                batch=batch,
                samples=samples,
                learned=len(learned.intersection(samples)),
                area=area,
                overlap=overlap,
            )
        )
    return tuple(sorted(found, key=lambda suspect: -suspect.learned))


def _masks(
    store: Store, changes: pa.Table, samples: tuple[str, ...], old: Snapshot, new: Snapshot
) -> tuple[float | None, float | None]:
    """Return the area after by that before, and the pooled Dice, of what was relabelled."""
    kind = pc.equal(changes["change"], pa.scalar("relabelled"))
    rows = changes.filter(kind).select(["sample", "mask_before", "mask"]).to_pylist()
    was = now = common = 0
    for row in rows:
        if row["sample"] not in samples:
            continue
        shapes = [
            defective_pixels(store.objects.get(digest), snapshot.description) if digest else None
            for digest, snapshot in ((row["mask_before"], old), (row["mask"], new))
        ]
        sizes = [0 if shape is None else int(shape.sum()) for shape in shapes]
        was, now = was + sizes[0], now + sizes[1]
        if shapes[0] is not None and shapes[1] is not None and shapes[0].shape == shapes[1].shape:
            common += int((shapes[0] & shapes[1]).sum())
    if not was:
        return None, None
    return now / was, 2 * common / (was + now)
