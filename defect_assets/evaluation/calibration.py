"""Whether probabilities mean what they say: of the pixels with 0.7, are 70 % defective?

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, for the
probability of a defect at each pixel of the original image: 15 bins of equal width; in each, the
mean probability beside the share of defective pixels; the expected calibration error (ECE) is the
mean of their distance, weighted by pixels. As nearly all pixels are plainly sound, the ECE is small
by nature: the curve says more.
"""

import numpy as np
from pydantic import BaseModel, ConfigDict

from defect_assets.evaluation.collected import Collected

BINS = 15


class ReliabilityBin(BaseModel):
    """Pixels whose probability is in one bin."""

    model_config = ConfigDict(frozen=True)

    pixels: int
    probability: float | None
    """Their mean; None where there are none."""
    defective: float | None
    """Share of them that are."""


class Reliability(Collected):
    """Collects what the reliability curve needs, image by image.

    Its sums, of shape (groups, 3 · bins), are of the pixels in each bin their number, their
    probabilities, and how many are defective.
    """

    def add(self, group: str, truth: np.ndarray, probability: np.ndarray) -> None:
        """Add an image.

        Parameters
        ----------
        group
            The physical part that it shows.
        truth
            Bool of shape (H, W): what is defective.
        probability
            float32 of shape (H, W): how probably it is so.
        """
        flat = probability.ravel()
        bins = np.minimum((flat * BINS).astype(np.int64), BINS - 1)
        counted = [
            np.bincount(bins, minlength=BINS),
            np.bincount(bins, weights=flat, minlength=BINS),
            np.bincount(bins[truth.ravel()], minlength=BINS),
        ]
        self._collect(group, np.concatenate(counted))


def calibration_error(sums: np.ndarray) -> np.ndarray:
    """Return the expected calibration error of each resample, float of shape (resamples,).

    Parameters
    ----------
    sums
        Of the drawn parts, float of shape (resamples, 45); see `Reliability`.
    """
    pixels, probability, defective = np.split(sums, 3, axis=1)
    with np.errstate(invalid="ignore"):
        return np.abs(probability - defective).sum(axis=1) / pixels.sum(axis=1)


def reliability_curve(sums: np.ndarray) -> tuple[ReliabilityBin, ...]:
    """Return the bins, from the lowest probability up, of sums of shape (45,)."""
    return tuple(
        ReliabilityBin(
            pixels=int(pixels),
            probability=round(float(probability / pixels), 6) if pixels else None,
            defective=round(float(defective / pixels), 6) if pixels else None,
        )
        for pixels, probability, defective in zip(*np.split(sums, 3), strict=True)
    )
