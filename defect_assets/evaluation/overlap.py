"""How much two masks overlap."""


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
