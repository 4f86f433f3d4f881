"""From the network's probabilities to a mask, defects and a verdict."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

Verdict = Literal["ok", "ng", "uncertain"]


class Defect(BaseModel):
    """One connected region of an image that is taken for a defect.

    Coordinates are pixels of the original image, x to the right and y down from its upper left
    corner.
    """

    class_id: int
    class_name: str
    confidence: float = Field(ge=0, le=1)
    """Mean probability of a defect over the region."""
    bbox_xyxy: tuple[int, int, int, int]
    """Left, top, right and bottom; right and bottom are just outside the region."""
    centroid_xy: tuple[float, float]
    area_px: int


@dataclass(frozen=True)
class Analysis:
    """What was found in one image."""

    verdict: Verdict
    defects: list[Defect]
    mask: np.ndarray
    """uint8 of shape (H, W), in the original image's size: class ids, 0 for none."""
    probability: np.ndarray
    """float32 of shape (H, W): how probably each pixel is part of any defect."""


class ThresholdGoal(BaseModel):
    """What a threshold was chosen for, on the validation split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_recall: float | None = Field(default=None, gt=0, le=1)
    """The fewest false alarms, with at least this share of the defects found; None: the highest
    Dice."""
    max_false_alarms: float = Field(default=1, ge=0, le=1)
    """The highest Dice, with at most this share of the defect-free images taken for defective."""

    def __str__(self) -> str:
        if self.min_recall is not None:
            return (
                f"the fewest false alarms with at least {self.min_recall:.0%} of the defects found"
            )
        limit = f" with at most {self.max_false_alarms:.0%} false alarms"
        return f"the highest Dice{limit if self.max_false_alarms < 1 else ''}"


class Postprocessing(BaseModel):
    """What counts as a defect. The thresholds are chosen on the validation split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(default=0.5, gt=0, lt=1)
    """A pixel is defective if its probability of being so is at least this."""
    review_threshold: float = Field(default=0.25, gt=0, lt=1)
    """If there is no defect, but there would be one at this lower threshold, the verdict is
    ``uncertain``: a person should look."""
    min_area_px: int = Field(default=1, ge=1)
    """Smaller regions are dropped; in pixels of the original image."""
    goal: ThresholdGoal | None = None
    """What `threshold` was chosen for; None in bundles from before it was recorded."""

    @model_validator(mode="after")
    def _review_below_threshold(self) -> "Postprocessing":
        if self.review_threshold > self.threshold:
            raise ValueError("review_threshold must not be above threshold")
        return self

    def __call__(self, probabilities: np.ndarray, class_names: dict[int, str]) -> Analysis:
        """Find the defects.

        Parameters
        ----------
        probabilities
            float32 of shape (1 + classes, H, W), in [0, 1]; channel 0 is the background. Each
            pixel sums to one.
        class_names
            The name of each class id from 1 on.

        Returns
        -------
        Analysis
            Its defects sorted by area, largest first; a region has one class. The verdict is
            ``ng`` if there is a defect, ``uncertain`` if there is one at the review threshold
            only, else ``ok``.
        """
        defective = 1.0 - probabilities[0]
        labels, regions = self._regions(defective >= self.threshold)
        if not regions:
            mask = np.zeros(defective.shape, np.uint8)
            _, doubtful = self._regions(defective >= self.review_threshold)
            return Analysis("uncertain" if doubtful else "ok", [], mask, defective)

        # Sums over all labelled regions at once, background and dropped ones included.
        flat = labels.ravel()
        area = np.bincount(flat)
        confidence = np.bincount(flat, weights=defective.ravel()) / np.maximum(area, 1)
        evidence = np.stack([np.bincount(flat, weights=p.ravel()) for p in probabilities[1:]])
        class_of = 1 + evidence.argmax(axis=0)

        paint = np.zeros(len(area), np.uint8)
        defects = []
        for label, (left, top, width, height), (x, y) in regions:
            class_id = int(class_of[label])
            paint[label] = class_id
            defects.append(
                Defect(
                    class_id=class_id,
                    class_name=class_names[class_id],
                    confidence=float(np.clip(confidence[label], 0, 1)),
                    bbox_xyxy=(left, top, left + width, top + height),
                    centroid_xy=(x, y),
                    area_px=int(area[label]),
                )
            )
        defects.sort(key=lambda defect: -defect.area_px)
        return Analysis("ng", defects, paint[labels], defective)

    def _regions(
        self, mask: np.ndarray
    ) -> tuple[np.ndarray, list[tuple[int, tuple[int, int, int, int], tuple[float, float]]]]:
        """Return the labels (H, W) and, for each region large enough, its label, box and centre."""
        count, labels, stats, centroids = cv2.connectedComponentsWithStats(
            mask.astype(np.uint8), connectivity=8
        )
        kept = [
            (
                label,
                (
                    int(stats[label, cv2.CC_STAT_LEFT]),
                    int(stats[label, cv2.CC_STAT_TOP]),
                    int(stats[label, cv2.CC_STAT_WIDTH]),
                    int(stats[label, cv2.CC_STAT_HEIGHT]),
                ),
                (float(centroids[label, 0]), float(centroids[label, 1])),
            )
            for label in range(1, count)
            if stats[label, cv2.CC_STAT_AREA] >= self.min_area_px
        ]
        return labels, kept
