"""What the sides of `benchmarks.training` share: the job, the clock, the loss, the files.

fastai's side imports this in its own environment, so that it imports PyTorch and OpenCV alone.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import psutil
import torch
from torch import Tensor, nn

T = TypeVar("T")

TILES = Path(__file__).parents[2] / "configs" / "datasets" / "magnetic-tiles.yaml"
THREADS = 1
"""Of each side's computation."""


@dataclass(frozen=True)
class Job:
    """What a side is to train."""

    images: list[tuple[str, str, int]]
    """Image, mask, and the class id of both."""
    classes: int
    """Channels of the network's output, the background among them."""
    config: dict[str, Any]
    """A `TrainingConfig`."""
    warmup: int
    """Steps before the clock starts."""
    steps: int
    """Steps on the clock."""
    bf16: bool
    device: str = "cpu"
    variant: dict[str, Any] = field(default_factory=dict)
    """What a side's user can choose, e.g. the number of workers."""

    @property
    def total(self) -> int:
        """Steps to train; what is prepared ahead when the clock stops is used by the last one."""
        return self.warmup + self.steps + 1

    @classmethod
    def begin(cls) -> "Job":
        """Return the job that the command names, this process being set up for it."""
        job = cls(**json.loads(Path(sys.argv[1]).read_text()))
        if job.device == "cpu":
            torch.set_num_threads(THREADS)
            # One processor computes and one prepares batches: that is how ours divides them.
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: THREADS + 1])
        torch.manual_seed(0)
        cv2.setNumThreads(0)
        return job

    def write(self, path: Path) -> None:
        """Write the job where a side reads it."""
        path.write_text(json.dumps(asdict(self)))


class Meter:
    """Notes time and CPU time after the warm-up and after the last step on the clock."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._steps = -1
        self._marks: list[tuple[float, float, float]] = []
        self._waited = 0.0

    def tick(self) -> None:
        """Take note that the training begins, or that a step is done."""
        self._steps += 1
        if self._steps in (self._job.warmup, self._job.warmup + self._job.steps):
            if self._job.device == "cuda":
                torch.cuda.synchronize()
            self._marks.append((time.perf_counter(), cpu_seconds(), self._waited))

    def watch(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield batches; a step ends when the next one is asked for."""
        iterator = iter(batches)
        while True:
            self.tick()
            start = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - start
            yield batch

    def finish(self, **more: float) -> None:
        """Print what was measured, for `benchmarks.training` to read."""
        begin, end = self._marks
        seconds, cpu, waited = (after - before for before, after in zip(begin, end, strict=True))
        images = self._job.steps * self._job.config["sampling"]["batch_size"]
        measured = {"images": images, "seconds": seconds, "cpu_seconds": cpu, "waited": waited}
        print(json.dumps(measured | more), flush=True)


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children, those that live among them."""
    ended = sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    living = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return ended + sum(times.user + times.system for times in living)


class PlainLoss(nn.Module):
    """The sum of terms that `defect_assets.training.loss` computes, from what PyTorch users have.

    The terms of C-01: cross entropy, Dice of defective against sound pixels, Dice of each class,
    and cross entropy between the classes of defect on defective pixels. (That one weighs pixels
    here, and images in ours.)
    """

    def __init__(self, weights: dict[str, float]) -> None:
        import segmentation_models_pytorch as smp

        super().__init__()
        # Its `smooth` counts once what ours counts twice.
        self._binary_dice = smp.losses.DiceLoss("binary", from_logits=False, smooth=0.5)
        self._class_dice = smp.losses.DiceLoss("multiclass", smooth=0.5)
        self._weights = weights
        if strangers := set(weights) - {"cross_entropy", "dice", "class_dice", "defect_type"}:
            raise ValueError(f"no counterpart for the loss terms {sorted(strangers)}")

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        logits = logits.float()
        total = logits.new_zeros(())
        for name, weight in self._weights.items():
            total = total + weight * getattr(self, f"_{name}_of")(logits, masks)
        return total

    def _cross_entropy_of(self, logits: Tensor, masks: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, masks)

    def _dice_of(self, logits: Tensor, masks: Tensor) -> Tensor:
        return self._binary_dice(1 - logits.softmax(dim=1)[:, :1], (masks > 0)[:, None])

    def _class_dice_of(self, logits: Tensor, masks: Tensor) -> Tensor:
        return self._class_dice(logits, masks)

    def _defect_type_of(self, logits: Tensor, masks: Tensor) -> Tensor:
        # The mean over no pixel is not a number.
        return nn.functional.cross_entropy(
            logits[:, 1:], masks - 1, ignore_index=-1, reduction="sum"
        ) / (masks > 0).sum().clamp(min=1)


def read_mask(path: str, class_id: int) -> np.ndarray:
    """Return a soft mask as class ids, uint8 (H, W)."""
    soft = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    return (soft > 127).astype(np.uint8) * class_id
