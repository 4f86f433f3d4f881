"""Metrics, counted per image so that they can be pooled in any way."""

from collections.abc import Iterable

import cv2
import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.overlap import dice, iou
from defect_assets.inference.postprocessing import Analysis

FOUND = 0.1
"""Which share of a region has to be covered for it to count as found: an operator who is shown
that much sees the rest."""
ANY = "*"
"""Stands for any class of defect among the class names, none of which can be called so."""


class ClassScore(BaseModel):
    """How well one class is found, pixel by pixel over all images."""

    model_config = ConfigDict(frozen=True)

    dice: float | None
    """None, as the others, where no image has this class: there is nothing to measure."""
    iou: float | None
    precision: float | None
    """None, too, where nothing was found."""
    recall: float | None
    images: int
    """Images with this class."""
    groups: int
    """Physical parts with this class."""


class Metrics(BaseModel):
    """The scores of one evaluation."""

    model_config = ConfigDict(frozen=True)

    images: int
    groups: int
    """Physical parts; images of one part are not independent, so this is the sample size."""
    dice: float | None
    """Pooled over all pixels of all images, any class of defect against none; None where no
    image has a defect."""
    iou: float | None
    macro_dice: float | None
    """Mean of the Dice of those classes that there are."""
    classes: dict[str, ClassScore]
    """A pixel counts as found if its class is right."""
    regions: int | None = None
    """Connected regions of defective pixels; None in reports from before they were counted."""
    region_recall: float | None = None
    """Share of them that were found: of whose pixels at least `FOUND` were taken for a defect."""
    image_auroc: float | None
    """Of the highest pixel probability, telling defective from defect-free images; None where
    there is only one of the two."""
    false_alarms: float | None
    """Share of defect-free images with the verdict ng."""
    escapes: float | None
    """Share of defective images with the verdict ok."""
    uncertain: float
    """Share of all images with the verdict uncertain."""

    @property
    def grouped(self) -> bool:
        """Whether any part has several images; if not, perhaps nobody said which do."""
        return self.groups < self.images


def count_image(truth: LabelledImage, analysis: Analysis, class_map: dict[int, str]) -> dict:
    """Return one row of the table that `summarize` takes: the counts of one image.

    Columns: sample, class, group, exposure, verdict, score (highest probability of a pixel),
    regions and regions_found and, for each class and for any class, ``tp_…``, ``fp_…`` and
    ``fn_…`` in pixels.
    """
    regions, found_regions = _regions(truth.mask > 0, analysis.mask > 0)
    row: dict = {
        "sample": truth.sample,
        "class": truth.class_name,
        "group": truth.group,
        "exposure": truth.exposure,
        "verdict": analysis.verdict,
        "score": round(float(analysis.probability.max()), 6),
        "regions": regions,
        "regions_found": found_regions,
    }
    for name, true, found in _masks(truth.mask, analysis.mask, class_map):
        row[f"tp_{name}"] = int((true & found).sum())
        row[f"fp_{name}"] = int((~true & found).sum())
        row[f"fn_{name}"] = int((true & ~found).sum())
    return row


def _masks(
    truth: np.ndarray, found: np.ndarray, class_map: dict[int, str]
) -> Iterable[tuple[str, np.ndarray, np.ndarray]]:
    yield ANY, truth > 0, found > 0
    for class_id, name in class_map.items():
        yield name, truth == class_id, found == class_id


def _regions(truth: np.ndarray, found: np.ndarray) -> tuple[int, int]:
    """Return the number of connected regions, and how many of them were found."""
    count, labels = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
    areas = np.bincount(labels.ravel(), minlength=count)[1:]
    covered = np.bincount(labels[found], minlength=count)[1:]
    return count - 1, int((covered >= FOUND * areas).sum())


def summarize(table: pd.DataFrame, class_names: Iterable[str]) -> Metrics:
    """Pool the counts of images.

    Parameters
    ----------
    table
        One row per image, from `count_image`.
    class_names
        The classes of defect.
    """
    defective = table[f"tp_{ANY}"] + table[f"fn_{ANY}"] > 0
    classes = {name: _score(table, name) for name in class_names}
    tp, fp, fn = _sums(table, ANY)
    present = [score.dice for score in classes.values() if score.dice is not None]
    return Metrics(
        images=len(table),
        groups=table["group"].nunique(),
        dice=dice(tp, fp, fn) if tp + fn else None,
        iou=iou(tp, fp, fn) if tp + fn else None,
        macro_dice=float(np.mean(present)) if present else None,
        classes=classes,
        regions=int(table["regions"].sum()),
        region_recall=float(table["regions_found"].sum() / table["regions"].sum())
        if table["regions"].any()
        else None,
        image_auroc=_auroc(table["score"], defective),
        false_alarms=_share(table.loc[~defective, "verdict"], "ng"),
        escapes=_share(table.loc[defective, "verdict"], "ok"),
        uncertain=_share(table["verdict"], "uncertain") or 0.0,
    )


def _sums(table: pd.DataFrame, name: str) -> tuple[int, int, int]:
    tp, fp, fn = (int(table[f"{kind}_{name}"].sum()) for kind in ("tp", "fp", "fn"))
    return tp, fp, fn


def _score(table: pd.DataFrame, name: str) -> ClassScore:
    tp, fp, fn = _sums(table, name)
    has = table[f"tp_{name}"] + table[f"fn_{name}"] > 0
    return ClassScore(
        dice=dice(tp, fp, fn) if tp + fn else None,
        iou=iou(tp, fp, fn) if tp + fn else None,
        precision=tp / (tp + fp) if tp + fn and tp + fp else None,
        recall=tp / (tp + fn) if tp + fn else None,
        images=int(has.sum()),
        groups=table.loc[has, "group"].nunique(),
    )


def _auroc(score: "pd.Series[float]", defective: "pd.Series[bool]") -> float | None:
    if defective.all() or not defective.any():
        return None
    import torch  # takes seconds, and those who only read metrics need not wait
    from torchmetrics.functional.classification import binary_auroc

    return float(
        binary_auroc(torch.tensor(score.to_numpy()), torch.tensor(defective.to_numpy()).long())
    )


def _share(verdicts: "pd.Series[str]", verdict: str) -> float | None:
    return float((verdicts == verdict).mean()) if len(verdicts) else None
