"""A bundle: a folder that holds all that is needed to use a model.

``model.safetensors`` (the weights), ``bundle.json`` (what `BundleSpec` describes) and
``history.json`` (the curves of its training). The bundle's digest is that of its manifest, the
canonical JSON object of each file's name and SHA-256, which is how the store names file trees.
"""

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from defect_assets.inference.architecture import Architecture
from defect_assets.inference.postprocessing import Postprocessing
from defect_assets.inference.preprocessing import Preprocessing
from defect_assets.inference.tiling import TrainingSizes

WEIGHTS = "model.safetensors"
SPEC = "bundle.json"
HISTORY = "history.json"
FILES = (WEIGHTS, SPEC, HISTORY)


class BundleError(Exception):
    """A folder that is no bundle, or not the bundle that was asked for."""


class BundleSpec(BaseModel):
    """How to use the weights: everything between an image and its verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    architecture: Architecture
    preprocessing: Preprocessing
    postprocessing: Postprocessing
    class_map: dict[int, str]
    """Class ids, from 1 on, and their names; 0 is the background."""
    flips: bool = False
    """Whether predictions are averaged over the image and its mirror images."""
    trained_on: TrainingSizes | None = None
    """How large the training's images were; None in bundles from before that was kept."""


def read_spec(folder: Path) -> BundleSpec:
    """Read a bundle's description.

    Raises
    ------
    BundleError
        If the folder holds none, or one that is not understood.
    """
    try:
        return BundleSpec.model_validate_json((folder / SPEC).read_bytes())
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder} is no bundle: {error}") from error


def bundle_digest(folder: Path) -> str:
    """Return the digest of the bundle in a folder, read from its files.

    Raises
    ------
    BundleError
        If a file is missing.
    """
    try:
        manifest = {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES
        }
    except OSError as error:
        raise BundleError(f"{folder} is no bundle: {error}") from error
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_bundle(folder: Path, digest: str) -> None:
    """Make sure that a folder holds the bundle with a digest, whole and unchanged.

    Raises
    ------
    BundleError
        If a file is missing, truncated or changed.
    """
    found = bundle_digest(folder)
    if found != digest:
        raise BundleError(
            f"the bundle in {folder} has the digest {found}, not {digest}: "
            "a file is damaged or from another model; fetch the bundle again"
        )
