"""Choosing the threshold, on the validation split only."""

from collections.abc import Iterable
from math import ceil

import cv2
import numpy as np

from defect_assets.evaluation.overlap import FOUND
from defect_assets.inference.postprocessing import ThresholdGoal

Pairs = Iterable[tuple[np.ndarray, np.ndarray]]
"""For each image the probabilities of a defect, float of shape (H, W), and the truth, bool of the
same shape."""
_BINS = 200
_LOWEST, _HIGHEST = _BINS // 20, _BINS - _BINS // 20


def choose_threshold(pairs: Pairs, goal: ThresholdGoal, min_area_px: int = 1) -> float:
    """Return the threshold that serves a goal; see `best_threshold`, `threshold_for_recall`."""
    if goal.min_recall is not None:
        return threshold_for_recall(pairs, goal.min_recall, min_area_px)
    return best_threshold(pairs, min_area_px, goal.max_false_alarms)


def threshold_for_recall(pairs: Pairs, recall: float, min_area_px: int = 1) -> float:
    """Return the threshold with the fewest false alarms, of those that find enough defects.

    The higher the threshold, the fewer of both: so it is the highest that finds enough.

    Parameters
    ----------
    pairs
        The images.
    recall
        Which share of the defects, connected regions of the truth, has to be found.
    min_area_px
        A defect is found if the share `FOUND` of its pixels is, and if these are so many; all
        of them, if it has not as many.

    Returns
    -------
    float
        A multiple of 0.005, between 0.05 and 0.95. The lowest where none finds enough, one half
        where there is no defect.
    """
    found_up_to = []
    for probability, truth in pairs:
        _, labels = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
        label = labels[truth]
        by_defect = _bins(probability[truth])[np.argsort(label, kind="stable")]
        ends = np.cumsum(np.bincount(label)[1:])
        for bins in np.split(by_defect, ends[:-1]) if truth.any() else []:
            nth = max(ceil(FOUND * bins.size), min(min_area_px, bins.size))
            found_up_to.append(np.partition(bins, -nth)[-nth])
    if not found_up_to:
        return 0.5
    # At threshold i/_BINS those defects are found that are found up to bin i or above.
    enough = [
        i
        for i in range(_LOWEST, _HIGHEST + 1)
        if np.mean(np.array(found_up_to) >= i) >= recall - 1e-9
    ]
    return max(enough, default=_LOWEST) / _BINS


def best_threshold(
    pairs: Pairs,
    min_area_px: int = 1,
    max_false_alarms: float = 1,
) -> float:
    """Return the threshold with the highest pooled Dice, of those with few false alarms.

    Parameters
    ----------
    pairs
        The images.
    min_area_px
        A defect-free image is a false alarm if at least so many pixels are found in it. (That they
        touch is not asked for, so there may be fewer false alarms than this counts.)
    max_false_alarms
        The share of defect-free images that may be.

    Returns
    -------
    float
        A multiple of 0.005, between 0.05 and 0.95; of equally good ones the middle one. One half
        where no pixel is defective; the highest where none has so few false alarms.
    """
    defective = np.zeros(_BINS, np.int64)
    sound = np.zeros(_BINS, np.int64)
    alarms = []
    for probability, truth in pairs:
        bins = _bins(probability)
        defective += np.bincount(bins[truth], minlength=_BINS)
        sound += np.bincount(bins[~truth], minlength=_BINS)
        if not truth.any():
            nth = min(min_area_px, bins.size)
            alarms.append(int(np.partition(bins, -nth, axis=None)[-nth]))
    lowest, highest = _LOWEST, _HIGHEST
    if alarms:
        # At threshold i/_BINS those images are false alarms whose alarm is in bin i or above.
        share = [np.mean(np.array(alarms) >= i) for i in range(_BINS)]
        quiet = [i for i in range(lowest, highest + 1) if share[i] <= max_false_alarms]
        lowest = min(quiet, default=highest)
    if not defective.any():
        return max(0.5, lowest / _BINS)
    # At threshold i/_BINS all pixels in bins i and above count as found.
    found = defective[::-1].cumsum()[::-1]
    false = sound[::-1].cumsum()[::-1]
    score = 2 * found / (found + false + defective.sum())
    best = np.flatnonzero(np.isclose(score, score[lowest : highest + 1].max()))
    best = best[(best >= lowest) & (best <= highest)]
    return float(best[len(best) // 2]) / _BINS


def _bins(probability: np.ndarray) -> np.ndarray:
    return np.clip((probability * _BINS).astype(np.int64), 0, _BINS - 1)
