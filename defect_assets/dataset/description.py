"""What a dataset is: its classes, how its masks are read, which parts it shows, how it is split."""

import colorsys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from defect_assets.dataset.grouping import GroupRules

if TYPE_CHECKING:
    import numpy as np


class DefectClass(BaseModel):
    """One type of defect."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int = Field(ge=1, le=254)
    """Its number in our masks; the classes are numbered 1, 2, 3 …"""
    name: str = Field(pattern=r"^\w[\w .-]*$")
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$")
    """How it is drawn, as #rrggbb."""
    value: int | None = Field(default=None, ge=1, le=255)
    """Its pixel value in delivered masks, where they are ``indexed``; by default its id."""


class SplitPolicy(BaseModel):
    """How samples are divided. Samples of one group are never divided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: float = Field(default=0.6, gt=0, lt=1)
    val: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    folds: int = Field(default=5, ge=0)
    """Divisions for cross-validation besides; 0 for none."""
    seed: int = 0

    @field_validator("folds")
    @classmethod
    def _more_than_one(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("one fold has nothing to train on: take 2 or more, or 0 for none")
        return folds

    @model_validator(mode="after")
    def _sums_to_one(self) -> "SplitPolicy":
        if abs(self.train + self.val + self.test - 1) > 1e-9:
            raise ValueError("train, val and test must sum to 1")
        return self


class DatasetDescription(BaseModel):
    """A dataset's description. Each snapshot holds a copy, so that it can change between them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """What the images show, e.g. ``magnetic-tiles``. A home holds one dataset."""
    defect_free: str = Field(default="Free", pattern=r"^\w[\w .-]*$")
    """The class of images without a defect."""
    classes: tuple[DefectClass, ...] = Field(min_length=1)
    masks: Literal["soft", "indexed"] = "soft"
    """``soft``: a pixel above `mask_threshold` belongs to the one class of its image.
    ``indexed``: a pixel's value says its class."""
    mask_threshold: int = Field(default=127, ge=0, le=254)
    """For soft masks: a pixel is defective if its value is greater than this."""
    split: SplitPolicy = SplitPolicy()
    groups: GroupRules = GroupRules()

    @model_validator(mode="after")
    def _consistent(self) -> "DatasetDescription":
        if [c.id for c in self.classes] != list(range(1, len(self.classes) + 1)):
            raise ValueError("classes must have the ids 1, 2, 3 … in this order")
        names = [self.defect_free, *(c.name for c in self.classes)]
        if len(set(names)) != len(names):
            raise ValueError("class names, the defect-free one included, must differ")
        values = [c.value or c.id for c in self.classes]
        if len(set(values)) != len(values):
            raise ValueError("mask values of classes must differ")
        return self

    @property
    def class_map(self) -> dict[int, str]:
        """Class ids, from 1 on, and their names."""
        return {c.id: c.name for c in self.classes}

    @property
    def class_ids(self) -> dict[str, int]:
        """Class names and their ids; the defect-free class is 0."""
        return {self.defect_free: 0} | {c.name: c.id for c in self.classes}

    @property
    def labels(self) -> tuple[Any, ...]:
        """All that decides what a mask means; names of the dataset and colours do not."""
        threshold = self.mask_threshold if self.masks == "soft" else None
        classes = tuple((c.id, c.name, c.value or c.id) for c in self.classes)
        return self.masks, threshold, self.defect_free, classes

    @property
    def palette(self) -> "np.ndarray":
        """RGB of each class id, uint8 of shape (1 + classes, 3)."""
        import numpy as np  # which not every command that reads a description has to wait for

        colors = ["#000000", *(c.color for c in self.classes)]
        return np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colors], np.uint8)


def write_description(description: DatasetDescription, path: Path) -> None:
    """Write a description to a YAML file."""
    values = description.model_dump(mode="json", exclude_none=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def class_color(index: int, count: int) -> str:
    """Return the colour of one of some classes, as #rrggbb: hues evenly around the circle."""
    rgb = colorsys.hsv_to_rgb((index - 1) / count, 0.8, 0.95)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in rgb)
