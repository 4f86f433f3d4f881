"""What an evaluation comes to: the report that releases are made from."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from defect_assets.evaluation.calibration import ReliabilityBin
from defect_assets.evaluation.conditions import SizeBin, Slice
from defect_assets.evaluation.confusion import Confusion
from defect_assets.evaluation.metrics import Metrics
from defect_assets.inference.postprocessing import Postprocessing
from defect_assets.store import Digest

REPORT, PAGE = "report.json", "report.html"
IMAGES, REGIONS = "images.csv", "regions.csv"
"""The files of a report: this model, the page for people, the counts of each image, and the
connected regions of truth and prediction."""
PAGE_FILES = tuple(Path(__file__).with_name(f"report.{kind}") for kind in ("html.j2", "css", "js"))
"""What the page is made of."""


class Report(BaseModel):
    """An evaluation; what was evaluated, and what came out.

    How long the model takes is no part of it, since that differs from run to run: it stands in the
    record of the evaluation, as ``latencies``.
    """

    model_config = ConfigDict(frozen=True)

    dataset: str
    config: str
    bundle: Digest
    split: Digest
    postprocessing: Postprocessing
    """The thresholds, which were chosen on the validation split, and what for."""
    test: Metrics
    intervals: dict[str, tuple[float, float]] = {}
    """95 % intervals by the name of the score, resampled by part; of a class, with its name
    behind, e.g. ``dice Crack``. Empty, as the rest, in reports from before they were made."""
    resamples: int = 0
    conditions: tuple[Slice, ...] = ()
    sizes: tuple[SizeBin, ...] = ()
    """Defects from the smallest to the largest."""
    reliability: tuple[ReliabilityBin, ...] = ()
    confusion: Confusion | None = None
