"""Choosing the threshold, on the validation split only."""

from collections.abc import Iterable

import numpy as np

_BINS = 200


def best_threshold(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the threshold with the highest pooled Dice.

    Parameters
    ----------
    pairs
        For each image the probabilities of a defect, float of shape (H, W), and the truth, bool
        of the same shape.

    Returns
    -------
    float
        A multiple of 0.005, between 0.05 and 0.95; of equally good ones the middle one. One half
        where no pixel is defective.
    """
    defective = np.zeros(_BINS, np.int64)
    sound = np.zeros(_BINS, np.int64)
    for probability, truth in pairs:
        bins = np.clip((probability * _BINS).astype(np.int64), 0, _BINS - 1)
        defective += np.bincount(bins[truth], minlength=_BINS)
        sound += np.bincount(bins[~truth], minlength=_BINS)
    if not defective.any():
        return 0.5
    # At threshold i/_BINS all pixels in bins i and above count as found.
    found = defective[::-1].cumsum()[::-1]
    false = sound[::-1].cumsum()[::-1]
    score = 2 * found / (found + false + defective.sum())
    lowest, highest = _BINS // 20, _BINS - _BINS // 20
    best = np.flatnonzero(np.isclose(score, score[lowest : highest + 1].max()))
    best = best[(best >= lowest) & (best <= highest)]
    return float(best[len(best) // 2]) / _BINS
