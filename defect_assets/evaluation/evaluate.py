"""The evaluation of a detector, and its report: one self-contained page, JSON and CSV."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.images import LabelledImage
from defect_assets.dataset.pictures import contact_sheet, overlay
from defect_assets.evaluation.curves import plot_history
from defect_assets.evaluation.metrics import ANY, count_image, summarize
from defect_assets.evaluation.overlap import dice
from defect_assets.evaluation.report import IMAGES, PAGE, PAGE_TEMPLATE, REPORT, Report
from defect_assets.inference.detector import Detector
from defect_assets.inference.images import encode_png
from defect_assets.inference.postprocessing import Analysis
from defect_assets.store import Digest

GALLERY = 12


@dataclass(frozen=True)
class Picture:
    """One image of the gallery."""

    sample: str
    class_name: str
    verdict: str
    dice: float
    png: bytes
    """Image, truth and prediction side by side."""

    @property
    def uri(self) -> str:
        return _uri(self.png)


def evaluate(
    detector: Detector, images: Iterable[LabelledImage], description: DatasetDescription
) -> tuple[pd.DataFrame, list[Picture]]:
    """Run a detector over labelled images.

    Returns
    -------
    table
        One row per image, as `count_image` gives it.
    gallery
        The images with the lowest Dice, worst first, at most `GALLERY` and one of each part.
    """
    rows: list[dict[str, Any]] = []
    worst: dict[str, Picture] = {}
    class_map = detector.spec.class_map
    for image in images:
        truth = image if class_map == description.class_map else image.as_binary()
        analysis = detector.analyze(truth.image)
        row = count_image(truth, analysis, class_map)
        rows.append(row)
        score = dice(row[f"tp_{ANY}"], row[f"fp_{ANY}"], row[f"fn_{ANY}"])
        kept = worst.get(truth.group)
        if score < 1 and (kept is None or score < kept.dice):
            worst[truth.group] = _picture(truth, analysis, score, description.palette)
            if len(worst) > GALLERY:
                del worst[max(worst, key=lambda group: worst[group].dice)]
    gallery = sorted(worst.values(), key=lambda picture: (picture.dice, picture.sample))
    return pd.DataFrame(rows), gallery


def make_report(
    dataset: str,
    config: str,
    bundle: Digest,
    split: Digest,
    detector: Detector,
    table: pd.DataFrame,
    gallery: list[Picture],
    history: list[dict[str, float]],
    description: DatasetDescription,
) -> tuple[Report, dict[str, bytes]]:
    """Return a report and its files: JSON, the page, and the table of images as CSV."""
    report = Report(
        dataset=dataset,
        config=config,
        bundle=bundle,
        split=split,
        postprocessing=detector.spec.postprocessing,
        test=summarize(table, detector.spec.class_map.values()),
    )
    page = _template().render(
        report=report,
        # A model that does not tell types apart has one class, whose name is its own.
        colors=dict.fromkeys(detector.spec.class_map.values(), description.classes[0].color)
        | {c.name: c.color for c in description.classes},
        gallery=gallery,
        curves=_uri(plot_history(history)),
    )
    csv = table.sort_values("sample").to_csv(index=False)
    return report, {
        REPORT: report.model_dump_json(indent=1).encode(),
        PAGE: page.encode(),
        IMAGES: csv.encode(),
    }


def _picture(
    truth: LabelledImage, analysis: Analysis, score: float, palette: np.ndarray
) -> Picture:
    views = [
        overlay(truth.image, np.zeros_like(truth.mask), palette),
        overlay(truth.image, truth.mask, palette),
        overlay(truth.image, analysis.mask, palette),
    ]
    png = encode_png(contact_sheet(views, columns=3, cell=200))
    return Picture(truth.sample, truth.class_name, analysis.verdict, score, png)


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE_TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["short"] = lambda digest: digest[:12]
    environment.filters["score"] = lambda value: "–" if value is None else f"{value:.3f}"
    return environment.get_template(PAGE_TEMPLATE.name)
