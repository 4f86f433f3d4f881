"""What is counted in each image, so that images can be pooled in any way."""

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np

from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.overlap import FOUND
from defect_assets.evaluation.regions import Region
from defect_assets.inference.postprocessing import Analysis

ANY = "*"
"""Stands for any class of defect among the class names, none of which can be called so."""
PIXELS = ("tp", "fp", "fn")
"""Pixels that are rightly found, wrongly found, and missed."""
REGIONS = ("found", "missed", "right", "wrong")
"""Defects that are found and missed; detections where there is a defect, and where there is
none. One detection may cover two defects, so found and right are not the same number."""


def count_image(
    truth: LabelledImage,
    analysis: Analysis,
    class_map: dict[int, str],
    regions: Sequence[Region],
) -> dict[str, Any]:
    """Return one row of the table that `defect_assets.evaluation.metrics.summarize` takes.

    Columns: sample, class, group, exposure, batch, brightness (mean grey value, 0 to 255),
    verdict, score (highest probability of a pixel), regions and regions_found (connected regions
    of defective pixels; those of whose pixels at least `FOUND` were taken for a defect). For each
    class, and as `ANY` for any of them, ``tp_…``, ``fp_…`` and ``fn_…`` in pixels and ``found_…``,
    ``missed_…``, ``right_…`` and ``wrong_…`` in regions. A pixel, or a region, is right in its
    class's columns only if the class is.
    """
    row: dict[str, Any] = {
        "sample": truth.sample,
        "class": truth.class_name,
        "group": truth.group,
        "exposure": truth.exposure,
        "batch": truth.batch,
        "brightness": round(float(truth.image.mean()), 2),
        "verdict": analysis.verdict,
        "score": round(float(analysis.probability.max()), 6),
    }
    found, missed = _whole_regions(truth.mask, analysis.mask)
    right, wrong = _whole_regions(analysis.mask, truth.mask)
    row |= {"regions": found + missed, "regions_found": found}
    row |= dict(zip(columns_of(ANY, REGIONS), (found, missed, right, wrong), strict=True))
    for name, counts in _pixels(truth.mask, analysis.mask, class_map):
        row |= dict(zip(columns_of(name, PIXELS), counts, strict=True))
    for class_id, name in class_map.items():
        own = [r for r in regions if r.class_id == class_id]
        hits = [[r.matched_by_class for r in own if r.side == side] for side in _SIDES]
        matched = [n for hit in hits for n in (sum(hit), len(hit) - sum(hit))]
        row |= dict(zip(columns_of(name, REGIONS), matched, strict=True))
    return row


_SIDES = ("truth", "prediction")


def columns_of(name: str, kinds: Iterable[str]) -> list[str]:
    """Return the columns of a class, e.g. ``tp_Crack``."""
    return [f"{kind}_{name}" for kind in kinds]


def _pixels(
    truth: np.ndarray, found: np.ndarray, class_map: dict[int, str]
) -> Iterable[tuple[str, tuple[int, int, int]]]:
    count = 1 + max(class_map)
    joint = np.bincount((truth.astype(np.intp) * count + found).ravel(), minlength=count**2)
    # Pixels by their class in truth (rows) and in the prediction (columns).
    joint = joint.reshape(count, count)
    yield ANY, (int(joint[1:, 1:].sum()), int(joint[0, 1:].sum()), int(joint[1:, 0].sum()))
    for class_id, name in class_map.items():
        tp = int(joint[class_id, class_id])
        yield name, (tp, int(joint[:, class_id].sum()) - tp, int(joint[class_id].sum()) - tp)


def _whole_regions(mask: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """Return how many connected regions, of whichever class, the other side covers, or not."""
    inside = mask > 0
    count, labels = cv2.connectedComponents(inside.astype(np.uint8), connectivity=8)
    label = labels[inside] - 1
    areas = np.bincount(label, minlength=count - 1)
    covered = np.bincount(label, weights=other[inside] > 0, minlength=count - 1)
    found = int((covered / areas >= FOUND).sum())
    return found, count - 1 - found
