"""The training loop."""

import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import BaseModel
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from defect_assets.evaluation.overlap import dice
from defect_assets.inference.model import build_model
from defect_assets.training.augmentation import Augmenter
from defect_assets.training.config import TrainingConfig
from defect_assets.training.data import FittedImages, batches, prefetch
from defect_assets.training.loss import Loss

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it greets at each start


class TrainingDiverged(Exception):
    """The loss is no longer a number."""


class Point(BaseModel):
    """One point of the training curves."""

    step: int
    loss: float
    """Mean since the point before."""
    val_dice: float
    """Pooled Dice of defective pixels on the validation split, at the network's resolution and
    a threshold of one half."""


@dataclass(frozen=True)
class Progress:
    """How far a training is."""

    point: Point
    steps: int
    seconds: float
    """Since the start."""
    seconds_left: float


@dataclass(frozen=True)
class TrainingResult:
    """A trained network and how it went."""

    network: nn.Module
    """On the CPU, in evaluation mode."""
    history: list[Point]
    precision: str
    device: str
    seconds: float


POINTS = 20
"""How often the validation split is looked at."""


def train(
    config: TrainingConfig,
    train_set: FittedImages,
    val_set: FittedImages,
    classes: int,
    report: Callable[[Progress], None] = lambda _: None,
) -> TrainingResult:
    """Train a network.

    On a CPU, the same configuration, data and machine give the same weights, bit for bit.

    Parameters
    ----------
    config
        What to train and how.
    train_set, val_set
        The images. Nothing is learned from the validation split.
    classes
        Number of defect classes.
    report
        Is told of progress, `POINTS` times.

    Raises
    ------
    TrainingDiverged
        If the loss becomes infinite or not a number.
    """
    precision = _precision(config)
    fabric = Fabric(accelerator="auto", devices=1, precision=precision)  # type: ignore[arg-type]
    _share_processors()
    torch.manual_seed(config.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)

    network = build_model(config.architecture, config.input.channels, 1 + classes, pretrained=True)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=max(config.steps, 2)
    )
    model, optimizer = fabric.setup(network, optimizer)
    mean = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
    loss_function = Loss(config.loss)
    augment = Augmenter(config.augmentation, config.seed)
    draw = batches(train_set, config.sampling, config.seed)

    def next_batch() -> tuple[torch.Tensor, torch.Tensor]:
        chosen = next(draw)
        images, masks = augment(train_set.images[chosen], train_set.masks[chosen])
        return torch.from_numpy(config.input.normalize(images)), torch.from_numpy(masks).long()

    stream = prefetch(next_batch)

    history: list[Point] = []
    losses: list[float] = []
    start = time.monotonic()
    for step in range(1, config.steps + 1):
        inputs, targets = (fabric.to_device(tensor) for tensor in next(stream))
        logits = model(inputs.to(memory_format=torch.channels_last))
        loss = loss_function(logits.float(), targets)
        if not math.isfinite(loss.item()):
            raise TrainingDiverged(
                f"the loss is {loss.item()} at step {step}: lower learning_rate "
                f"({config.learning_rate}), or set precision: 32-true"
            )
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        schedule.step()
        mean.update_parameters(network)
        losses.append(loss.item())

        if step * POINTS // config.steps > (step - 1) * POINTS // config.steps:
            with fabric.autocast():
                score = _validate(mean.module, config, val_set, fabric)
            history.append(Point(step=step, loss=float(np.mean(losses)), val_dice=score))
            losses.clear()
            seconds = time.monotonic() - start
            left = seconds / step * (config.steps - step)
            report(Progress(history[-1], config.steps, seconds, left))

    stream.close()
    return TrainingResult(
        network=mean.module.cpu().to(memory_format=torch.contiguous_format).eval(),
        history=history,
        precision=precision,
        device=_device_name(fabric.device),
        seconds=time.monotonic() - start,
    )


def _validate(
    network: nn.Module, config: TrainingConfig, val_set: FittedImages, fabric: Fabric
) -> float:
    """Return the pooled Dice of defective pixels."""
    network.eval()
    both = predicted = true = 0
    with torch.no_grad():
        for first in range(0, len(val_set), 64):
            fitted = config.input.normalize(val_set.images[first : first + 64])
            inputs = fabric.to_device(torch.from_numpy(fitted))
            logits = network(inputs.to(memory_format=torch.channels_last))
            found = (logits.float().softmax(dim=1)[:, 0] < 0.5).cpu().numpy()
            defective = val_set.masks[first : first + 64] > 0
            both += int((found & defective).sum())
            predicted += int(found.sum())
            true += int(defective.sum())
    return dice(both, predicted - both, true - both)


def _share_processors() -> None:
    """Leave one processor to the preparation of batches.

    The kernels for bf16 wait for each other in busy loops: where there are more threads than free
    processors, a step takes ten times as long.
    """
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    cv2.setNumThreads(0)


def _precision(config: TrainingConfig) -> str:
    if config.precision != "auto":
        return config.precision
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    native = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16-mixed" if native and torch.cpu._is_avx512_bf16_supported() else "32-true"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
