"""An experiment, dataset × config: the trained model and its evaluation."""

import json
import tempfile
from pathlib import Path

import dagster as dg

from defect_assets.assets.clearance import Clearance, cleared
from defect_assets.assets.dataset import dataset_split
from defect_assets.assets.environment import python_environment, training_config
from defect_assets.assets.publishing import (
    OWNERS,
    environment_of,
    picture,
    record_of,
    ref_of,
    refuse,
    result_of,
    rounded,
)
from defect_assets.dataset.snapshot import Snapshot, read_snapshot
from defect_assets.dataset.split import PARTS, Split, read_part, read_split
from defect_assets.dataset.split import REF as SPLITS
from defect_assets.evaluation.report import PAGE_TEMPLATE
from defect_assets.home import PROJECT
from defect_assets.partitions import experiment_of, experiments
from defect_assets.registry.code import code_version
from defect_assets.registry.pinning import mark, why_unpinned
from defect_assets.registry.plan import Plan
from defect_assets.resources import HomeResource
from defect_assets.store import Digest, Store
from defect_assets.store.objects import write_tree


class TrainingRun(dg.Config):
    """What a person may say of a training, beside its configuration."""

    allow_unpinned: bool = False
    """Train though preflight finds that nobody could look up what with; never to be released."""


@dg.asset(
    group_name="experiments",
    kinds={"pytorch"},
    owners=OWNERS,
    partitions_def=experiments,
    deps=[dataset_split, training_config, python_environment],
    code_version=code_version("training.loop", "training.data", "training.bundling"),
)
def trained_model(
    context: dg.AssetExecutionContext, home: HomeResource, config: TrainingRun
) -> dg.MaterializeResult:
    """A model: weights, label map, pre- and post-processing, thresholds, curves.

    Trained on the train split; thresholds chosen on the validation split.
    """
    place = home.open()
    plan = Plan(PROJECT, place.store(), place.root, *experiment_of(context))
    with cleared(context, plan, config.allow_unpinned) as clearance:
        return _train(context, home, clearance)


def _train(
    context: dg.AssetExecutionContext, home: HomeResource, clearance: Clearance
) -> dg.MaterializeResult:
    # PyTorch takes seconds to import; only those who train should wait for it.
    from defect_assets.evaluation.curves import plot_history
    from defect_assets.training.bundling import make_bundle
    from defect_assets.training.config import TrainingConfig
    from defect_assets.training.data import fit_images
    from defect_assets.training.loop import Progress, TrainingDiverged, train

    store = home.open().store()
    dataset, config_id = experiment_of(context)
    split_digest, split, snapshot = _read_split(store, dataset)
    config_record = store.record(f"configs/{config_id}")
    if config_record is None:
        raise refuse(f"{config_id} is not in the store: materialize training_config first")
    config = TrainingConfig.model_validate(store.objects.get_json(config_record.content))
    description = snapshot.description

    context.log.info("reading images")
    train_set, val_set = (
        fit_images(read_part(store, split, part), config.input, description.class_ids)
        for part in ("train", "val")
    )
    context.log.info(f"training on {len(train_set)} images, {config.steps} steps")

    def report(progress: Progress) -> None:
        point = progress.point
        context.log.info(
            f"step {point.step} of {progress.steps} · loss {point.loss:.3f} · "
            f"validation Dice {point.val_dice:.3f} · {progress.seconds_left:.0f} s left"
        )

    try:
        result = train(config, train_set, val_set, len(description.classes), report)
    except TrainingDiverged as error:
        raise refuse(error) from error
    context.log.info("choosing the threshold on the validation split")
    files = make_bundle(result, config, description.class_map, read_part(store, split, "val"))
    record = record_of(
        context,
        store.objects.put_tree(files),
        parents={
            "dataset_split": split_digest,
            "training_config": config_record.content,
            **environment_of(store),
        },
        details={
            "seconds": round(result.seconds, 1),
            "device": result.device,
            "precision": result.precision,
            **clearance.details,
        },
    )
    clearance.confirm()
    store.publish(ref_of(record), record)
    history = [point.model_dump() for point in result.history]
    return result_of(
        record,
        {
            "validation Dice": round(result.history[-1].val_dice, 4),
            "seconds": record.details["seconds"],
            "device": f"{result.device}, {result.precision}",
            "curves": picture(plot_history(history), "training curves"),
            **clearance.metadata,
        },
    )


