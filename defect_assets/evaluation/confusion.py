"""What is taken for what, at the operating point."""

import pandas as pd
from pydantic import BaseModel, ConfigDict

from defect_assets.evaluation.counts import ANY
from defect_assets.inference.postprocessing import Verdict

NOTHING = ""
"""Stands for no defect among the class names, none of which is empty."""
_ORDER: tuple[Verdict, ...] = ("ok", "uncertain", "ng")


class Verdicts(BaseModel):
    """How many were given each verdict."""

    model_config = ConfigDict(frozen=True)

    ok: int
    uncertain: int
    ng: int


class Confusion(BaseModel):
    """What is taken for what."""

    model_config = ConfigDict(frozen=True)

    defective_images: Verdicts
    free_images: Verdicts
    defective_parts: Verdicts
    """A part has the worst verdict of its images; see `defect_assets.evaluation.scores`."""
    free_parts: Verdicts
    classes: dict[str, dict[str, int]]
    """By the class of a defect, as what it was found how often; `NOTHING`: missed. Below `NOTHING`
    the detections where there is no defect, by the class that was seen."""


def confusion(table: pd.DataFrame, regions: pd.DataFrame, class_names: list[str]) -> Confusion:
    """Count what is taken for what.

    Parameters
    ----------
    table
        One row per image, from `defect_assets.evaluation.counts.count_image`.
    regions
        One row per region, from `defect_assets.evaluation.counter.Evaluation`.
    class_names
        The classes of defect.
    """
    images = pd.DataFrame(
        {
            "group": table["group"],
            "defective": table[f"tp_{ANY}"] + table[f"fn_{ANY}"] > 0,
            "verdict": table["verdict"].map(_ORDER.index),
        }
    )
    parts = images.groupby("group").max()
    defects = regions[regions["side"] == "truth"]
    found = defects["other"].where(defects["matched"], NOTHING)
    pairs = pd.Series(list(zip(defects["class"], found, strict=True)), dtype=object).value_counts()
    wrong = regions[(regions["side"] == "prediction") & ~regions["matched"].astype(bool)]
    made_up = wrong["class"].value_counts()
    return Confusion(
        defective_images=_verdicts(images[images["defective"]]),
        free_images=_verdicts(images[~images["defective"]]),
        defective_parts=_verdicts(parts[parts["defective"]]),
        free_parts=_verdicts(parts[~parts["defective"]]),
        classes={
            name: {other: int(pairs.get((name, other), 0)) for other in [*class_names, NOTHING]}
            for name in class_names
        }
        | {NOTHING: {name: int(made_up.get(name, 0)) for name in class_names}},
    )


def _verdicts(rows: pd.DataFrame) -> Verdicts:
    counts = rows["verdict"].value_counts()
    return Verdicts(**{name: int(counts.get(i, 0)) for i, name in enumerate(_ORDER)})
