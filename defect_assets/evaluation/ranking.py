"""How well a score tells defective from defect-free images, whatever the threshold.

Images count as often as they were drawn, so that one resample or ten thousand are the same call.
"""

import numpy as np

_CELLS = 5_000_000
"""Numbers (resamples × images) that are in memory at once."""


def rank(
    score: np.ndarray, defective: np.ndarray, drawn: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the area under the ROC curve, and the average precision, of each resample.

    The area is how often a defective image has a higher score than a defect-free one; equal scores
    count half (Mann and Whitney 1947). The average precision is the sum over the distinct scores
    of the gain in recall times the precision there, without interpolation.

    Parameters
    ----------
    score
        Float of shape (images,).
    defective
        Bool of shape (images,).
    drawn
        How often each image was drawn, of shape (resamples, images).

    Returns
    -------
    tuple of numpy.ndarray
        Float of shape (resamples,); not a number where only one of the two kinds was drawn.
    """
    order = np.argsort(-score, kind="stable")
    # Images of equal score are one step of the curve.
    starts = np.flatnonzero(np.diff(score[order], prepend=np.inf))
    chunk = max(1, _CELLS // len(score))
    parts = [
        _rank(drawn[first : first + chunk][:, order].astype(float), defective[order], starts)
        for first in range(0, len(drawn), chunk)
    ]
    auroc, precision = zip(*parts, strict=True)
    return np.concatenate(auroc), np.concatenate(precision)


def _rank(
    drawn: np.ndarray, defective: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    positive = np.add.reduceat(drawn * defective, starts, axis=1)
    negative = np.add.reduceat(drawn * ~defective, starts, axis=1)
    positives, negatives = positive.sum(axis=1), negative.sum(axis=1)
    found = np.cumsum(positive, axis=1)
    false = np.cumsum(negative, axis=1)
    both = (positives > 0) & (negatives > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        above = (negative * (found - positive / 2)).sum(axis=1)
        auroc = above / (positives * negatives)
        # Where nothing was drawn yet, nothing is gained either.
        precision = found / np.maximum(found + false, 1)
        average = (positive * precision).sum(axis=1) / positives
    return np.where(both, auroc, np.nan), np.where(both, average, np.nan)
