"""An experiment, dataset × config: the trained model and its evaluation."""

import json
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from defect_assets.assets.clearance import GPU, Clearance, cleared
from defect_assets.assets.comparing import compared
from defect_assets.assets.conditions import follows
from defect_assets.assets.dataset import dataset_split
from defect_assets.assets.environment import python_environment, training_config
from defect_assets.assets.gpus import asks_for, gpus_of
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
from defect_assets.assets.training_process import train_apart
from defect_assets.cluster.connection import on_ray
from defect_assets.dataset.snapshot import Snapshot, read_snapshot
from defect_assets.dataset.split import PARTS, Split, part_of, read_part, read_split
from defect_assets.dataset.split import REF as SPLITS
from defect_assets.errors import UserError
from defect_assets.evaluation.report import PAGE, Report
from defect_assets.home import Home
from defect_assets.partitions import experiment_of, experiments
from defect_assets.registry.pinning import mark, why_unpinned
from defect_assets.registry.stages import STAGES
from defect_assets.resources import HomeResource
from defect_assets.spreading import one_by_one
from defect_assets.store import Digest, Store, canonical_json, digest_of
from defect_assets.store.objects import write_tree
from defect_assets.training.config import TrainingConfig

if TYPE_CHECKING:
    from defect_assets.evaluation.latency import Latency
    from defect_assets.training.hardware import Hardware
    from defect_assets.training.loop import Point
    from defect_assets.training.task import News, Outcome, TrainingTask


class TrainingRun(dg.Config):
    """How a training is run. What is trained stays the same."""

    accelerator: str = "auto"
    """``cpu``, ``cuda``, or a GPU where there is one."""
    devices: int = 1
    """GPUs, or processes on a CPU, of each machine."""
    nodes: int = 1
    """Machines."""
    checkpoint_minutes: float = 2
    """How often the state is saved, from which an interrupted training goes on."""
    allow_unpinned: bool = False
    """Train though preflight finds that nobody could look up what with; never to be released."""

    @property
    def hardware(self) -> "Hardware":
        """What to train on."""
        from defect_assets.training.hardware import Hardware

        return Hardware.model_validate(
            self.model_dump(include={"accelerator", "devices", "nodes"}), strict=True
        )


TRAINING_CODE = STAGES["trained_model"].code_version


@dg.asset(
    group_name="experiments",
    kinds={"pytorch"},
    owners=OWNERS,
    partitions_def=experiments,
    deps=[dataset_split, training_config, python_environment],
    code_version=TRAINING_CODE,
    pool=GPU,
    op_tags=asks_for(1),
)
def trained_model(
    context: dg.AssetExecutionContext, home: HomeResource, config: TrainingRun
) -> dg.MaterializeResult:
    """A model: weights, label map, pre- and post-processing, thresholds, curves.

    Trained on the train split; thresholds chosen on the validation split.
    """
    place = home.open()
    with cleared(context, place, config.accelerator, config.allow_unpinned) as clearance:
        return _train(context, place, config, clearance)


