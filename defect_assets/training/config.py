"""Training configurations: ``configs/C-01.yaml`` and so on."""

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from defect_assets.inference.architecture import Architecture
from defect_assets.inference.preprocessing import Preprocessing

LossTerm = Literal[
    "cross_entropy", "focal", "dice", "defect_type", "class_dice", "tversky", "lovasz"
]

_ID = re.compile(r"C-\d+")


class Augmentation(BaseModel):
    """Random changes of a training image and its mask."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flips: bool = True
    """Mirror images, each way with probability one half."""
    rotation: float = Field(default=0, ge=0, le=180)
    """Turn by up to this many degrees."""
    scale: float = Field(default=0, ge=0, lt=1)
    """Grow or shrink by up to this share."""
    brightness: float = Field(default=0.15, ge=0, le=1)
    """Brighten or darken by up to this share of the range, as another exposure would."""
    contrast: float = Field(default=0.15, ge=0, le=1)
    """Raise or lower the contrast by up to this share."""
    noise: float = Field(default=0, ge=0, le=1)
    """Standard deviation of added noise, as a share of the range."""


class Sampling(BaseModel):
    """Which images a step sees."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(default=16, ge=2)
    defect_free: float = Field(default=0.25, ge=0, le=1)
    """Share of defect-free images. The others are drawn class by class, each as often."""


class TrainingConfig(BaseModel):
    """All that decides what training does with a split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    notes: str = ""
    architecture: Architecture = Architecture()
    input: Preprocessing = Preprocessing()
    loss: dict[LossTerm, float] = Field(default={"cross_entropy": 1.0, "dice": 1.0}, min_length=1)
    """Weights of the terms that are summed."""
    steps: int = Field(default=1000, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    """The highest, in a one-cycle schedule (Smith and Topin 2019)."""
    weight_decay: float = Field(default=1e-2, ge=0)
    ema: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the weights' running mean, which is what is kept; 0: the last weights."""
    sampling: Sampling = Sampling()
    augmentation: Augmentation = Augmentation()
    flips: bool = True
    """Average predictions over mirror images, in validation and in service."""
    min_area_px: int = Field(default=16, ge=1)
    """Smaller regions are no defects; in pixels of the original image."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """``auto``: bf16-mixed where the processor computes in it, else 32-true."""
    seed: int = 0


def config_ids(folder: Path) -> list[str]:
    """Return the ids of the configurations in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("C-*.yaml") if _ID.fullmatch(path.stem))
