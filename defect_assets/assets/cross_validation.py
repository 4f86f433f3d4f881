"""How good a configuration is, measured on every part of a dataset."""

import dagster as dg

from defect_assets.assets.clearance import Clearance, cleared
from defect_assets.assets.dataset import dataset_split
from defect_assets.assets.environment import python_environment, training_config
from defect_assets.assets.experiment import TrainingRun, read_config, read_split_of
from defect_assets.assets.publishing import (
    OWNERS,
    record_of,
    ref_of,
    refuse,
    result_of,
    rounded,
)
from defect_assets.home import PROJECT, Home
from defect_assets.partitions import experiment_of, experiments
from defect_assets.registry.code import code_version
from defect_assets.registry.pinning import why_unpinned
from defect_assets.registry.plan import Plan
from defect_assets.resources import HomeResource
from defect_assets.store import canonical_json, digest_of

FOLDS = "folds/"
"""Under this name each fold is published, so that an interrupted run goes on with the next one."""
CODE = code_version("training.folds", "evaluation.crossvalidation")


class CrossValidationRun(TrainingRun):
    """How a cross-validation is run. What comes out stays the same."""

    at_once: int = 1
    """Folds that are trained at the same time, each in a process of its own."""


@dg.asset(
    group_name="experiments",
    kinds={"pytorch"},
    owners=OWNERS,
    partitions_def=experiments,
    deps=[dataset_split, training_config, python_environment],
    code_version=CODE,
)
def cross_validation(
    context: dg.AssetExecutionContext, home: HomeResource, config: CrossValidationRun
) -> dg.MaterializeResult:
    """How good a configuration is: each part is tested once, by a model that never saw it."""
    place = home.open()
    plan = Plan(PROJECT, place.store(), place.root, *experiment_of(context), config.accelerator)
    with cleared(context, plan, config.allow_unpinned) as clearance:
        return _cross_validate(context, place, config, clearance)


def _cross_validate(
    context: dg.AssetExecutionContext,
    place: Home,
    config: CrossValidationRun,
    clearance: Clearance,
) -> dg.MaterializeResult:
    from defect_assets.evaluation.crossvalidation import Fold, pool_folds
    from defect_assets.training.experiment import ConfigMismatch
    from defect_assets.training.folds import FoldJob, read_table, run_folds
    from defect_assets.training.loop import TrainingDiverged

    store = place.store()
    dataset, config_id = experiment_of(context)
    split_digest, split, snapshot = read_split_of(store, dataset)
    training, parents = read_config(store, config_id, split_digest)
    if not split.folds:
        raise refuse(f"{dataset} has no folds: set split.folds in its description, e.g. to 5")
    done: dict[int, Fold] = {}
    for fold in range(1, len(split.folds) + 1):
        record = store.record(f"{FOLDS}{dataset}/{config_id}/{fold}")
        if (
            record
            and (record.parents, record.code_version) == (parents, CODE)
            # A fold that was trained unpinned would make the whole so, without saying it.
            and (config.allow_unpinned or not why_unpinned(record))
        ):
            done[fold] = Fold.model_validate(store.objects.get_json(record.content))
    jobs = [
        FoldJob(
            fold,
            split,
            training,
            place.fitted,
            place.training(dataset, config_id),
            digest_of(canonical_json([parents, CODE, fold, config.hardware.model_dump()])),
            config.hardware,
        )
        for fold in range(1, len(split.folds) + 1)
        if fold not in done
    ]
    context.log.info(f"{len(jobs)} of {len(split.folds)} folds to train")
    try:
        folds_done = run_folds(store, place.url, jobs, config.at_once, context.log.info)
        for result in folds_done:
            record = record_of(
                context,
                store.objects.put_json(result.model_dump(mode="json")),
                parents,
                clearance.details,
            )
            store.publish(f"{FOLDS}{dataset}/{config_id}/{result.fold}", record)
            done[result.fold] = result
            context.log.info(
                f"{len(done)} of {len(split.folds)} folds · "
                f"fold {result.fold}: Dice {rounded(result.test.dice)}"
            )
    except (TrainingDiverged, ConfigMismatch) as error:
        raise refuse(error) from error
    folds = [done[fold] for fold in sorted(done)]
    summary, files = pool_folds(
        dataset,
        config_id,
        split_digest,
        folds,
        [read_table(store, fold.images) for fold in folds],
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
