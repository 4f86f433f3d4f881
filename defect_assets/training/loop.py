"""The training loop."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import BaseModel
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from defect_assets.evaluation.overlap import dice
from defect_assets.inference.model import build_model
from defect_assets.training.batches import Batches, prefetch
from defect_assets.training.checkpoint import Checkpoint
from defect_assets.training.config import TrainingConfig
from defect_assets.training.data import FittedImages
from defect_assets.training.hardware import Hardware, describe, energy_meter, share_processors
from defect_assets.training.loss import Loss
from defect_assets.training.optimization import build_optimizer, build_schedule
from defect_assets.training.processes import launch

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it greets at each start


class TrainingDiverged(Exception):
    """The loss is no longer a number."""


class TrainingStopped(Exception):
    """It was asked to stop; its state is saved."""


class Point(BaseModel):
    """One point of the training curves."""

    step: int
    loss: float
    """Mean since the point before."""
    val_dice: float
    """Pooled Dice of defective pixels on the validation split, at the network's resolution and
    a threshold of one half."""


@dataclass(frozen=True)
class Preview:
    """What the network makes of a few images of the validation split."""

    images: np.ndarray
    """uint8 of shape (n, height, width, channels)."""
    masks: np.ndarray
    """uint8 of shape (n, height, width): class ids."""
    predicted: np.ndarray
    """uint8 of shape (n, height, width): class ids."""


@dataclass(frozen=True)
class Progress:
    """How far a training is."""

    history: list[Point]
    """The last point is the new one."""
    steps: int
    """How many there will be."""
    seconds: float
    """Since the start."""
    seconds_left: float
    preview: Preview

    def __str__(self) -> str:
        point = self.history[-1]
        return (
            f"step {point.step} of {self.steps} · loss {point.loss:.3f} · "
            f"validation Dice {point.val_dice:.3f} · {self.seconds_left:.0f} s left"
        )


@dataclass(frozen=True)
class TrainingResult:
    """A trained network and how it went."""

    network: nn.Module
    """On the CPU, in evaluation mode."""
    history: list[Point]
    record: dict[str, Any]
    """What a run record says: hardware, precision, seconds, energy, images a second."""


POINTS = 20
"""How often the validation split is looked at."""
CHECKED = 10
"""Steps after which losses are looked at: to do so at each would make a GPU wait."""
PREVIEWED = 6
"""Images in a preview."""


def train(
    config: TrainingConfig,
    train_set: FittedImages,
    val_set: FittedImages,
    class_map: dict[int, str],
    hardware: Hardware | None = None,
    checkpoint: Checkpoint | None = None,
    report: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Train a network.

    On a CPU, the same configuration, data and machine give the same weights, bit for bit; so does
    a training that was interrupted and goes on from its checkpoint.

    Parameters
    ----------
    config
        What to train and how.
    train_set, val_set
        The images. Nothing is learned from the validation split.
    class_map
        The ids of the dataset's classes, from 1 on, and their names.
    hardware
        What to train on; by default one GPU where there is one, or else the CPU.
    checkpoint
        Where the state is kept; None: nowhere.
    report
        Is told of progress, `POINTS` times.
    stop
        Is asked at each step, or at every tenth of several processes, whether to stop.

    Raises
    ------
    TrainingDiverged
        If the loss becomes infinite or not a number. The batch is kept beside the checkpoint.
    TrainingStopped
        If `stop` says so before the last step. The state is saved first, where one is kept.
    """
    hardware = hardware or Hardware()
    if config.task == "binary":
        val_set = val_set.as_binary()
    job = _Job(config, train_set, val_set, class_map, hardware, checkpoint)
    return launch(_train, job, report, stop, hardware, _precision(config, hardware))


@dataclass(frozen=True)
class _Job:
    """What each process of a training gets."""

    config: TrainingConfig
    train_set: FittedImages
    val_set: FittedImages
    class_map: dict[int, str]
    hardware: Hardware
    checkpoint: Checkpoint | None


