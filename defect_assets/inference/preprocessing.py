"""From a decoded image to the network's input; training, evaluation and service all pass here."""

from typing import Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class Preprocessing(BaseModel):
    """How an image becomes the network's input. The whole image is used: no border is cropped.

    Examples
    --------
    >>> preprocessing = Preprocessing(height=64, width=96)
    >>> preprocessing(np.zeros((400, 300), np.uint8)).shape
    (1, 64, 96)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(default=128, ge=32, multiple_of=32)
    """Height of the network's input, in pixels."""
    width: int = Field(default=128, ge=32, multiple_of=32)
    """Width of the network's input, in pixels."""
    resizing: Literal["stretch", "pad"] = "stretch"
    """``stretch``: to the input's height and width. ``pad``: as large as fits, the proportions
    kept, and the rim repeated on both sides of the shorter way."""
    channels: Literal[1, 3] = 1
    """1: grey. 3: colour (RGB)."""
    normalization: Literal["log_standardize", "standardize", "imagenet"] = "log_standardize"
    """``standardize``: zero mean and unit variance per image. ``log_standardize``: the same on
    the logarithm, so that the exposure, a factor, drops out. ``imagenet``: the statistics that
    ImageNet weights expect."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the network's input, float32 of shape (channels, height, width).

        Parameters
        ----------
        image
            uint8, H × W or H × W × 3 (RGB), of any size.
        """
        return self.normalize(self.fit(image)[None])[0]

    def fit(self, image: np.ndarray) -> np.ndarray:
        """Return the image in the input's size: uint8 (height, width, channels)."""
        if self.channels == 1 and image.ndim == 3:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        elif self.channels == 3 and image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
        fitted = self._place(image, cv2.BORDER_REPLICATE)
        return fitted.reshape(self.height, self.width, self.channels)

    def fit_cover(self, cover: np.ndarray) -> np.ndarray:
        """Return a map of an image, float32 (H, W), in the input's size; 0 beside the image."""
        return self._place(cover, cv2.BORDER_CONSTANT)

    def restore(self, maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Bring maps of the network's input back to an image: the inverse of `fit`.

        Parameters
        ----------
        maps
            float32 of shape (n, height, width).
        size
            Height and width of the image.

        Returns
        -------
        numpy.ndarray
            float32 of shape (n, *size).
        """
        top, left, height, width = self._place_of(size)
        full = np.empty((len(maps), *size), np.float32)
        for small, map_ in zip(maps, full, strict=True):
            inside = np.ascontiguousarray(small[top : top + height, left : left + width])
            cv2.resize(inside, (size[1], size[0]), dst=map_, interpolation=cv2.INTER_LINEAR)
        return full

    def scale_of(self, size: tuple[int, int]) -> tuple[float, float]:
        """Return by how much an image of some height and width is magnified, down and across."""
        _, _, height, width = self._place_of(size)
        return height / size[0], width / size[1]

    def _place(self, image: np.ndarray, border: int) -> np.ndarray:
        top, left, height, width = self._place_of((image.shape[0], image.shape[1]))
        placed = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        if (height, width) == (self.height, self.width):
            return placed
        bottom, right = self.height - height - top, self.width - width - left
        return cv2.copyMakeBorder(placed, top, bottom, left, right, border)

    def _place_of(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return where in the input an image of some size lies: top, left, height, width."""
        if self.resizing == "stretch":
            return 0, 0, self.height, self.width
        scale = min(self.height / size[0], self.width / size[1])
        height = min(self.height, max(1, round(size[0] * scale)))
        width = min(self.width, max(1, round(size[1] * scale)))
        return (self.height - height) // 2, (self.width - width) // 2, height, width

    def normalize(self, images: np.ndarray) -> np.ndarray:
        """Return fitted images as the network takes them.

        Parameters
        ----------
        images
            uint8 of shape (n, height, width, channels), from `fit`.

        Returns
        -------
        numpy.ndarray
            float32 of shape (n, channels, height, width).
        """
        values = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
        if self.normalization == "imagenet":
            mean, std = _IMAGENET_MEAN, _IMAGENET_STD
            if self.channels == 1:
                mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
            return (values / 255.0 - mean[:, None, None]) / std[:, None, None]
        if self.normalization == "log_standardize":
            values = np.log1p(values)
        mean = values.mean(axis=(1, 2, 3), keepdims=True)
        std = values.std(axis=(1, 2, 3), keepdims=True)
        return (values - mean) / (std + 1e-3)


_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