def _train(
    context: dg.AssetExecutionContext, place: Home, config: TrainingRun, clearance: Clearance
) -> dg.MaterializeResult:
    # PyTorch takes seconds to import; only those who train should wait for it.
    from defect_assets.evaluation.curves import plot_history
    from defect_assets.training.checkpoint import Checkpoint
    from defect_assets.training.task import News, TrainingTask

    store = place.store()
    dataset, config_id = experiment_of(context)
    split_digest, split, _ = read_split_of(store, dataset)
    training, parents = read_config(store, config_id, split_digest)
    run = context.run.run_id.split("-")[0]  # each run has curves of its own
    task = TrainingTask(
        store=place.url,
        cache=place.cache,
        split=split,
        config=training,
        hardware=config.hardware,
        fitted=place.fitted,
        state=place.training(dataset, config_id),
        identity=digest_of(canonical_json([parents, TRAINING_CODE, config.hardware.model_dump()])),
        checkpoint_minutes=config.checkpoint_minutes,
        tensorboard=place.tensorboard / f"{dataset}-{config_id}" / run,
    )

    def report(news: News) -> None:
        context.log.info(news.text)
        if len(news.history) % OBSERVED == 0:  # each is a row in Dagster's database
            point = news.history[-1]
            context.log_event(
                dg.AssetObservation(
                    context.asset_key,
                    partition=context.partition_key,
                    metadata={
                        "step": point.step,
                        "loss": point.loss,
                        "validation Dice": point.val_dice,
                        "seconds left": round(news.seconds_left),
                        "curves": picture(plot_history(_points(news.history)), "curves"),
                        "predictions": picture(news.preview, "image, truth, prediction"),
                    },
                )
            )

    context.log.info(f"training on {sum(split.counts['train'].values())} images")
    model = _trained(context, place, task, report)
    record = record_of(
        context,
        model.bundle,
        parents=parents,
        details={**model.record, **clearance.details},
    )
    clearance.confirm()
    store.publish(ref_of(record), record)
    Checkpoint(task.state, task.identity).remove()
    return result_of(
        record,
        {
            "validation Dice": round(model.history[-1].val_dice, 4),
            "curves": picture(plot_history(_points(model.history)), "training curves"),
            "run": dg.MetadataValue.json(model.record),
            **clearance.metadata,
        },
    )


def _trained(
    context: dg.AssetExecutionContext,
    place: Home,
    task: "TrainingTask",
    hear: Callable[["News"], None],
) -> "Outcome":
    """Train in a process of its own, or on the cluster."""
    if not on_ray():
        return train_apart(context, task, place.access, hear)
    from defect_assets.cluster.training import train_on_ray

    try:
        return train_on_ray(
            task, place.access.where() if place.access else {}, hear, gpus_of(context)
        )
    except UserError as error:
        raise refuse(error) from error


OBSERVED = 4
"""Every so many looks at the validation split, the UI is shown curves and predictions."""


@dg.asset(
    group_name="experiments",
    kinds={"html"},
    owners=OWNERS,
    partitions_def=experiments,
    deps=[trained_model, dataset_split, python_environment],
    automation_condition=follows("trained_model"),
    op_tags=asks_for(0.5),
    code_version=STAGES["evaluation_report"].code_version,
)
def evaluation_report(
    context: dg.AssetExecutionContext, home: HomeResource
) -> dg.MaterializeResult:
    """How good a model is on parts it has never seen: scores, where it fails, a page."""
    from defect_assets.evaluation.drawing import preview
    from defect_assets.evaluation.evaluate import count
    from defect_assets.evaluation.latency import IMAGES, measure_latency
    from defect_assets.evaluation.looking import look_at
    from defect_assets.evaluation.page import render_page
    from defect_assets.evaluation.reporting import make_report, report_files
    from defect_assets.inference.bundle import HISTORY, read_spec
    from defect_assets.registry.exporting import export_runtimes

    place = home.open()
    store = place.store()
    dataset, config_id = experiment_of(context)
    split_digest, split, snapshot = read_split_of(store, dataset)
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
        folder = Path(unpacked)
        write_tree(files, folder)
        spec, description = read_spec(folder), snapshot.description
        context.log.info("looking at the test split")
        spread = place.spread(one_by_one, gpus_of(context))
        looked_at = look_at(store, bundle, part_of(store, split, "test"), description, spread)
        evaluation = count(looked_at, spec, description)
        context.log.info("resampling its parts")
        report = make_report(dataset, config_id, bundle, split_digest, spec, evaluation)
        shown = (report, evaluation, json.loads(files[HISTORY]), description)
        pages = report_files(*shown)
        context.log.info("timing the model in each runtime")
        seen = list(islice(read_part(store, split, "test"), IMAGES))
        export_runtimes(folder, seen)
        latencies = measure_latency(folder, [image.image for image in seen])
    record = record_of(
        context,
        store.objects.put_tree(pages),
        parents={
            "trained_model": bundle,
            "dataset_split": split_digest,
            **environment_of(store),
        },
        # Not in the content: it differs from run to run.
        details={**mark(why_unpinned(model)), "latencies": [x.model_dump() for x in latencies]},
    )
    store.publish(ref_of(record), record)
    folder = place.report(dataset, config_id)
    write_tree({**pages, PAGE: render_page(*shown, latencies)}, folder)
    metadata = {**_scores(report), "report": dg.MetadataValue.path(str(folder / PAGE))}
    metadata |= compared(store, dataset, config_id)
    metadata["latency"] = _latency_table(latencies)
    for gallery in evaluation.galleries[:2]:  # what a model gets wrong, of either kind
        if gallery.entries:
            sheet = preview(gallery.entries[0].picture, description.palette)
            metadata[gallery.title.lower()] = picture(sheet, "image, truth, prediction")
    return result_of(record, metadata)


