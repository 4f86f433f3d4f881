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
        """Return the image stretched to the input's size: uint8 (height, width, channels)."""
        if self.channels == 1 and image.ndim == 3:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        elif self.channels == 3 and image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
        fitted = cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return fitted.reshape(self.height, self.width, self.channels)

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
