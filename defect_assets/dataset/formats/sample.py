"""What the writers of all formats write."""

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class ExportedSample:
    """A sample with its mask, to be written in another tool's format."""

    sample: str
    class_name: str
    group: str
    exposure: str
    image: bytes
    """The image file as it was delivered."""
    image_name: str
    """Its file name, without folders."""
    mask: np.ndarray
    """uint8 of shape (H, W): class ids, 0 for none."""
    part: Literal["train", "val", "test"] | None
    """The part of the split that it is in."""
