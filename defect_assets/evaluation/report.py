"""What an evaluation comes to: the report that releases are made from."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from defect_assets.evaluation.metrics import Metrics
from defect_assets.inference.postprocessing import Postprocessing
from defect_assets.store import Digest

REPORT, PAGE, IMAGES = "report.json", "report.html", "images.csv"
"""The files of a report: this model, the page for people, the counts of each image."""
PAGE_TEMPLATE = Path(__file__).with_name("report.html.j2")


class Report(BaseModel):
    """An evaluation; what was evaluated, and what came out."""

    model_config = ConfigDict(frozen=True)

    dataset: str
    config: str
    bundle: Digest
    split: Digest
    postprocessing: Postprocessing
    """The thresholds, which were chosen on the validation split."""
    test: Metrics
