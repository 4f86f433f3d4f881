"""Counting images that pass by once; little of each is kept."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.aupro import RegionOverlap, aupro
from defect_assets.evaluation.calibration import Reliability, calibration_error
from defect_assets.evaluation.confusion import NOTHING
from defect_assets.evaluation.counts import count_image
from defect_assets.evaluation.gallery import Galleries, Gallery
from defect_assets.evaluation.label_quality import label_quality
from defect_assets.evaluation.regions import Region, regions
from defect_assets.evaluation.scores import PixelScore
from defect_assets.inference.postprocessing import Analysis

REGION_COLUMNS = [
    "sample",
    "group",
    "side",
    "class",
    "area_px",
    "covered",
    "covered_by_class",
    "other",
    "confidence",
    "matched",
]


@dataclass(frozen=True)
class Evaluation:
    """What was counted."""

    images: pd.DataFrame
    """One row per image: the columns of `defect_assets.evaluation.counts.count_image`, and
    label_quality."""
    regions: pd.DataFrame
    """One row per connected region of either side, `REGION_COLUMNS`; see
    `defect_assets.evaluation.regions.Region`."""
    overlap: RegionOverlap
    reliability: Reliability
    galleries: tuple[Gallery, ...]

    @property
    def pixel_scores(self) -> dict[str, PixelScore]:
        """The scores that the table of images does not hold."""
        return {
            "aupro": PixelScore(self.overlap, aupro),
            "calibration_error": PixelScore(self.reliability, calibration_error),
        }


class Counter:
    """Counts images, one after the other.

    Parameters
    ----------
    class_map
        Class ids, from 1 on, and their names.
    threshold
        Near which an image is shown as doubtful.
    """

    def __init__(self, class_map: dict[int, str], threshold: float) -> None:
        self._class_map = class_map
        self._names = class_map | {0: NOTHING}
        self._rows: list[dict[str, Any]] = []
        self._regions: list[tuple] = []
        self._overlap, self._reliability = RegionOverlap(), Reliability()
        self._galleries = Galleries(threshold)

    def add(self, truth: LabelledImage, analysis: Analysis) -> None:
        """Count an image, whose mask has the classes of the map."""
        found = regions(truth.mask, analysis.mask, analysis.probability, max(self._class_map))
        row = count_image(truth, analysis, self._class_map, found)
        defective = truth.mask > 0
        self._overlap.add(truth.group, defective, analysis.probability)
        self._reliability.add(truth.group, defective, analysis.probability)
        quality = label_quality(defective, analysis.probability)
        self._rows.append({**row, "label_quality": round(quality, 6)})
        self._regions += [self._region(truth, region) for region in found]
        self._galleries.add(truth, analysis, row, found, quality)

    def counted(self) -> Evaluation:
        """Return what has been counted so far."""
        return Evaluation(
            pd.DataFrame(self._rows),
            pd.DataFrame(self._regions, columns=REGION_COLUMNS),
            self._overlap,
            self._reliability,
            self._galleries.chosen(),
        )

    def _region(self, truth: LabelledImage, region: Region) -> tuple:
        return (
            truth.sample,
            truth.group,
            region.side,
            self._names[region.class_id],
            region.area_px,
            round(region.covered, 6),
            round(region.covered_by_class, 6),
            self._names[region.other],
            round(region.confidence, 6),
            region.matched,
        )
