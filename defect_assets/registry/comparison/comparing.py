"""Two evaluated models side by side: what differs between them, and what that did to the scores."""

from collections.abc import Collection
from pathlib import Path

import jinja2
import pandas as pd
from pydantic import BaseModel, ConfigDict

from defect_assets.errors import UserError
from defect_assets.evaluation.comparison import Comparison, PairedScore, compare_tables
from defect_assets.evaluation.counts import ANY, read_counts
from defect_assets.evaluation.report import IMAGES, REPORT, Report
from defect_assets.evaluation.wording import scored, titled
from defect_assets.registry.channels import PRODUCTION
from defect_assets.registry.channels import REF as CHANNELS
from defect_assets.registry.comparison.differences import Differences, differences
from defect_assets.registry.comparison.tested import CommonTest, common_test
from defect_assets.registry.pinning import why_unpinned
from defect_assets.registry.subjects import (
    REPORTS,
    Subject,
    find_evaluation,
    find_subject,
)
from defect_assets.store import Digest, Store

PAGE_TEMPLATE = Path(__file__).with_name("comparing.html.j2")
MAIN = (
    "dice",
    "macro_dice",
    "region_recall",
    "region_precision",
    "image_auroc",
    "part_false_alarms",
    "part_escapes",
)
"""The scores that people are shown first; all others are in what is printed as JSON."""


class CannotCompare(UserError):
    """Two models whose scores cannot be held against each other; the message says why."""


class Compared(BaseModel):
    """Two evaluated models side by side."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: str
    after: str
    experiments: tuple[str, str]
    """Of both, e.g. ``DS-1.1.0 × C-01``."""
    differences: Differences
    comparison: Comparison
    warnings: tuple[str, ...]


def compare(store: Store, a: Subject, b: Subject, project: Path) -> Compared:
    """Compare two evaluated models.

    What counts are the images that both were tested on, with the same label, of parts that neither
    was trained on.

    Parameters
    ----------
    store
        Where they lie.
    a, b
        From which to which.
    project
        The checkout whose history is asked what happened between their commits.

    Raises
    ------
    CannotCompare
        If one was evaluated by code that counted something else.
    """
    told = differences(store, a, b, project)
    before, after = (counts_of(store, s.evaluation.content) for s in (a, b))
    classes = [name for name in classes_in(before) if name in classes_in(after)]
    warnings = _warnings(a, b, told)
    but: dict[str, Collection[str]] = {}
    splits = told.data.splits
    if splits.before and splits.after and splits.differs:
        common = common_test(store, splits.before, splits.after)
        relabelled = common.relabelled | (common.samples & _of_other_size(before, after))
        but = {"the label changed": relabelled, "one of them was trained on the part": common.seen}
        warnings += _test_warnings(common, len(relabelled))
    try:
        comparison = compare_tables(before, after, classes, but)
    except KeyError as error:
        raise CannotCompare(
            f"{a.name} and {b.name} were evaluated by code of different times, and only one of "
            f"them has {error}: materialize evaluation_report of both, and compare again"
        ) from error
    if not comparison.images:
        warnings.append(
            "nothing is common: no image was tested by both with the same label, so their scores "
            "say nothing of which is better"
        )
    return Compared(
        before=a.name,
        after=b.name,
        experiments=(a.experiment, b.experiment),
        differences=told,
        comparison=comparison,
        warnings=tuple(warnings),
    )


def reference_for(store: Store, dataset: str, config: str) -> Subject | None:
    """Return what an experiment's latest evaluation is held against.

    That is what is in production, or else the experiment's evaluation before; None where there is
    neither, or where it is the same model with the same report.
    """
    name = f"{REPORTS}{dataset}/{config}"
    evaluations = list(store.history(name))
    if not evaluations:
        return None
    latest, *past = evaluations
    if store.refs.get(f"{CHANNELS}{PRODUCTION}"):
        reference = find_subject(store, PRODUCTION)
    else:
        others = [record for record in past if record.content != latest.content]
        if not others:
            return None
        reference = find_evaluation(store, dataset, config, others[0])
    return None if reference.evaluation.content == latest.content else reference


def counts_of(store: Store, report: Digest) -> pd.DataFrame:
    """Return the counts of each image of a report."""
    return read_counts(store.objects.get(store.objects.get_json(report)[IMAGES]))


def read_report(store: Store, digest: Digest) -> Report:
    """Return the report with a digest."""
    return Report.model_validate_json(store.objects.get(store.objects.get_json(digest)[REPORT]))


def classes_in(counts: pd.DataFrame) -> list[str]:
    """Return the classes of defect that are counted."""
    names = [c.removeprefix("tp_") for c in counts.columns if c.startswith("tp_")]
    return [name for name in names if name != ANY]


def main_scores(comparison: Comparison) -> dict[str, PairedScore]:
    """Return the scores that people are shown: `MAIN`, and the Dice of each class."""
    names = [*MAIN, *(name for name in comparison.scores if name.startswith("dice "))]
    return {name: comparison.scores[name] for name in names if name in comparison.scores}


def shown(name: str, score: PairedScore) -> dict[str, str]:
    """Return a score's cells of a table for people: name, before, after, difference, verdict."""
    bounds = f" ({score.interval[0]:+.3f} to {score.interval[1]:+.3f})" if score.interval else ""
    difference = "–" if score.difference is None else f"{score.difference:+.3f}"
    return {
        "score": titled(name),
        "before": scored(score.before),
        "after": scored(score.after),
        "difference": difference + bounds,
        "parts": str(score.parts),
        "verdict": str(score.verdict),
    }