def _train(
    fabric: Fabric, job: _Job, report: Callable[[Progress], None], stop: Callable[[], bool]
) -> TrainingResult:
    """Train in one process, or in one of several."""
    config = job.config
    _prepare(config, job.hardware)
    batches = Batches(job.train_set, config, job.class_map, fabric.global_rank, fabric.world_size)
    steps = config.steps_for(len(job.train_set))
    learner = _Learner(fabric, config, len(config.class_map(job.class_map)), steps)
    loss_function = Loss(config.loss)

    if job.checkpoint and (state := job.checkpoint.load()):
        learner.load_state_dict(state)
    first = learner.step + 1
    start, seconds_before = time.monotonic(), learner.seconds
    losses: list[Tensor] = []
    with energy_meter() as energy:
        for step, (inputs, masks) in enumerate(
            _stream(batches, range(first, steps + 1), job.hardware), start=first
        ):
            if learner.stopped:
                break
            torch.manual_seed(_seed_of(config.seed, step, fabric.global_rank))  # for dropout
            learner.network.train()
            inputs, masks = fabric.to_device(inputs), fabric.to_device(masks)
            logits = learner.model(inputs.to(memory_format=torch.channels_last))
            loss = loss_function(logits.float(), masks)
            learner.optimizer.zero_grad()
            fabric.backward(loss)
            learner.update()
            losses.append(loss.detach())

            look = step * POINTS // steps > (step - 1) * POINTS // steps
            ends = step < steps and _asked(fabric, step, stop)
            due = step % CHECKED == 0 and _due(fabric, job.checkpoint)
            save = step == steps or ends or due
            if look or save or len(losses) == CHECKED:
                learner.losses += _checked(losses, step, batches, job)
                losses.clear()
            learner.seconds = seconds_before + time.monotonic() - start
            if look:
                score, preview = _validate(learner.mean.module, config, job.val_set, fabric)
                learner.look(fabric.broadcast(score))
                left = (time.monotonic() - start) / (step - first + 1) * (steps - step)
                if fabric.is_global_zero:
                    report(Progress(list(learner.history), steps, learner.seconds, left, preview))
            if save and job.checkpoint and fabric.is_global_zero:
                job.checkpoint.save(learner.state_dict())
            if ends:
                raise TrainingStopped(f"stopped after step {step} of {steps}")

    images = (learner.step - first + 1) * config.sampling.batch_size
    return TrainingResult(
        network=learner.result(),
        history=learner.history,
        record={
            **describe(fabric.device),
            "processes": fabric.world_size,
            "precision": _precision(config, job.hardware),
            "seconds": round(learner.seconds, 1),
            "images_per_second": round(images / max(time.monotonic() - start, 1e-9), 1),
            "resumed_after_step": first - 1,
            "joules": energy,
        },
    )


