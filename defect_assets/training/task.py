"""A training as a task for a process of its own: what it is told, what it says, what comes out."""

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

from defect_assets.dataset.snapshot import read_snapshot
from defect_assets.dataset.split import Split
from defect_assets.inference.images import encode_png
from defect_assets.store import Digest, open_store
from defect_assets.training.checkpoint import Checkpoint
from defect_assets.training.config import TrainingConfig
from defect_assets.training.experiment import read_sets, train_on_split
from defect_assets.training.hardware import Hardware
from defect_assets.training.loop import Point, Progress, train
from defect_assets.training.monitor import TensorBoard, draw_preview


class TrainingTask(BaseModel):
    """All that a process has to know to train a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str
    """Where the images are and the bundle will be: a folder, or ``s3://bucket/prefix``."""
    cache: Path
    """Where what was read of a bucket is kept."""
    split: Split
    config: TrainingConfig
    hardware: Hardware
    fitted: Path
    """The folder for images at the network's resolution."""
    state: Path
    """The folder for the training's state."""
    identity: str
    """See `defect_assets.training.checkpoint.Checkpoint`."""
    checkpoint_minutes: float
    tensorboard: Path
    """The folder for this run's curves."""


class News(BaseModel):
    """What a training says of its progress."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    text: str
    """For people."""
    history: list[Point]
    """The last point is the new one."""
    seconds_left: float
    preview: bytes
    """A PNG: images, truth and prediction."""


class Outcome(BaseModel):
    """What a training comes to."""

    bundle: Digest
    """Its tree, in the store."""
    history: list[Point]
    record: dict[str, JsonValue]
    """See `defect_assets.training.loop.TrainingResult`."""


def run_task(task: TrainingTask, tell: Callable[[News], None], stop: Callable[[], bool]) -> Outcome:
    """Train a model; its files are in the store when this returns, its state stays on the disk.

    Parameters
    ----------
    task
        What to train.
    tell
        Is told of progress.
    stop
        Is asked at each step whether to stop.

    Raises
    ------
    TrainingDiverged, TrainingStopped, ConfigMismatch, Corrupted
        See `train_on_split`.
    """
    store = open_store(task.store, cache=task.cache)
    palette = read_snapshot(store, task.split.snapshot).description.palette
    board = TensorBoard(task.tensorboard, palette)

    def report(progress: Progress) -> None:
        board(progress)
        tell(
            News(
                text=str(progress),
                history=progress.history,
                seconds_left=progress.seconds_left,
                preview=encode_png(draw_preview(progress.preview, palette)),
            )
        )

    try:
        model = train_on_split(
            store,
            task.split,
            task.config,
            task.fitted,
            hardware=task.hardware,
            checkpoint=Checkpoint(task.state, task.identity, task.checkpoint_minutes),
            report=report,
            stop=stop,
        )
    finally:
        board.close()
    return Outcome(
        bundle=store.objects.put_tree(model.files), history=model.history, record=model.record
    )


def join_task(task: TrainingTask) -> None:
    """Take part in a training whose first process does `run_task`: it says how it goes, and ends.

    Raises
    ------
    TrainingDiverged, TrainingStopped, ConfigMismatch, Corrupted
        As in the first process.
    """
    sets = read_sets(open_store(task.store, cache=task.cache), task.split, task.config, task.fitted)
    state = Checkpoint(task.state, task.identity, task.checkpoint_minutes)
    train(task.config, sets.train_set, sets.val_set, sets.class_map, task.hardware, state)
