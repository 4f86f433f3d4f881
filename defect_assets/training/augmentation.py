"""Random changes of training images, by albumentations."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its version

import random
from collections.abc import Mapping, Sequence
from typing import Any

import albumentations as A
import numpy as np


def build_transform(transform: Mapping[str, Mapping[str, Any]]) -> A.BasicTransform:
    """Return a transform of albumentations from its name and arguments.

    Raises
    ------
    ValueError
        If there is no such transform, or it does not take these arguments.

    Examples
    --------
    >>> build_transform({"HorizontalFlip": {"p": 0.5}})
    HorizontalFlip(p=0.5)
    """
    if len(transform) != 1:
        raise ValueError(f"one name and its arguments, not {sorted(transform)}")
    [(name, arguments)] = transform.items()
    kind = getattr(A, name, None)
    if not (isinstance(kind, type) and issubclass(kind, A.BasicTransform)):
        raise ValueError(f"albumentations has no transform {name}")
    try:
        return kind(**arguments, strict=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


class Augmenter:
    """Changes images and masks at random.

    Parameters
    ----------
    transforms
        Names and arguments, see `build_transform`.
    """

    def __init__(self, transforms: Sequence[Mapping[str, Mapping[str, Any]]]) -> None:
        self._compose = A.Compose([build_transform(transform) for transform in transforms])

    def __call__(
        self, images: np.ndarray, masks: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return changed copies; the same seed gives the same changes.

        Parameters
        ----------
        images
            uint8 of shape (n, H, W, channels).
        masks
            uint8 of shape (n, H, W).
        seed
            Of the random draws.
        """
        # One stream of numbers for all transforms. (set_random_seed gives each its own, of the
        # same seed: an image is mirrored one way if and only if it is mirrored the other way.)
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        # Some transforms take grey images without an axis for their one channel only.
        flat = images[..., 0] if images.shape[-1] == 1 else images
        changed = [
            self._compose(image=image, mask=mask) for image, mask in zip(flat, masks, strict=True)
        ]
        return (
            np.stack([c["image"] for c in changed]).reshape(images.shape),
            np.stack([c["mask"] for c in changed]),
        )
