"""Pictures of images with their masks, for people."""

from collections.abc import Sequence

import cv2
import numpy as np


def overlay(image: np.ndarray, mask: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Draw a mask over an image: a light tint inside, a clear outline around.

    Parameters
    ----------
    image
        uint8, H × W or H × W × 3 (RGB).
    mask
        uint8 of shape (H, W): class ids, 0 for none.
    palette
        RGB of each class id, uint8 of shape (1 + classes, 3).

    Returns
    -------
    numpy.ndarray
        uint8 of shape (H, W, 3), RGB.
    """
    picture = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image.copy()
    inside = mask > 0
    picture[inside] = (0.65 * picture[inside] + 0.35 * palette[mask[inside]]).astype(np.uint8)
    for class_id in np.unique(mask[inside]):
        contours, _ = cv2.findContours(
            (mask == class_id).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        color = tuple(int(v) for v in palette[class_id])
        cv2.drawContours(picture, contours, -1, color, thickness=2)
    return picture


def contact_sheet(pictures: Sequence[np.ndarray], columns: int, cell: int = 160) -> np.ndarray:
    """Arrange RGB pictures on a grid of square cells, each whole and in its own proportions.

    Returns
    -------
    numpy.ndarray
        uint8 RGB.
    """
    rows = -(-len(pictures) // columns)
    gap = 4
    sheet = np.full((rows * (cell + gap), columns * (cell + gap), 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        scale = cell / max(picture.shape[:2])
        height, width = (max(1, round(s * scale)) for s in picture.shape[:2])
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        top = (i // columns) * (cell + gap) + (cell - height) // 2
        left = (i % columns) * (cell + gap) + (cell - width) // 2
        sheet[top : top + height, left : left + width] = small
    return sheet
