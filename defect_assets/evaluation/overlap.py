"""How much two masks overlap."""

FOUND = 0.1
"""Which share of a region has to be covered for it to count as found: an operator who is shown
that much sees the rest."""


def dice(tp: int, fp: int, fn: int) -> float:
    """Return the Dice coefficient, 2 TP / (2 TP + FP + FN); 1 where there is nothing to find.

    >>> dice(tp=1, fp=1, fn=1)
    0.5
    """
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0


def iou(tp: int, fp: int, fn: int) -> float:
    """Return the intersection over union, TP / (TP + FP + FN); 1 where there is nothing to find.

    >>> iou(tp=1, fp=1, fn=0)
    0.5
    """
    return tp / (tp + fp + fn) if tp + fp + fn else 1.0
