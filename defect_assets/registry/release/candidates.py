"""What could be released: an experiment as it was trained and evaluated."""

from dataclasses import dataclass

from defect_assets.errors import UserError
from defect_assets.evaluation.latency import Latency
from defect_assets.evaluation.report import Report
from defect_assets.registry.comparison.comparing import read_report
from defect_assets.registry.pinning import why_unpinned
from defect_assets.registry.subjects import REPORTS, Subject
from defect_assets.store import Store


class ReleaseRefused(UserError):
    """A release that cannot be made; the message says why and what to do."""


@dataclass(frozen=True)
class Candidate(Subject):
    """A model with its evaluation, which is of this very model.

    Parameters
    ----------
    report
        What the evaluation came to.
    intervals
        95 % intervals of its scores; see `defect_assets.evaluation.bootstrap`.
    """

    report: Report
    intervals: dict[str, tuple[float, float]]

    @property
    def latencies(self) -> list[Latency]:
        """How long an image took in each runtime, where that was measured."""
        return [Latency.model_validate(x) for x in self.evaluation.details.get("latencies", [])]


def find_candidate(store: Store, dataset: str, config: str) -> Candidate:
    """Return an experiment as it stands now.

    Raises
    ------
    ReleaseRefused
        If it was not trained, not evaluated since, or tested on nothing that could be missed.
    """
    experiment = f"{dataset}/{config}"
    model = store.record(f"experiments/{experiment}")
    evaluation = store.record(f"reports/{experiment}")
    if model is None or evaluation is None:
        raise ReleaseRefused(
            f"{dataset} × {config} has no {'model' if model is None else 'evaluation'}: "
            f"materialize {'trained_model' if model is None else 'evaluation_report'} first"
        )
    report = read_report(store, evaluation.content)
    # The mark of an evaluation is that of its model.
    if report.bundle != model.content or why_unpinned(evaluation) != why_unpinned(model):
        raise ReleaseRefused(
            f"{dataset} × {config} was trained again since it was evaluated: "
            "materialize evaluation_report first"
        )
    if report.test.dice is None:
        raise ReleaseRefused(
            f"{dataset} × {config} was tested on images without a single defect, which says "
            "nothing: deliver more parts with defects"
        )
    return Candidate(
        f"{dataset} × {config}",
        dataset,
        config,
        model,
        evaluation,
        report,
        report.intervals,
    )


def last_evaluated(store: Store) -> tuple[str, str]:
    """Return the dataset and the config of the experiment that was evaluated last.

    Raises
    ------
    ReleaseRefused
        If there is none.
    """
    evaluated = [
        (record.created_at, name.removeprefix(REPORTS).split("/"))
        for name in store.refs.names(REPORTS)
        if (record := store.record(name))
    ]
    if not evaluated:
        raise ReleaseRefused("nothing was evaluated yet: materialize evaluation_report first")
    dataset, config = max(evaluated)[1]
    return dataset, config
