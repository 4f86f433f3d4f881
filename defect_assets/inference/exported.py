"""What lies beside a bundle for runtimes other than PyTorch, made when the bento is built.

``model.onnx`` (network and softmax), ``check.safetensors`` (some images, and what PyTorch makes of
them) and ``runtimes.json`` (what `Exported` describes). They are no part of the bundle's digest:
they follow from the bundle.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict
from safetensors.numpy import load_file, save

from defect_assets.inference.bundle import BundleError
from defect_assets.inference.postprocessing import Postprocessing

MODEL = "model.onnx"
CHECK = "check.safetensors"
EXPORTED = "runtimes.json"

MIN_AGREEMENT = 0.999
"""The share of pixels that must get the same class from a runtime as from PyTorch in float32. On
a trained model bf16 differs in 0.0001 of them, and the Dice on the truth by as little."""


class Exported(BaseModel):
    """Which files there are, and which runtimes must not be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[str, str]
    """SHA-256 by name."""
    refused: tuple[str, ...] = ()
    """Runtimes with their precisions, e.g. ``openvino bf16``, that answer otherwise than PyTorch
    on the test split."""


@dataclass(frozen=True)
class Sample:
    """Some images, and what they should give."""

    fitted: np.ndarray
    """uint8 of shape (n, height, width, channels), from `Preprocessing.fit`."""
    classes: np.ndarray
    """uint8 of shape (n, height, width), from `classes_of`, by PyTorch in float32."""

    def save(self) -> bytes:
        """Return the file."""
        return save({"fitted": self.fitted, "classes": self.classes})

    @classmethod
    def load(cls, path: Path) -> "Sample":
        """Read the file."""
        return cls(**load_file(path))


def classes_of(probabilities: np.ndarray, postprocessing: Postprocessing) -> np.ndarray:
    """Return the class of each pixel, 0 for none, before regions are looked for.

    Parameters
    ----------
    probabilities
        Of shape (n, 1 + classes, height, width).
    postprocessing
        Has the threshold.

    Returns
    -------
    numpy.ndarray
        uint8 of shape (n, height, width).
    """
    defective = 1 - probabilities[:, 0] >= postprocessing.threshold
    return np.where(defective, 1 + probabilities[:, 1:].argmax(axis=1), 0).astype(np.uint8)


def read_exported(folder: Path) -> Exported | None:
    """Read what lies beside a bundle, whole and unchanged; None where nothing was exported.

    Raises
    ------
    BundleError
        If a file is missing, truncated or changed.
    """
    path = folder / EXPORTED
    if not path.exists():
        return None
    try:
        exported = Exported.model_validate_json(path.read_bytes())
        for name, digest in exported.files.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise ValueError(f"{name} is damaged")
    except (OSError, ValueError) as error:
        raise BundleError(
            f"what was exported to {folder} is not whole ({error}): build the bento again"
        ) from error
    return exported
