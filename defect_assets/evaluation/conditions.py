"""Where a model is good and where it is not: the same scores, by condition."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from defect_assets.evaluation.bootstrap import RESAMPLES, bounds, draws, intervals
from defect_assets.evaluation.scores import Measurement

Condition = Literal["exposure", "batch", "brightness"]
SCORES = ("dice", "region_recall", "region_precision", "false_alarms", "escapes")
"""What is measured in each slice."""
_MOST = 20
"""Batches, or exposures, that are told apart; those with most images."""


class Slice(BaseModel):
    """The scores of the images under one condition."""

    model_config = ConfigDict(frozen=True)

    condition: Condition
    value: str
    images: int
    groups: int
    scores: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    """95 % intervals, resampled by part."""


class SizeBin(BaseModel):
    """How well defects of some sizes are found."""

    model_config = ConfigDict(frozen=True)

    from_px: int
    to_px: int
    """The largest area, in pixels of the original image."""
    regions: int
    """Connected regions of the truth of these sizes."""
    recall: float
    """Share of them that were found."""
    detections: int
    """Connected regions of the prediction of these sizes."""
    precision: float | None
    """Share of them where there is a defect."""
    intervals: dict[Literal["recall", "precision"], tuple[float, float]]


def by_condition(table: pd.DataFrame, resamples: int = RESAMPLES) -> tuple[Slice, ...]:
    """Return the scores under each exposure, of each batch, and by quarters of brightness.

    A condition that is the same for all images is left out.

    Parameters
    ----------
    table
        One row per image, from `defect_assets.evaluation.counts.count_image`.
    resamples
        For the intervals.
    """
    return tuple(
        _slice(table[chosen], condition, value, resamples)
        for condition, value, chosen in _values(table)
    )


def _values(table: pd.DataFrame) -> Iterator[tuple[Condition, str, "pd.Series[bool]"]]:
    names: tuple[Condition, ...] = ("exposure", "batch")
    for condition in names:
        images = table[condition].value_counts()
        if len(images) > 1:
            for value in sorted(images.index[:_MOST]):
                yield condition, value or "(none given)", table[condition] == value
    quarter = pd.qcut(table["brightness"], 4, duplicates="drop").cat
    if len(quarter.categories) > 1:
        for code in range(len(quarter.categories)):
            chosen = quarter.codes == code
            grey = table.loc[chosen, "brightness"]
            yield "brightness", f"{grey.min():.0f} – {grey.max():.0f}", chosen


def _slice(table: pd.DataFrame, condition: Condition, value: str, resamples: int) -> Slice:
    measure = Measurement(table, [])
    measured = measure(np.ones((1, len(measure.groups))))
    found = intervals(table, [], resamples)
    return Slice(
        condition=condition,
        value=value,
        images=len(table),
        groups=len(measure.groups),
        scores={
            name: float(measured[name][0]) if np.isfinite(measured[name][0]) else None
            for name in SCORES
        },
        intervals={name: found[name] for name in SCORES if name in found},
    )


def by_size(
    regions: pd.DataFrame, groups: list[str], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[SizeBin, ...]:
    """Return how well the smallest quarter of the defects is found, the next, and so on.

    Parameters
    ----------
    regions
        One row per region, from `defect_assets.evaluation.counter.Evaluation`.
    groups
        All physical parts, also those without a defect.
    resamples, seed
        Of the intervals.
    """
    truth = regions[regions["side"] == "truth"]
    if truth.empty:
        return ()
    upper = np.unique(np.quantile(truth["area_px"], [0.25, 0.5, 0.75, 1]).astype(int))
    lower = np.concatenate([[0], upper[:-1]])
    sums = []
    for side in ("truth", "prediction"):
        rows = regions[regions["side"] == side]
        part = pd.Index(groups).get_indexer(pd.Index(rows["group"]))
        size = np.searchsorted(upper, rows["area_px"])
        # Regions that are matched, and all, by part and size.
        for weight in (rows["matched"].to_numpy(float), np.ones(len(rows))):
            counts = np.zeros((len(groups), len(upper) + 1))
            np.add.at(counts, (part, size), weight)
            sums.append(counts[:, :-1])  # detections larger than any defect are in no bin
    matrix = np.stack(sums)
    found, there, right, detections = matrix.sum(axis=1)
    drawn = [weights @ matrix for weights in draws(len(groups), resamples, seed)]
    resampled = np.concatenate(drawn, axis=1)  # (4, resamples, sizes)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, precision = resampled[0] / resampled[1], resampled[2] / resampled[3]
    return tuple(
        SizeBin(
            from_px=int(lower[i]) + 1,
            to_px=int(upper[i]),
            regions=int(there[i]),
            recall=float(found[i] / there[i]),
            detections=int(detections[i]),
            precision=float(right[i] / detections[i]) if detections[i] else None,
            intervals=bounds({"recall": recall[:, i], "precision": precision[:, i]}),
        )
        for i in range(len(upper))
    )