def as_markdown(compared: Compared) -> str:
    """Return the comparison as Markdown, for Dagster."""
    head = f"| | {compared.before} | {compared.after} | difference (95 %) | verdict |"
    rows = [
        f"| {cells['score']} | {cells['before']} | {cells['after']} | {cells['difference']} "
        f"| {cells['verdict']} |"
        for cells in (shown(*item) for item in main_scores(compared.comparison).items())
    ]
    factors = ", ".join(compared.differences.factors) or "nothing"
    return "\n".join(
        [
            f"On {compared.comparison.images} images of {compared.comparison.parts} parts that "
            f"both were tested on. What differs: {factors}.",
            "",
            *([head, "|---|---|---|---|---|", *rows] if rows else []),
            "",
            *(f"- {warning}" for warning in compared.warnings),
        ]
    )


def as_page(compared: Compared) -> str:
    """Return the comparison as one self-contained HTML page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE_TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = lambda digest: digest[:12] if digest else "–"
    scores = [
        shown(name, score) | _drawn(score)
        for name, score in main_scores(compared.comparison).items()
    ]
    return environment.get_template(PAGE_TEMPLATE.name).render(c=compared, scores=scores)


def _drawn(score: PairedScore) -> dict[str, str]:
    """Return where the page draws a difference's interval, from −0.5 to +0.5, in percent."""
    if score.interval is None:
        return {}
    low, high = (min(max(100 * (0.5 + bound), 0), 100) for bound in score.interval)
    return {"left": f"{low:.2f}", "width": f"{high - low:.2f}"}


def _warnings(a: Subject, b: Subject, told: Differences) -> list[str]:
    warnings = []
    if len(told.factors) > 1:
        warnings.append(
            f"{len(told.factors)} things changed at once ({', '.join(told.factors)}): which of "
            f"them made the difference cannot be told from this; defect-assets triage does"
        )
    if a.evaluation.code_version != b.evaluation.code_version:
        warnings.append(
            "they were evaluated by different code: materialize evaluation_report of both"
        )
    warnings += [
        f"{subject.name} is unpinned: {'; '.join(reasons)}"
        for subject in (a, b)
        if (reasons := why_unpinned(subject.model))
    ]
    return warnings


def _test_warnings(common: CommonTest, relabelled: int) -> list[str]:
    told = {
        "{} that both were tested on had another label, or were others, then": relabelled,
        "{} that both were tested on show parts of which one of them was trained on others": len(
            common.seen
        ),
        "the second was trained on {} that the first was tested on": common.trained_by_second,
        "the first was trained on {} that the second was tested on": common.trained_by_first,
    }
    return [f"{text.format(_images(n))}: left out" for text, n in told.items() if n]


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"


def _of_other_size(before: pd.DataFrame, after: pd.DataFrame) -> set[str]:
    """Return the samples whose labels differ in area, as where masks are read otherwise now."""
    one, other = (
        dict(zip(t["sample"], t[f"tp_{ANY}"] + t[f"fn_{ANY}"], strict=True))
        for t in (before, after)
    )
    return {sample for sample, area in one.items() if other.get(sample, area) != area}
