"""What a random split would make one believe."""

import dagster as dg

from defect_assets.assets.clearance import GPU, Clearance, cleared
from defect_assets.assets.dataset import dataset_split
from defect_assets.assets.environment import python_environment, training_config
from defect_assets.assets.experiment import evaluation_report, read_config, read_split_of
from defect_assets.assets.publishing import (
    OWNERS,
    record_of,
    ref_of,
    refuse,
    result_of,
    rounded,
)
from defect_assets.assets.trials import Division, TrialsRun, run_divisions
from defect_assets.evaluation.counts import read_counts
from defect_assets.evaluation.report import IMAGES, REPORT, Report
from defect_assets.home import Home
from defect_assets.partitions import experiment_of, experiments
from defect_assets.registry.stages import STAGES
from defect_assets.resources import HomeResource

SAME = ("dataset_split", "training_config")
"""What the evaluated model must have been made from, as is trained here."""


@dg.asset(
    group_name="experiments",
    kinds={"pytorch"},
    owners=OWNERS,
    partitions_def=experiments,
    deps=[evaluation_report, dataset_split, training_config, python_environment],
    code_version=STAGES["leak_audit"].code_version,
    pool=GPU,
)
def leak_audit(
    context: dg.AssetExecutionContext, home: HomeResource, config: TrialsRun
) -> dg.MaterializeResult:
    """The same configuration on a random split, in which tiles are seen again: by how much the
    score rises is what others report as skill."""
    place = home.open()
    with cleared(context, place, config.accelerator, config.allow_unpinned) as clearance:
        return _audit(context, place, config, clearance)


def _audit(
    context: dg.AssetExecutionContext, place: Home, config: TrialsRun, clearance: Clearance
) -> dg.MaterializeResult:
    from defect_assets.dataset.leaky_split import leaky_split, share_seen
    from defect_assets.evaluation.leak_audit import audit_leak

    store = place.store()
    dataset, config_id = experiment_of(context)
    split_digest, split, snapshot = read_split_of(store, dataset)
    training, parents = read_config(store, config_id, split_digest)
    evaluation = store.content(f"reports/{dataset}/{config_id}")
    if evaluation is None:
        raise refuse(
            f"{dataset} × {config_id} is not evaluated: materialize evaluation_report first"
        )
    files = store.objects.get_tree(evaluation)
    report = Report.model_validate_json(files[REPORT])
    model = store.record(f"experiments/{dataset}/{config_id}")
    if (
        model is None
        or model.content != report.bundle
        or any(model.parents.get(name) != parents[name] for name in SAME)
    ):
        raise refuse(
            f"{dataset} × {config_id} was evaluated with another split, configuration or model "
            "than there is now, so the two sides would differ in more than the split: materialize "
            "trained_model and evaluation_report first"
        )
    leaky = leaky_split(store, split)
    [trial] = run_divisions(
        context, place, config, clearance, training, parents, [Division("by-image", leaky)]
    )
    audit = audit_leak(
        dataset,
        config_id,
        (report.bundle, share_seen(store, split), read_counts(files[IMAGES])),
        (trial.bundle, share_seen(store, leaky), trial.read_table(store)),
        list(training.class_map(snapshot.description.class_map).values()),
    )
    record = record_of(
        context,
        store.objects.put_json(audit.model_dump(mode="json")),
        {**parents, "evaluation_report": evaluation},
        clearance.details,
    )
    clearance.confirm()
    store.publish(ref_of(record), record)
    rows = "\n".join(
        f"| {name.replace('_', ' ')} | {rounded(getattr(audit.by_part.test, name))} "
        f"| {rounded(getattr(audit.by_image.test, name))} | {difference:+.3f} |"
        for name, (difference, _) in audit.optimism.items()
    )
    return result_of(
        record,
        {
            "optimism in points of Dice": rounded(audit.points_of_dice),
            "side by side": dg.MetadataValue.md(
                f"| | by part | by image | optimism |\n|---|---|---|---|\n{rows}"
            ),
            "test images seen in training": f"{audit.by_image.seen:.0%} by their part",
            **clearance.metadata,
        },
    )