class _Learner:
    """All that changes while training: weights, their running mean, optimizer, schedule, curves."""

    def __init__(self, fabric: Fabric, config: TrainingConfig, classes: int, steps: int) -> None:
        torch.manual_seed(config.seed)
        network = build_model(
            config.architecture, config.input.channels, 1 + classes, pretrained=True
        )
        self.network = network.to(memory_format=torch.channels_last)
        self._optimizer = build_optimizer(self.network, config.optimizer)
        self._schedule = build_schedule(self._optimizer, config.schedule, steps)
        self.model, self.optimizer = fabric.setup(self.network, self._optimizer)
        self.mean = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
        )
        self._patience = config.early_stopping.patience if config.early_stopping else None
        self._best: dict[str, Tensor] | None = None
        self.step = 0
        self.seconds = 0.0
        self.history: list[Point] = []
        self.losses: list[float] = []
        """Since the last point."""

    def update(self) -> None:
        """Take one step along the gradient."""
        self.optimizer.step()
        self._schedule.step()
        self.mean.update_parameters(self.network)
        self.step += 1

    def look(self, val_dice: float) -> None:
        """Note how good the running mean is by now."""
        before = max((point.val_dice for point in self.history), default=-1)
        if self._patience and val_dice > before:
            state = self.mean.module.state_dict()
            self._best = {name: tensor.clone() for name, tensor in state.items()}
        loss = float(np.mean(self.losses))
        self.history.append(Point(step=self.step, loss=loss, val_dice=val_dice))
        self.losses.clear()

    @property
    def stopped(self) -> bool:
        """Whether the validation split says that more steps do not help."""
        scores = [point.val_dice for point in self.history]
        return bool(
            self._patience
            and len(scores) > self._patience
            and max(scores[-self._patience :]) <= max(scores[: -self._patience])
        )

    def result(self) -> nn.Module:
        """Return the network to keep, on the CPU."""
        network = self.mean.module
        if self._best is not None:
            network.load_state_dict(self._best)
        return network.cpu().to(memory_format=torch.contiguous_format).eval()

    def state_dict(self) -> dict[str, Any]:
        """Return all of it, for a checkpoint."""
        return {
            "network": self.network.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "best": self._best,
            "step": self.step,
            "seconds": self.seconds,
            "history": [point.model_dump() for point in self.history],
            "losses": self.losses,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.mean.load_state_dict(state["mean"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._best = state["best"]
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.history = [Point(**point) for point in state["history"]]
        self.losses = list(state["losses"])


def _stream(batches: Batches, steps: range, hardware: Hardware) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of some steps, the next ones being prepared meanwhile."""
    if hardware.batch_workers == 0:
        return prefetch(batches[step] for step in steps)
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=steps,
            num_workers=hardware.batch_workers,
            prefetch_factor=4,
            pin_memory=hardware.on_gpu,
            worker_init_fn=_prepare_worker,
        )
    )


def _checked(losses: list[Tensor], step: int, batches: Batches, job: _Job) -> list[float]:
    """Return the losses of the last steps, all of which must be numbers."""
    values: list[float] = torch.stack(losses).tolist()
    for bad, value in enumerate(values, start=step - len(values) + 1):
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"the loss is {value} at step {bad}: lower optimizer.learning_rate "
                f"({job.config.optimizer.learning_rate}), or set precision: 32-true"
                + _keep_batch(bad, batches, job)
            )
    return values


def _keep_batch(step: int, batches: Batches, job: _Job) -> str:
    """Save the batch of a step; return a sentence that says where, if it is anywhere."""
    if job.checkpoint is None:
        return ""
    draw = batches.draw(step)
    inputs, masks = batches[step]
    path = job.checkpoint.folder / f"diverged-at-step-{step}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        samples=job.train_set.samples[draw.images],
        donors=np.where(draw.donors >= 0, job.train_set.samples[draw.donors], ""),
        painted=draw.painted,
        inputs=inputs.numpy(),
        masks=masks.numpy(),
    )
    # What went before is no good to go on from: the same steps would end the same way.
    job.checkpoint.remove()
    return f". Its batch, {len(draw.images)} images, is kept in {path}"


def _validate(
    network: nn.Module, config: TrainingConfig, val_set: FittedImages, fabric: Fabric
) -> tuple[float, Preview]:
    """Return the pooled Dice of defective pixels, and a preview."""
    network.eval()
    both = predicted = true = 0
    shown = _previewed(val_set)
    found: dict[int, np.ndarray] = {}
    with torch.no_grad(), fabric.autocast():
        for first in range(0, len(val_set), 64):
            rows = val_set.rows[first : first + 64]
            inputs = fabric.to_device(
                torch.from_numpy(config.input.normalize(val_set.images[rows]))
            )
            logits = network(inputs.to(memory_format=torch.channels_last)).float()
            defective = logits.softmax(dim=1)[:, 0] < 0.5
            classes = 1 + logits[:, 1:].argmax(dim=1)
            mask = torch.where(defective, classes, 0).to(torch.uint8).cpu().numpy()
            truth = val_set.masks[rows] > 0
            both += int(((mask > 0) & truth).sum())
            predicted += int((mask > 0).sum())
            true += int(truth.sum())
            found |= {row: m for row, m in zip(rows.tolist(), mask, strict=True) if row in shown}
    preview = Preview(
        val_set.images[shown],
        val_set.masks[shown],
        np.array([found[row] for row in shown], np.uint8).reshape(-1, *val_set.masks.shape[1:]),
    )
    return dice(both, predicted - both, true - both), preview


def _previewed(val_set: FittedImages) -> list[int]:
    """Return the rows of a preview: one image of each class, defects first."""
    classes, first = np.unique(val_set.classes[val_set.rows], return_index=True)
    rows: list[int] = val_set.rows[first[np.argsort(classes == 0, kind="stable")]].tolist()
    return rows[:PREVIEWED]


def _prepare(config: TrainingConfig, hardware: Hardware) -> None:
    share_processors(hardware)
    cv2.setNumThreads(0)
    torch.use_deterministic_algorithms(config.deterministic, warn_only=True)
    torch.backends.cudnn.deterministic = config.deterministic
    torch.backends.cudnn.benchmark = not config.deterministic


def _prepare_worker(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _asked(fabric: Fabric, step: int, stop: Callable[[], bool]) -> bool:
    """Tell whether all processes are to stop; to agree costs several of them time."""
    return (fabric.world_size == 1 or step % CHECKED == 0) and bool(fabric.broadcast(stop()))


def _due(fabric: Fabric, checkpoint: Checkpoint | None) -> bool:
    return bool(checkpoint and fabric.is_global_zero and checkpoint.due)


def _seed_of(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


def _precision(config: TrainingConfig, hardware: Hardware) -> str:
    if config.precision != "auto":
        return config.precision
    if hardware.on_gpu:
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    native = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16-mixed" if native and torch.cpu._is_avx512_bf16_supported() else "32-true"
