"""Random changes of training images, by albumentations."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its version

import albumentations as A
import cv2
import numpy as np

from defect_assets.training.config import Augmentation


class Augmenter:
    """Changes images and masks at random; the same seed gives the same changes.

    Parameters
    ----------
    config
        Which changes, and how strong.
    seed
        Of the random draws.
    """

    def __init__(self, config: Augmentation, seed: int) -> None:
        changes: list[A.BasicTransform] = []
        if config.flips:
            changes += [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
        if config.rotation or config.scale:
            changes.append(
                A.Affine(
                    rotate=(-config.rotation, config.rotation),
                    scale=(1 - config.scale, 1 + config.scale),
                    border_mode=cv2.BORDER_REFLECT_101,
                    p=0.5,
                )
            )
        if config.brightness or config.contrast:
            changes.append(A.RandomBrightnessContrast(config.brightness, config.contrast, p=0.5))
        if config.noise:
            changes.append(A.GaussNoise(std_range=(0, config.noise), p=0.3))
        self._compose = A.Compose(changes, seed=seed)

    def __call__(self, images: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return changed copies.

        Parameters
        ----------
        images
            uint8 of shape (n, H, W, channels).
        masks
            uint8 of shape (n, H, W).
        """
        changed = [
            self._compose(image=image, mask=mask) for image, mask in zip(images, masks, strict=True)
        ]
        return (
            np.stack([c["image"] for c in changed]).reshape(images.shape),
            np.stack([c["mask"] for c in changed]),
        )
