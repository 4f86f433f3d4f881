"""Connected regions of a mask."""

from collections.abc import Iterator

import cv2
import numpy as np


def regions(mask: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the connected regions of each class; pixels that touch at a corner are connected.

    Parameters
    ----------
    mask
        uint8 of shape (H, W): class ids, 0 for none.

    Yields
    ------
    tuple[int, numpy.ndarray]
        The class id, and bool of shape (H, W).
    """
    for class_id in np.unique(mask[mask > 0]).tolist():
        count, labels = cv2.connectedComponents((mask == class_id).astype(np.uint8), connectivity=8)
        for label in range(1, count):
            yield class_id, labels == label
