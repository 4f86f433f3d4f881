"""Training configurations: ``configs/C-01.yaml`` and so on."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from defect_assets.inference.architecture import Architecture
from defect_assets.inference.postprocessing import ThresholdGoal
from defect_assets.inference.preprocessing import Preprocessing

LossTerm = Literal[
    "cross_entropy",
    "bce",
    "focal",
    "dice",
    "image_dice",
    "class_dice",
    "tversky",
    "lovasz",
    "defect_type",
]

DefectKind = Literal["hole", "crack", "chip", "patch", "zone"]

_ID = re.compile(r"C-\d+")


def _known_transform(transform: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    from defect_assets.training.augmentation import build_transform

    build_transform(transform)
    return transform


Transform = Annotated[dict[str, dict[str, Any]], AfterValidator(_known_transform)]
"""One transform of albumentations and its arguments, e.g. ``{Affine: {rotate: [-10, 10]}}``."""

DEFAULT_AUGMENTATION: tuple[Transform, ...] = (
    {"HorizontalFlip": {"p": 0.5}},
    {"VerticalFlip": {"p": 0.5}},
    {"RandomBrightnessContrast": {"brightness_limit": 0.15, "contrast_limit": 0.15, "p": 0.5}},
)


class Optimizer(BaseModel):
    """How the weights follow the gradient."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["adamw", "sgd"] = "adamw"
    """``sgd`` has a Nesterov momentum of 0.9."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """The highest."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Of the weights of convolutions; biases and normalizations have none."""


class Schedule(BaseModel):
    """How the learning rate changes from step to step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    """``one_cycle``: up and down (Smith and Topin 2019). ``cosine``: down. All begin with a
    warm-up."""
    warmup: float = Field(default=0.3, ge=0, lt=1)
    """Share of the steps in which the rate rises."""


class Sampling(BaseModel):
    """Which images a step sees."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(default=16, ge=2)
    """Over all devices."""
    defect_free: float = Field(default=0.25, ge=0, le=1)
    """Share of defect-free images. The others are drawn class by class, each as often."""
    pasted: float = Field(default=0, ge=0, le=1)
    """Share of defect-free images onto which a defect of another part is pasted."""
    painted: float = Field(default=0, ge=0, le=1)
    """Share of defect-free images onto which a defect is painted; see ``paint``."""
    by: Literal["image", "part"] = "image"
    """What is drawn from a class: an image, or a part and then one of its images."""

    @model_validator(mode="after")
    def _shares(self) -> "Sampling":
        if self.real_defects < 0:
            raise ValueError("defect_free, pasted and painted must not be more than 1 together")
        return self

    @property
    def real_defects(self) -> float:
        """Share of images with a defect of their own."""
        return round(1 - self.defect_free - self.pasted - self.painted, 9)


class EarlyStopping(BaseModel):
    """When to end before the last step; the best weights are kept, not the last ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patience: int = Field(ge=1)
    """After so many looks at the validation split without a higher Dice; there are 20 looks."""


class TrainingConfig(BaseModel):
    """All that decides what training does with a split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    notes: str = ""
    task: Literal["multiclass", "binary"] = "multiclass"
    """``binary``: any defect against none; the model does not tell types apart."""
    architecture: Architecture = Architecture()
    input: Preprocessing = Preprocessing()
    loss: dict[LossTerm, Annotated[float, Field(gt=0)]] = Field(
        default={"cross_entropy": 1.0, "dice": 1.0}, min_length=1
    )
    """Weights of the terms that are summed."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    steps: int | None = Field(default=None, ge=1)
    """Batches to train on; 1000 where neither steps nor epochs are given."""
    epochs: float | None = Field(default=None, gt=0)
    """How often to see as many images as there are, instead of ``steps``."""
    early_stopping: EarlyStopping | None = None
    ema: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the weights' running mean, which is what is kept; 0: the last weights."""
    sampling: Sampling = Sampling()
    paint: dict[str, DefectKind] = Field(default_factory=dict)
    """What defects look like, by class: ``hole`` (a small dark spot), ``crack`` (a thin line),
    ``chip`` (out of the rim), ``patch`` (of another texture), ``zone`` (of another finish)."""
    augmentation: tuple[Transform, ...] = DEFAULT_AUGMENTATION
    """Transforms of albumentations, one after the other, with their own names and arguments."""
    flips: bool = True
    """Average predictions over mirror images, in validation and in service."""
    min_area_px: int = Field(default=16, ge=1)
    """Smaller regions are no defects; in pixels of the original image."""
    max_false_alarms: float = Field(default=1, ge=0, le=1)
    """The threshold is the one with the highest Dice on the validation split, of those at which at
    most this share of its defect-free images is taken for defective."""
    min_recall: float | None = Field(default=None, gt=0, le=1)
    """Choose another: the one with the fewest false alarms on the validation split, of those at
    which at least this share of its defects is found. Instead of ``max_false_alarms``."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """``auto``: bf16-mixed where the processor computes in it, else 32-true."""
    deterministic: bool = True
    """Refuse operations that give other results from run to run."""
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> "TrainingConfig":
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        if self.min_recall is not None and self.max_false_alarms < 1:
            raise ValueError("give min_recall or max_false_alarms, not both: one yields the other")
        if bool(self.paint) != (self.sampling.painted > 0):
            raise ValueError(
                "sampling.painted and paint go together: how many, and what the classes look like"
            )
        return self

    @property
    def threshold_goal(self) -> ThresholdGoal:
        """What the threshold is chosen for."""
        return ThresholdGoal(min_recall=self.min_recall, max_false_alarms=self.max_false_alarms)

    def steps_for(self, images: int) -> int:
        """Return the number of steps to train on a split of some images."""
        if self.epochs is not None:
            return max(1, round(self.epochs * images / self.sampling.batch_size))
        return self.steps or 1000

    def class_map(self, classes: dict[int, str]) -> dict[int, str]:
        """Return the ids and names that the model tells apart, of those in the dataset."""
        return classes if self.task == "multiclass" else {1: "Defect"}


def config_ids(folder: Path) -> list[str]:
    """Return the ids of the configurations in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("C-*.yaml") if _ID.fullmatch(path.stem))
