"""The report as a page: one file that asks nothing of a network."""

from collections.abc import Iterable, Sequence

import jinja2
from markupsafe import Markup

from defect_assets.dataset.description import DatasetDescription
from defect_assets.evaluation import drawing, plots
from defect_assets.evaluation.confusion import NOTHING
from defect_assets.evaluation.counter import Evaluation
from defect_assets.evaluation.latency import Latency
from defect_assets.evaluation.report import PAGE_FILES, Report

_TEMPLATE, _STYLE, _SCRIPT = PAGE_FILES


def render_page(
    report: Report,
    evaluation: Evaluation,
    history: list[dict[str, float]],
    description: DatasetDescription,
    latencies: Sequence[Latency] = (),
) -> bytes:
    """Return the page.

    Parameters
    ----------
    report
        What it says.
    evaluation
        Of which it shows pictures and curves.
    history
        Of the training, points with ``step``, ``loss`` and ``val_dice``.
    description
        Of the dataset: the colours of classes.
    latencies
        How long an image takes in each runtime, if it is to be on the page.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = lambda digest: digest[:12]
    environment.filters["path"] = drawing.svg_path
    environment.filters["photo"] = drawing.photo_uri
    environment.filters["heat"] = drawing.heat_uri
    groups = sorted(evaluation.images["group"].unique())
    pictures = {
        entry.picture.sample: entry.picture
        for gallery in evaluation.galleries
        for entry in gallery.entries
    }
    page = environment.get_template(_TEMPLATE.name).render(
        report=report,
        test=report.test,
        latencies=latencies,
        nothing=NOTHING,
        # A model that does not tell types apart has one class, whose name is its own.
        colors=dict.fromkeys(report.test.classes, description.classes[0].color)
        | {c.name: c.color for c in description.classes},
        palette=["#000000", *(c.color for c in description.classes)],
        galleries=evaluation.galleries,
        pictures=pictures.values(),
        ids={sample: f"image-{number}" for number, sample in enumerate(pictures)},
        plots=_inline(
            [
                plots.plot_ranking(evaluation.images, report.postprocessing.threshold),
                plots.plot_overlap(evaluation.overlap.sums(groups).sum(axis=0), report.test.aupro),
                plots.plot_reliability(report.reliability),
                plots.plot_history(history),
            ]
        ),
        style=Markup(_STYLE.read_text()),
        script=Markup(_SCRIPT.read_text()),
    )
    return page.encode()


def _inline(plots: Iterable[str]) -> list[Markup]:
    return [Markup(plot) for plot in plots]
