"""What is counted in each image, so that images can be pooled in any way."""

import io
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd

from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.overlap import FOUND
from defect_assets.evaluation.regions import Region, regions
from defect_assets.inference.postprocessing import Analysis

ANY = "*"
"""Stands for any class of defect among the class names, none of which can be called so."""
_TEXT: dict[Hashable, type[str]] = dict.fromkeys(
    ("sample", "class", "group", "exposure", "batch", "verdict"), str
)
PIXELS = ("tp", "fp", "fn")
"""Pixels that are rightly found, wrongly found, and missed."""
REGIONS = ("found", "missed", "right", "wrong")
"""Defects that are found and missed; detections where there is a defect, and where there is
none. One detection may cover two defects, so found and right are not the same number."""


def count_image(
    truth: LabelledImage,
    analysis: Analysis,
    class_map: dict[int, str],
    found: Sequence[Region] | None = None,
) -> dict[str, Any]:
    """Return one row of the table that `defect_assets.evaluation.metrics.summarize` takes.

    Columns: sample, class, group, exposure, batch, brightness (mean grey value, 0 to 255),
    verdict, score (highest probability of a pixel), regions and regions_found (connected regions
    of defective pixels; those of whose pixels at least `FOUND` were taken for a defect). For each
    class, and as `ANY` for any of them, ``tp_…``, ``fp_…`` and ``fn_…`` in pixels and ``found_…``,
    ``missed_…``, ``right_…`` and ``wrong_…`` in regions. A pixel, or a region, is right in its
    class's columns only if the class is.

    Parameters
    ----------
    truth, analysis
        What there is, and what a model says.
    class_map
        The classes that it tells apart.
    found
        The regions of both, see `defect_assets.evaluation.regions.regions`, where they are at hand.
    """
    if found is None:
        found = regions(truth.mask, analysis.mask, analysis.probability, max(class_map))
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
    hits, missed = _whole_regions(truth.mask, analysis.mask)
    right, wrong = _whole_regions(analysis.mask, truth.mask)
    row |= {"regions": hits + missed, "regions_found": hits}
    row |= dict(zip(columns_of(ANY, REGIONS), (hits, missed, right, wrong), strict=True))
    for name, counts in _pixels(truth.mask, analysis.mask, class_map):
        row |= dict(zip(columns_of(name, PIXELS), counts, strict=True))
    for class_id, name in class_map.items():
        own = [r for r in found if r.class_id == class_id]
        sides = [[r.matched_by_class for r in own if r.side == side] for side in _SIDES]
        matched = [n for side in sides for n in (sum(side), len(side) - sum(side))]
        row |= dict(zip(columns_of(name, REGIONS), matched, strict=True))
    return row


_SIDES = ("truth", "prediction")


def columns_of(name: str, kinds: Iterable[str]) -> list[str]:
    """Return the columns of a class, e.g. ``tp_Crack``."""
    return [f"{kind}_{name}" for kind in kinds]


def read_counts(csv: bytes) -> pd.DataFrame:
    """Return the counts of images, one row each, as they were written."""
    return pd.read_csv(io.BytesIO(csv), dtype=_TEXT, keep_default_na=False, na_values=[""])


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
