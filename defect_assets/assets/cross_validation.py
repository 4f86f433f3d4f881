"""How good a configuration is, measured on every part of a dataset."""

import dagster as dg

from defect_assets.assets.clearance import GPU, Clearance, cleared
from defect_assets.assets.dataset import dataset_split
from defect_assets.assets.environment import python_environment, training_config
from defect_assets.assets.experiment import read_config, read_split_of
from defect_assets.assets.publishing import (
    OWNERS,
    record_of,
    ref_of,
    refuse,
    result_of,
    rounded,
)
from defect_assets.assets.trials import Division, TrialsRun, run_divisions
from defect_assets.home import Home
from defect_assets.partitions import experiment_of, experiments
from defect_assets.registry.stages import STAGES
from defect_assets.resources import HomeResource


@dg.asset(
    group_name="experiments",
    kinds={"pytorch"},
    owners=OWNERS,
    partitions_def=experiments,
    deps=[dataset_split, training_config, python_environment],
    code_version=STAGES["cross_validation"].code_version,
    pool=GPU,
)
def cross_validation(
    context: dg.AssetExecutionContext, home: HomeResource, config: TrialsRun
) -> dg.MaterializeResult:
    """How good a configuration is: each part is tested once, by a model that never saw it."""
    place = home.open()
    with cleared(context, place, config.accelerator, config.allow_unpinned) as clearance:
        return _cross_validate(context, place, config, clearance)


def _cross_validate(
    context: dg.AssetExecutionContext, place: Home, config: TrialsRun, clearance: Clearance
) -> dg.MaterializeResult:
    from defect_assets.evaluation.crossvalidation import Fold, pool_folds

    store = place.store()
    dataset, config_id = experiment_of(context)
    split_digest, split, snapshot = read_split_of(store, dataset)
    training, parents = read_config(store, config_id, split_digest)
    if not split.folds:
        raise refuse(f"{dataset} has no folds: set split.folds in its description, e.g. to 5")
    numbers = range(1, len(split.folds) + 1)
    divisions = [Division(f"fold-{number}", split, number) for number in numbers]
    trials = run_divisions(context, place, config, clearance, training, parents, divisions)
    folds = [
        Fold(fold=number, **trial.model_dump())
        for number, trial in zip(numbers, trials, strict=True)
    ]
    summary, files = pool_folds(
        dataset,
        config_id,
        split_digest,
        folds,
        [fold.read_table(store) for fold in folds],
        list(training.class_map(snapshot.description.class_map).values()),
    )
    record = record_of(context, store.objects.put_tree(files), parents, clearance.details)
    clearance.confirm()
    store.publish(ref_of(record), record)
    names = ("dice", "macro_dice", "region_recall", "image_auroc", "false_alarms", "escapes")
    rows = "\n".join(
        f"| {name.replace('_', ' ')} | {rounded(getattr(summary.pooled, name))} | {low:.3f} | "
        f"{high:.3f} |"
        for name in names
        for low, high in [summary.intervals.get(name, (float("nan"), float("nan")))]
    )
    return result_of(
        record,
        {
            "Dice": rounded(summary.pooled.dice),
            "macro Dice": rounded(summary.pooled.macro_dice),
            "scores": dg.MetadataValue.md(
                f"| pooled over all parts | | from | to |\n|---|---|---|---|\n{rows}"
            ),
            "folds": dg.MetadataValue.md(
                "| fold | Dice | parts | threshold |\n|---|---|---|---|\n"
                + "\n".join(
                    f"| {f.fold} | {rounded(f.test.dice)} | {f.test.groups} | {f.threshold} |"
                    for f in folds
                )
            ),
            **clearance.metadata,
            "summary": dg.MetadataValue.json(summary.model_dump(mode="json", exclude={"folds"})),
        },
    )
