"""Defects one by one: which connected regions of the truth were found, and which were made up."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from defect_assets.evaluation.overlap import FOUND

Side = Literal["truth", "prediction"]


@dataclass(frozen=True)
class Region:
    """A connected region of one class, in the truth or in the prediction.

    Pixels that touch at a corner are connected.
    """

    side: Side
    class_id: int
    area_px: int
    covered: float
    """Share of its pixels that the other side takes for a defect of any class."""
    covered_by_class: float
    """Share of its pixels that the other side takes for a defect of this class."""
    other: int
    """The class that the other side gives most of them; 0 where it sees no defect."""
    confidence: float
    """Mean probability of a defect over the region."""

    @property
    def matched(self) -> bool:
        """Whether the other side has a defect here, of whichever class."""
        return self.covered >= FOUND

    @property
    def matched_by_class(self) -> bool:
        """Whether the other side has a defect of this class here."""
        return self.covered_by_class >= FOUND


def regions(
    truth: np.ndarray, prediction: np.ndarray, probability: np.ndarray, classes: int
) -> list[Region]:
    """Return the regions of both sides of one image, each held against the other side.

    Parameters
    ----------
    truth, prediction
        uint8 of shape (H, W): class ids, 0 for none.
    probability
        float32 of shape (H, W): how probably each pixel is part of any defect.
    classes
        How many classes of defect there are.
    """
    return [
        *_held_against(truth, prediction, probability, classes, "truth"),
        *_held_against(prediction, truth, probability, classes, "prediction"),
    ]


def _held_against(
    mask: np.ndarray, other: np.ndarray, probability: np.ndarray, classes: int, side: Side
) -> Iterator[Region]:
    present = np.flatnonzero(np.bincount(mask[mask > 0], minlength=classes + 1))
    for class_id in present.tolist():
        inside = mask == class_id
        count, labels = cv2.connectedComponents(inside.astype(np.uint8), connectivity=8)
        label = labels[inside] - 1
        votes = np.bincount(
            label * (classes + 1) + other[inside], minlength=(count - 1) * (classes + 1)
        ).reshape(count - 1, classes + 1)
        area = votes.sum(axis=1)
        confidence = np.bincount(label, weights=probability[inside]) / area
        for row, pixels, mean in zip(votes, area.tolist(), confidence.tolist(), strict=True):
            seen = int(row[1:].sum())
            yield Region(
                side,
                class_id,
                pixels,
                seen / pixels,
                int(row[class_id]) / pixels,
                1 + int(row[1:].argmax()) if seen else 0,
                mean,
            )
