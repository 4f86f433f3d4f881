"""Which network: the description that stands in configurations and travels in bundles.

Building it, in `defect_assets.inference.model`, takes PyTorch, which takes seconds to import;
reading about it does not.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator


class Architecture(BaseModel):
    """Which network.

    ``compact_unet`` is ours: small, trained from scratch in minutes on a CPU. All others are of
    segmentation-models-pytorch, with any of its encoders.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["compact_unet", "unet", "unetplusplus", "fpn", "deeplabv3plus", "segformer"] = (
        "compact_unet"
    )
    encoder: str | None = None
    """An encoder of segmentation-models-pytorch, e.g. ``resnet34`` or ``tu-regnety_002``."""
    encoder_weights: str | None = None
    """Weights to begin with, e.g. ``imagenet``; none: from scratch."""
    widths: tuple[int, ...] = (16, 32, 64, 96, 128)
    """Channels of the compact U-Net, from full detail to the coarsest level."""

    @model_validator(mode="after")
    def _encoder_where_needed(self) -> "Architecture":
        if self.name == "compact_unet" and (self.encoder or self.encoder_weights):
            raise ValueError("compact_unet has no encoder to choose: leave encoder out")
        if self.name != "compact_unet" and not self.encoder:
            raise ValueError(f"{self.name} needs an encoder, e.g. encoder: resnet34")
        return self
