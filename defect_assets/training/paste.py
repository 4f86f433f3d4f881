"""Pasting of defects onto defect-free images (Ghiasi et al. 2021), under the other's light.

There are far fewer parts with defects than without. A defect that is cut out of one and put onto
another is a new image of a defective part.
"""

import cv2
import numpy as np
from numpy.random import Generator

BACKGROUND = 0.1
"""Standard deviation of the blur that gives the background, as a share of the side."""
MIN_SURROUNDINGS = 0.05
"""The least share of a donor that must be free of the defect."""


def paste(
    image: np.ndarray, donor: np.ndarray, donor_mask: np.ndarray, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paste the defect of one image onto another.

    What is pasted is the defect's contrast to its surroundings, the difference of logarithms, so
    that it fits another exposure. The defect is turned, mirrored, scaled and moved at random; one
    that touches the rim of its image stays at a rim.

    Parameters
    ----------
    image
        Without a defect, uint8 of shape (H, W, channels).
    donor, donor_mask
        With a defect, uint8 of shape (H, W, channels) and (H, W): class ids.
    rng
        Of the random draws.

    Returns
    -------
    image, mask
        As the parameters. Where the donor shows nothing but the defect, there is nothing to
        compare it with, and the image is returned as it was, with an empty mask.
    """
    outside = cv2.dilate((donor_mask > 0).astype(np.uint8), np.ones((5, 5))) == 0
    if outside.mean() < MIN_SURROUNDINGS:
        return image, np.zeros_like(donor_mask)
    contrast, mask = _move(_contrast(donor, outside), donor_mask, rng)
    if not mask.any():
        return image, mask
    alpha = cv2.dilate((mask > 0).astype(np.float32), np.ones((3, 3)))
    alpha = cv2.GaussianBlur(alpha, (0, 0), 1)[..., None]
    log = np.log1p(image.astype(np.float32))
    pasted = _blur(log) + contrast * rng.uniform(0.7, 1.3)
    mixed = np.expm1(alpha * pasted + (1 - alpha) * log)
    return np.clip(mixed, 0, 255).astype(np.uint8), mask


def _contrast(donor: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Return an image's logarithm without its background, float32 of shape (H, W, channels)."""
    log = np.log1p(donor.astype(np.float32))
    weight = outside.astype(np.float32)[..., None]
    mean = (log * weight).sum(axis=(0, 1)) / weight.sum()
    # Far from what is outside of the defect, the background is its mean.
    background = (_blur(log * weight) + 1e-3 * mean) / (_blur(weight) + 1e-3)
    return log - background


def _blur(values: np.ndarray) -> np.ndarray:
    sigma = BACKGROUND * np.sqrt(values.shape[0] * values.shape[1])
    return cv2.GaussianBlur(values, (0, 0), float(sigma)).reshape(values.shape)


def _move(contrast: np.ndarray, mask: np.ndarray, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mirror, turn, scale and shift a defect."""
    height, width = mask.shape
    at_rim = mask[[0, -1]].any() or mask[:, [0, -1]].any()
    for axis in (0, 1):
        if rng.random() < 0.5:
            contrast, mask = np.flip(contrast, axis), np.flip(mask, axis)
    reach = 0.03 if at_rim else 0.3
    shift = rng.uniform(-reach, reach, 2) * (width, height)
    centre = ((width - 1) / 2, (height - 1) / 2)
    angle, scale = rng.uniform(-20, 20), np.exp(rng.uniform(-0.26, 0.26))
    matrix = cv2.getRotationMatrix2D(centre, angle, scale) + np.pad(
        shift[:, None], ((0, 0), (2, 0))
    )
    border = cv2.BORDER_REPLICATE if at_rim else cv2.BORDER_CONSTANT
    size = (width, height)
    moved = cv2.warpAffine(np.ascontiguousarray(contrast), matrix, size, borderMode=border)
    moved_mask = cv2.warpAffine(
        np.ascontiguousarray(mask), matrix, size, flags=cv2.INTER_NEAREST, borderMode=border
    )
    return moved.reshape(contrast.shape), moved_mask
