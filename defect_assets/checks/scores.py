"""What an evaluation says of its model, held against the gates before anyone asks for a release."""

from collections.abc import Iterable, Iterator, Sequence

import dagster as dg

from defect_assets.assets.experiment import evaluation_report
from defect_assets.checks.subject import experiment_of
from defect_assets.home import PROJECT
from defect_assets.registry.release.candidates import Candidate, ReleaseRefused, find_candidate
from defect_assets.registry.release.gates import FILE, GateResult, Gates
from defect_assets.registry.release.judgement import ceilings, floors, latency
from defect_assets.registry.release.production import compare_with_production
from defect_assets.resources import HomeResource
from defect_assets.settings import read_settings
from defect_assets.store import Store

SPECS = {
    "metric_floors": "No score is below the floors in configs/gates.yaml, none above its ceilings.",
    "no_class_worse_than_production": "No class is found worse than by the model in production, "
    "beyond the 95 % interval of the difference.",
    "latency_budget": "95 of 100 images keep the time that configs/gates.yaml gives.",
}


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(name, asset=evaluation_report, description=description)
        for name, description in SPECS.items()
    ]
)
def gates_ahead(
    context: dg.AssetCheckExecutionContext, home: HomeResource
) -> Iterator[dg.AssetCheckResult]:
    """Warnings: an experiment may well be bad. It is the release that is refused."""
    store = home.open().store()
    experiment = experiment_of(context, store)
    try:
        candidate = find_candidate(store, *experiment) if experiment else None
    except ReleaseRefused as refusal:
        context.log.info(str(refusal))
        candidate = None
    gates = read_settings(PROJECT / FILE, Gates)
    for name, results in _judge(store, gates, candidate):
        yield dg.AssetCheckResult(
            check_name=name,
            asset_key=evaluation_report.key,
            passed=all(result.passed for result in results),
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "experiment": " × ".join(experiment) if experiment else "none",
                "gates": dg.MetadataValue.md("\n".join(f"- {result}" for result in results)),
            },
        )


def _judge(
    store: Store, gates: Gates, candidate: Candidate | None
) -> Iterable[tuple[str, Sequence[GateResult]]]:
    """Yield the checks and what they found; nothing is found of no candidate."""
    if candidate is None:
        return [(name, []) for name in SPECS]
    budget = gates.latency_p95_ms
    found = (
        [*floors(gates, candidate), *ceilings(gates, candidate)],
        [compare_with_production(store, PROJECT, candidate)],
        [latency(budget, candidate)] if budget else [],
    )
    return zip(SPECS, found, strict=True)