def _scores(report: Report) -> dict[str, object]:
    """Return the scores as metadata; numbers by themselves, which Dagster plots over time."""
    test = report.test
    names = (
        "dice",
        "macro_dice",
        "region_recall",
        "region_precision",
        "aupro",
        "image_auroc",
        "part_escapes",
        "part_false_alarms",
    )
    of_all = "\n".join(
        f"| {name.replace('_', ' ')} | {rounded(getattr(test, name))} | "
        f"{_range(report.intervals.get(name))} |"
        for name in names
    )
    of_class = "\n".join(
        f"| {name} | {rounded(s.dice)} | {_range(report.intervals.get(f'dice {name}'))} | "
        f"{rounded(s.recall)} | {rounded(s.region_recall)} | {s.images} | {s.groups} |"
        for name, s in test.classes.items()
    )
    return {
        "test Dice": rounded(test.dice),
        "test IoU": rounded(test.iou),
        "macro Dice": rounded(test.macro_dice),
        "test parts": test.groups,
        "scores": dg.MetadataValue.md(f"| score | | 95 % interval |\n|---|---|---|\n{of_all}"),
        "classes": dg.MetadataValue.md(
            "| class | Dice | 95 % interval | recall | defects found | images | parts |\n"
            f"|---|---|---|---|---|---|---|\n{of_class}"
        ),
    }


def _latency_table(latencies: list["Latency"]) -> dg.MarkdownMetadataValue:
    rows = "\n".join(
        f"| {x.runtime} | {x.device} | {x.p50_ms} | {x.p95_ms} | {x.peak_memory_mb or '–'} |"
        for x in latencies
    )
    return dg.MetadataValue.md(
        "| runtime | device | half within, ms | 95 % within, ms | MB |\n"
        f"|---|---|---|---|---|\n{rows}"
    )


def _range(bounds: tuple[float, float] | None) -> str:
    return f"{bounds[0]:.3f} – {bounds[1]:.3f}" if bounds else ""


def _points(history: list["Point"]) -> list[dict[str, float]]:
    return [point.model_dump() for point in history]


def read_config(
    store: Store, config_id: str, split: Digest
) -> tuple[TrainingConfig, dict[str, Digest]]:
    """Return a configuration as recorded, and the parents of what comes of it and a split."""
    record = store.record(f"configs/{config_id}")
    if record is None:
        raise refuse(f"{config_id} is not in the store: materialize training_config first")
    config = TrainingConfig.model_validate(store.objects.get_json(record.content))
    parents = {
        "dataset_split": split,
        "training_config": record.content,
        **environment_of(store),
    }
    return config, parents


def read_split_of(store: Store, dataset: str) -> tuple[Digest, Split, Snapshot]:
    """Return a dataset's split, its digest and its snapshot, if one can learn from them."""
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
