"""AUPRO: how well defects are found at few false alarms, each defect counting the same.

Bergmann, Batzner, Fauser, Sattlegger and Steger, "The MVTec Anomaly Detection Dataset", IJCV 2021,
section 5.2. At a threshold t, the per-region overlap is the mean over all connected regions of the
truth of the share of their pixels whose probability is at least t, and the false-positive rate is
the share of all defect-free pixels of all images whose probability is. AUPRO is the area under the
one over the other, from no false positives to a rate of 0.3, divided by 0.3: 1 is perfect, and who
guesses has 0.15.
"""

import cv2
import numpy as np

from defect_assets.evaluation.collected import Collected

LIMIT = 0.3
BINS = 1024
_LOWEST = 2.0**-24
"""The smallest step of a float32 below 1, and so the smallest probability that is not 0."""
_SPAN = float(-2 * np.log(_LOWEST))


class RegionOverlap(Collected):
    """Collects what AUPRO needs, image by image.

    Probabilities are put into `BINS` bins of equal width in log-odds, 0.03 each: most pixels have
    a probability near 0, and there the curve is decided. Memory: 16 KB for each physical part.

    Its sums, of shape (groups, 2 · bins), are over the regions the share of their pixels in each
    bin, then the defect-free pixels in each bin.
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
        bins = log_odds_bins(probability)
        sound = np.bincount(bins[~truth], minlength=BINS)
        covered = np.zeros(BINS)
        if truth.any():
            count, labels = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
            label = labels[truth] - 1
            area = np.bincount(label, minlength=count - 1)
            covered += np.bincount(bins[truth], weights=1 / area[label], minlength=BINS)
        self._collect(group, np.concatenate([covered, sound]))


def log_odds_bins(probability: np.ndarray) -> np.ndarray:
    """Return the bin of each probability, from 0 to `BINS` - 1, of the same shape."""
    clipped = np.clip(probability, _LOWEST, 1 - _LOWEST)
    odds = np.log(clipped / (1 - clipped))
    return np.minimum((odds * (BINS / _SPAN) + BINS / 2).astype(np.int64), BINS - 1)


def pro_curve(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false-positive rates and per-region overlaps, from the highest threshold down.

    Parameters
    ----------
    sums
        Of the drawn parts, float of shape (resamples, 2 · bins); see `RegionOverlap`.

    Returns
    -------
    tuple of numpy.ndarray
        Both of shape (resamples, bins + 1), beginning with zeros. Not a number where there is no
        region, or no defect-free pixel.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        overlap, rate = (
            np.cumsum(half[:, ::-1], axis=1) / half.sum(axis=1, keepdims=True)
            for half in (sums[:, :BINS], sums[:, BINS:])
        )
    start = np.zeros((len(sums), 1))
    return np.hstack([start, rate]), np.hstack([start, overlap])


def aupro(sums: np.ndarray) -> np.ndarray:
    """Return the area under the curve up to `LIMIT`, float of shape (resamples,).

    Parameters
    ----------
    sums
        See `pro_curve`.
    """
    rate, overlap = pro_curve(sums)
    step = np.diff(rate, axis=1)
    inside = np.clip(LIMIT - rate[:, :-1], 0, step)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.where(step > 0, np.diff(overlap, axis=1) / step, 0)
    area = inside * (overlap[:, :-1] + slope * inside / 2)
    return np.where(np.isfinite(overlap[:, -1] + rate[:, -1]), area.sum(axis=1) / LIMIT, np.nan)
