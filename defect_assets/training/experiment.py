"""From a split and a configuration to a bundle: what the assets call."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from defect_assets.dataset.snapshot import read_snapshot
from defect_assets.dataset.split import Split, read_part
from defect_assets.errors import UserError
from defect_assets.inference.tiling import TrainingSizes
from defect_assets.store import Store
from defect_assets.training.bundling import make_bundle
from defect_assets.training.checkpoint import Checkpoint
from defect_assets.training.config import TrainingConfig
from defect_assets.training.data import FittedImages, fit_snapshot
from defect_assets.training.hardware import Hardware
from defect_assets.training.loop import Point, Progress, train


class ConfigMismatch(UserError):
    """A configuration that does not fit the dataset; the message says why."""


@dataclass(frozen=True)
class TrainedModel:
    """What a training comes to."""

    files: dict[str, bytes]
    """The bundle."""
    history: list[Point]
    record: dict[str, Any]
    """See `defect_assets.training.loop.TrainingResult`."""


def train_on_split(
    store: Store,
    split: Split,
    config: TrainingConfig,
    fitted: Path,
    fold: int | None = None,
    hardware: Hardware | None = None,
    checkpoint: Checkpoint | None = None,
    report: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainedModel:
    """Train on the train part of a split; choose the threshold on its validation part.

    Parameters
    ----------
    store
        Where the images lie.
    split
        Who trains and who validates.
    config
        How to train.
    fitted
        The folder for images at the network's resolution.
    fold
        Which fold of the cross-validation, from 1 on; None: the split itself.
    hardware, checkpoint, report, stop
        See `train`.

    Raises
    ------
    ConfigMismatch
        If the configuration names a class that the dataset lacks.
    TrainingDiverged, TrainingStopped
        See `train`.
    Corrupted
        If an image is damaged or gone.
    """
    sets = read_sets(store, split, config, fitted, fold)
    train_set, class_map = sets.train_set, sets.class_map
    result = train(config, train_set, sets.val_set, class_map, hardware, checkpoint, report, stop)
    files = make_bundle(
        result,
        config,
        config.class_map(class_map),
        read_part(store, split, "val", fold),
        TrainingSizes.of(train_set.sizes[train_set.rows]),
    )
    return TrainedModel(files, result.history, {**result.record, "images": len(train_set)})


@dataclass(frozen=True)
class TrainingSets:
    """What a training sees."""

    train_set: FittedImages
    val_set: FittedImages
    class_map: dict[int, str]
    """The ids of the dataset's classes, from 1 on, and their names."""


def read_sets(
    store: Store, split: Split, config: TrainingConfig, fitted: Path, fold: int | None = None
) -> TrainingSets:
    """Return what a training sees; for the parameters and errors, see `train_on_split`."""
    class_map = read_snapshot(store, split.snapshot).description.class_map
    if strangers := set(config.paint) - set(class_map.values()):
        raise ConfigMismatch(
            f"paint names {', '.join(sorted(strangers))}, which the dataset lacks; "
            f"its classes are {', '.join(class_map.values())}"
        )
    images = fit_snapshot(store, split.snapshot, config.input, fitted)
    train_set, val_set = (_part(store, split, images, part, fold) for part in ("train", "val"))
    return TrainingSets(train_set, val_set, class_map)


def _part(
    store: Store, split: Split, images: FittedImages, part: str, fold: int | None
) -> FittedImages:
    column = split.division(fold)
    rows = store.objects.get_table(split.rows, ["sample", column])
    chosen = np.array(rows[column].to_pylist()) == part
    return images.only(np.array(rows["sample"].to_pylist())[chosen])
