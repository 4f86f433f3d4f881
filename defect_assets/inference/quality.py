"""How an image was taken, in three numbers: what drift of a camera or its light shows in first."""

import cv2
import numpy as np
from pydantic import BaseModel

_SIDE = 512


class ImageQuality(BaseModel):
    """Of the grey values, 0 to 255."""

    brightness: float
    """Their mean."""
    contrast: float
    """Their standard deviation."""
    sharpness: float
    """The variance of the Laplacian (Pech-Pacheco et al. 2000), in the middle of the image: of a
    blurred image it is small. At most 512 × 512 pixels are looked at, at full resolution."""


def image_quality(image: np.ndarray) -> ImageQuality:
    """Measure an image, uint8 of shape H × W or H × W × 3 (RGB).

    Examples
    --------
    >>> image_quality(np.full((4, 4), 80, np.uint8))
    ImageQuality(brightness=80.0, contrast=0.0, sharpness=0.0)
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    mean, deviation = cv2.meanStdDev(grey)
    top, left = (max(0, (side - _SIDE) // 2) for side in grey.shape)
    middle = grey[top : top + _SIDE, left : left + _SIDE]
    _, edges = cv2.meanStdDev(cv2.Laplacian(middle, cv2.CV_32F))
    return ImageQuality(
        brightness=mean.item(), contrast=deviation.item(), sharpness=edges.item() ** 2
    )