@dg.asset(
    group_name="experiments",
    kinds={"html"},
    owners=OWNERS,
    partitions_def=experiments,
    deps=[trained_model, dataset_split, python_environment],
    code_version=code_version("evaluation.evaluate", files=[PAGE_TEMPLATE]),
)
def evaluation_report(
    context: dg.AssetExecutionContext, home: HomeResource
) -> dg.MaterializeResult:
    """How good a model is on parts it has never seen: metrics, the worst images, a page."""
    from defect_assets.evaluation.evaluate import evaluate, make_report
    from defect_assets.inference.bundle import HISTORY
    from defect_assets.inference.detector import Detector

    place = home.open()
    store = place.store()
    dataset, config_id = experiment_of(context)
    split_digest, split, snapshot = _read_split(store, dataset)
    model = store.record(f"experiments/{dataset}/{config_id}")
    if model is None:
        raise refuse(f"{dataset} × {config_id} has no model: materialize trained_model first")
    if model.parents["dataset_split"] != split_digest:
        raise refuse(
            f"{dataset} was split anew since {dataset} × {config_id} was trained, which may have "
            "seen what is now for testing: materialize trained_model first",
        )
    bundle = model.content
    files = store.objects.get_tree(bundle)
    with tempfile.TemporaryDirectory() as unpacked:
        write_tree(files, Path(unpacked))
        detector = Detector.load(Path(unpacked))
    context.log.info("looking at the test split")
    table, gallery = evaluate(detector, read_part(store, split, "test"), snapshot.description)
    report, pages = make_report(
        dataset,
        config_id,
        bundle,
        split_digest,
        detector,
        table,
        gallery,
        json.loads(files[HISTORY]),
        snapshot.description,
    )
    record = record_of(
        context,
        store.objects.put_tree(pages),
        parents={
            "trained_model": bundle,
            "dataset_split": split_digest,
            **environment_of(store),
        },
        details=mark(why_unpinned(model)),
    )
    store.publish(ref_of(record), record)
    folder = place.report(dataset, config_id)
    write_tree(pages, folder)
    test = report.test
    rows = "\n".join(
        f"| {name} | {rounded(s.dice)} | {rounded(s.iou)} | {rounded(s.recall)} "
        f"| {s.images} | {s.groups} |"
        for name, s in test.classes.items()
    )
    metadata: dict[str, object] = {
        "test Dice": rounded(test.dice),
        "test IoU": rounded(test.iou),
        "macro Dice": rounded(test.macro_dice),
        "test parts": test.groups,
        "classes": dg.MetadataValue.md(
            f"| class | Dice | IoU | recall | images | parts |\n|---|---|---|---|---|---|\n{rows}"
        ),
        "report": dg.MetadataValue.path(str(folder / "report.html")),
    }
    if gallery:
        metadata["worst image"] = picture(gallery[0].png, "image, truth, prediction")
    return result_of(record, metadata)


def _read_split(store: Store, dataset: str) -> tuple[Digest, Split, Snapshot]:
    digest = store.content(f"{SPLITS}{dataset}")
    if digest is None:
        raise refuse(f"{dataset} is not split yet: materialize dataset_split first")
    split = read_split(store, digest)
    snapshot = read_snapshot(store, split.snapshot)
    empty = [part for part in PARTS if not split.groups[part]]
    if empty:
        raise refuse(
            f"{dataset} has no images for {' and '.join(empty)}: "
            f"{sum(split.groups.values())} parts are too few, deliver more",
        )
    if set(split.counts["train"]) <= {snapshot.description.defect_free}:
        raise refuse(f"{dataset} has no defective image to learn from; deliver some")
    return digest, split, snapshot
