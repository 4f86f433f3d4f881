"""Gates: what a model must show before it is released. ``configs/gates.yaml`` says which."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]

FILE = "configs/gates.yaml"
"""Where they stand, below the checkout."""


class Floors(BaseModel):
    """Scores on the test split that may not be lower. What is left out is not asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dice: Share | None = None
    macro_dice: Share | None = None
    worst_class_dice: Share | None = None
    """Of the class that is found worst, of those that the test split has."""
    region_recall: Share | None = None
    image_auroc: Share | None = None


class Ceilings(BaseModel):
    """Shares of test images that may not be higher. What is left out is not asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    false_alarms: Share | None = None
    """Of the defect-free images, those with the verdict ng."""
    escapes: Share | None = None
    """Of the defective images, those with the verdict ok."""


class Gates(BaseModel):
    """What a release is asked for. That it is pinned is asked of each, and stands in no file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    floors: Floors = Floors()
    class_dice: dict[str, Share] = Field(default_factory=dict)
    """Floors of the Dice of single classes, by name."""
    ceilings: Ceilings = Ceilings()
    latency_p95_ms: float | None = Field(default=None, gt=0)
    """Budget for one image, in milliseconds, which 95 of 100 must keep on the machine that
    evaluated."""
    no_class_worse_than_production: bool = False
    no_leaks: bool = False
    """Whether the split that was trained and tested on is checked for leaks."""


class GateResult(BaseModel):
    """How a model did at one gate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate: str
    """What is asked for, e.g. ``Dice of Crack``."""
    passed: bool
    measured: float | str | None = None
    """None where nothing was measured."""
    required: float | str
    why: str
    """What was found, in words."""
    mend: str = ""
    """What a person can do about it."""
    waivable: bool = True
    """Whether a model may be released all the same, for a reason that is recorded."""

    def __str__(self) -> str:
        return f"{'✓' if self.passed else '✗'} {self.gate}: {self.why}"


def listed(results: Sequence[GateResult]) -> list[str]:
    """Return how a model did, a line each, and below what failed how to mend it.

    What several in a row have in common to mend is said once.
    """
    lines = []
    for result, following in zip_longest(results, results[1:]):
        lines.append(str(result))
        if result.mend and (following is None or following.mend != result.mend):
            lines.append(f"    mend it: {result.mend}")
    return lines
