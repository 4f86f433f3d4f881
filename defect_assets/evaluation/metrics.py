"""The scores of an evaluation, pooled from the counts of its images."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from defect_assets.evaluation.counts import REGIONS, columns_of
from defect_assets.evaluation.scores import Measurement, PixelScore, part_table


class ClassScore(BaseModel):
    """How well one class is found, over all images."""

    model_config = ConfigDict(frozen=True)

    dice: float | None
    """Of pixels. None, as the others, where no image has this class: there is nothing to
    measure."""
    iou: float | None
    precision: float | None
    """None, too, where nothing was found."""
    recall: float | None
    regions: int | None = None
    """Connected regions of this class; None, as what is said of them, in reports from before they
    were counted by class."""
    region_recall: float | None = None
    """Share of them that were found; see `defect_assets.evaluation.regions`."""
    region_precision: float | None = None
    """Share of the detections of this class where there is a defect of it."""
    region_f1: float | None = None
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
    precision: float | None = None
    recall: float | None = None
    macro_dice: float | None
    """Mean of the Dice of those classes that there are."""
    classes: dict[str, ClassScore]
    """A pixel counts as found if its class is right."""
    regions: int | None = None
    """Connected regions of defective pixels; None in reports from before they were counted."""
    region_recall: float | None = None
    """Share of them that were found: of whose pixels at least
    `defect_assets.evaluation.overlap.FOUND` were taken for a defect."""
    region_precision: float | None = None
    """Share of the detections, connected regions too, of whose pixels at least as many are
    defective."""
    region_f1: float | None = None
    """The harmonic mean of the two."""
    aupro: float | None = None
    """See `defect_assets.evaluation.aupro`; None where pixels were not looked at."""
    calibration_error: float | None = None
    """See `defect_assets.evaluation.calibration`."""
    image_auroc: float | None
    """Of the highest pixel probability, telling defective from defect-free images; None where
    there is only one of the two."""
    image_ap: float | None = None
    """Average precision of the same."""
    false_alarms: float | None
    """Share of defect-free images with the verdict ng."""
    escapes: float | None
    """Share of defective images with the verdict ok."""
    uncertain: float
    """Share of all images with the verdict uncertain."""
    defective_parts: int | None = None
    """Parts of which any image shows a defect."""
    part_false_alarms: float | None = None
    """Share of the defect-free parts of which any image is ng."""
    part_escapes: float | None = None
    """Share of the defective parts all of whose images are ok."""
    false_alarms_per_1000: float | None = None
    """Parts that are stopped for nothing, of 1,000 parts of which as many are defective as of
    those that were tested."""
    escapes_per_1000: float | None = None
    """Defective parts that pass, of as many."""

    @property
    def grouped(self) -> bool:
        """Whether any part has several images; if not, perhaps nobody said which do."""
        return self.groups < self.images


def summarize(
    table: pd.DataFrame,
    class_names: Iterable[str],
    pixel_scores: Mapping[str, PixelScore] | None = None,
) -> Metrics:
    """Pool the counts of images.

    Parameters
    ----------
    table
        One row per image, from `defect_assets.evaluation.counts.count_image`.
    class_names
        The classes of defect.
    pixel_scores
        More scores: ``aupro``, ``calibration_error``.
    """
    names = list(class_names)
    measure = Measurement(table, names, pixel_scores)
    measured = measure(np.ones((1, len(measure.groups))))
    score = {
        name: float(value) if np.isfinite(value) else None for name, [value] in measured.items()
    }
    of_all = {name: value for name, value in score.items() if name in Metrics.model_fields}
    of_all["uncertain"] = score["uncertain"] or 0.0
    return Metrics(
        images=len(table),
        groups=len(measure.groups),
        classes={name: _class_score(table, score, name) for name in names},
        regions=int(table["regions"].sum()),
        defective_parts=int(part_table(table)["defective_parts"].sum()),
        **of_all,
    )


def _class_score(table: pd.DataFrame, score: Mapping[str, float | None], name: str) -> ClassScore:
    has = table[f"tp_{name}"] + table[f"fn_{name}"] > 0
    found, missed, *_ = columns_of(name, REGIONS)
    return ClassScore(
        **{
            field: score[f"{field} {name}"]
            for field in ClassScore.model_fields
            if f"{field} {name}" in score
        },
        regions=int((table[found] + table[missed]).sum()),
        images=int(has.sum()),
        groups=table.loc[has, "group"].nunique(),
    )
