"""From what was counted to a report and its files."""

from defect_assets.dataset.description import DatasetDescription
from defect_assets.evaluation.bootstrap import RESAMPLES, intervals
from defect_assets.evaluation.calibration import reliability_curve
from defect_assets.evaluation.conditions import by_condition, by_size
from defect_assets.evaluation.confusion import confusion
from defect_assets.evaluation.counter import Evaluation
from defect_assets.evaluation.metrics import summarize
from defect_assets.evaluation.page import render_page
from defect_assets.evaluation.report import IMAGES, PAGE, REGIONS, REPORT, Report
from defect_assets.inference.bundle import BundleSpec
from defect_assets.store import Digest


def make_report(
    dataset: str,
    config: str,
    bundle: Digest,
    split: Digest,
    spec: BundleSpec,
    evaluation: Evaluation,
    resamples: int = RESAMPLES,
) -> Report:
    """Return the report of what was counted.

    Parameters
    ----------
    dataset, config, bundle, split
        Of what.
    spec
        The bundle's.
    evaluation
        What was counted.
    resamples
        For the intervals.
    """
    classes = list(spec.class_map.values())
    table, regions = evaluation.images, evaluation.regions
    groups = sorted(table["group"].unique())
    return Report(
        dataset=dataset,
        config=config,
        bundle=bundle,
        split=split,
        postprocessing=spec.postprocessing,
        test=summarize(table, classes, evaluation.pixel_scores),
        intervals=intervals(table, classes, resamples, pixel_scores=evaluation.pixel_scores),
        resamples=resamples,
        conditions=by_condition(table, resamples),
        sizes=by_size(regions, groups, resamples),
        reliability=reliability_curve(evaluation.reliability.sums(groups).sum(axis=0)),
        confusion=confusion(table, regions, classes),
    )


def report_files(
    report: Report,
    evaluation: Evaluation,
    history: list[dict[str, float]],
    description: DatasetDescription,
) -> dict[str, bytes]:
    """Return a report's files: JSON, the page, and as CSV the tables of images and regions.

    The same evaluation gives the same bytes.
    """
    images = evaluation.images.sort_values("sample")
    return {
        REPORT: report.model_dump_json(indent=1).encode(),
        PAGE: render_page(report, evaluation, history, description),
        IMAGES: images.to_csv(index=False).encode(),
        REGIONS: evaluation.regions.to_csv(index=False).encode(),
    }
