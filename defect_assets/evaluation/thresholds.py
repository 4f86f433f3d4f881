"""Choosing the threshold, on the validation split only."""

from collections.abc import Iterable

import numpy as np

_BINS = 200


def best_threshold(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    min_area_px: int = 1,
    max_false_alarms: float = 1,
) -> float:
    """Return the threshold with the highest pooled Dice, of those with few false alarms.

    Parameters
    ----------
    pairs
        For each image the probabilities of a defect, float of shape (H, W), and the truth, bool
        of the same shape.
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
        bins = np.clip((probability * _BINS).astype(np.int64), 0, _BINS - 1)
        defective += np.bincount(bins[truth], minlength=_BINS)
        sound += np.bincount(bins[~truth], minlength=_BINS)
        if not truth.any():
            nth = min(min_area_px, bins.size)
            alarms.append(int(np.partition(bins, -nth, axis=None)[-nth]))
    lowest, highest = _BINS // 20, _BINS - _BINS // 20
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
