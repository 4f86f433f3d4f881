"""From the network's probabilities to a mask, defects and a verdict."""

from collections.abc import Sequence
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

    model_config = ConfigDict(use_attribute_docstrings=True)

    class_id: int
    class_name: str
    confidence: float = Field(ge=0, le=1)
    """Mean probability of a defect over the region."""
    bbox_xyxy: tuple[int, int, int, int]
    """Left, top, right and bottom; right and bottom are just outside the region."""
    centroid_xy: tuple[float, float]
    area_px: int
    major_axis: float
    """Length in pixels of the ellipse that has the region's second moments."""
    minor_axis: float
    """Its width in pixels."""
    angle_deg: float
    """Where its longer axis points: 0 along x, 45 down to the right, in (-90, 90]."""


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

    def __call__(
        self, probabilities: Sequence[np.ndarray] | np.ndarray, class_names: dict[int, str]
    ) -> Analysis:
        """Find the defects.

        Parameters
        ----------
        probabilities
            1 + classes maps, float32 of shape (H, W), in [0, 1]; the first is the background's.
            Each pixel sums to one. Those of the classes are asked for only if there is a defect,
            one after the other.
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
        mask = np.zeros(defective.shape, np.uint8)
        place, labels, stats, centroids = _regions(defective >= self.threshold)
        kept = self._large_enough(stats)
        if not len(kept):
            _, _, doubtful, _ = _regions(defective >= self.review_threshold)
            verdict: Verdict = "uncertain" if len(self._large_enough(doubtful)) else "ok"
            return Analysis(verdict, [], mask, defective)

        # Sums over all regions at once, dropped ones included, of their own pixels alone.
        where = np.flatnonzero(labels)
        region = labels.ravel()[where]

        def mean(values: np.ndarray) -> np.ndarray:
            return np.bincount(region, values, len(stats)) / np.maximum(stats[:, _AREA], 1)

        confidence = mean(defective[place].ravel()[where]).clip(0, 1)
        evidence = [mean(probabilities[c][place].ravel()[where]) for c in sorted(class_names)]
        class_of = 1 + np.argmax(evidence, axis=0)
        y, x = np.divmod(where, labels.shape[1])
        x, y = x - centroids[region, 0], y - centroids[region, 1]
        major, minor, angle = axes(mean(x * x), mean(y * y), mean(x * y))

        paint = np.zeros(len(stats), np.uint8)
        paint[kept] = class_of[kept]
        largest = kept[np.argsort(-stats[kept, _AREA], kind="stable")]
        mask[place] = paint[labels]
        rows, columns = place
        stats[:, :2] += columns.start, rows.start
        left, top, width, height, area = stats[largest].T.tolist()
        defects = [
            Defect(
                class_id=class_id,
                class_name=class_names[class_id],
                confidence=sure,
                bbox_xyxy=(x0, y0, x0 + w, y0 + h),
                centroid_xy=(cx, cy),
                area_px=size,
                major_axis=long,
                minor_axis=short,
                angle_deg=turned,
            )
            for class_id, sure, x0, y0, w, h, (cx, cy), size, long, short, turned in zip(
                class_of[largest].tolist(),
                confidence[largest].tolist(),
                left,
                top,
                width,
                height,
                (centroids[largest] + (columns.start, rows.start)).tolist(),
                area,
                major[largest].tolist(),
                minor[largest].tolist(),
                angle[largest].tolist(),
                strict=True,
            )
        ]
        return Analysis("ng", defects, mask, defective)

    def _large_enough(self, stats: np.ndarray) -> np.ndarray:
        """Return the labels of the regions that count; 0 is the background's."""
        return 1 + np.flatnonzero(stats[1:, _AREA] >= self.min_area_px)


def _regions(
    mask: np.ndarray,
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray, np.ndarray]:
    """Return the box that holds all regions of a mask, rows and columns; and in it their labels
    (H, W) and, by label, OpenCV's statistics and the centre.

    OpenCV looks for regions in most of the time of all postprocessing, even where there is none;
    of its algorithms this one takes a third of the default's.
    """
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    place = (slice(top, top + height), slice(left, left + width))
    if not width:
        return place, np.zeros((0, 0), np.int32), np.zeros((1, 5), np.int32), np.zeros((1, 2))
    _, labels, stats, centroids = cv2.connectedComponentsWithStatsWithAlgorithm(
        mask[place].view(np.uint8), 8, cv2.CV_32S, cv2.CCL_BBDT
    )
    return place, labels, stats, centroids


def axes(
    variance_x: np.ndarray, variance_y: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return length, width and direction of regions from their second central moments.

    Those of the ellipse with the same moments: a filled ellipse with semi-axis a has the variance
    a² / 4 along it, so its axis is four standard deviations long. The standard deviations are the
    roots of the covariance matrix's eigenvalues, the direction is that of its first eigenvector
    (M.-K. Hu, Visual pattern recognition by moment invariants, IRE Transactions on Information
    Theory 8, 1962; the same as ``regionprops`` of scikit-image). A pixel is a square, not a point,
    which adds 1/12 to each variance.

    Parameters
    ----------
    variance_x, variance_y, covariance
        Of the pixels' centres, in square pixels, by region; y points down.

    Returns
    -------
    tuple of numpy.ndarray
        Major and minor axis in pixels, and the major one's angle to the x axis in degrees,
        clockwise as one sees it, in (-90, 90]; 0 where there is no longer axis.

    Examples
    --------
    >>> along, across, angle = axes(np.array([2.0]), np.array([2.0]), np.array([1.0]))
    >>> print(along.round(2), across.round(2), angle)
    [7.02] [4.16] [45.]
    """
    half_sum = (variance_x + variance_y) / 2 + 1 / 12
    difference = np.hypot((variance_x - variance_y) / 2, covariance)
    angle = np.degrees(np.arctan2(2 * covariance, variance_x - variance_y)) / 2
    return (
        4 * np.sqrt(half_sum + difference),
        4 * np.sqrt(np.maximum(half_sum - difference, 0)),
        np.where(angle == -90, 90.0, angle),
    )


_AREA = cv2.CC_STAT_AREA
