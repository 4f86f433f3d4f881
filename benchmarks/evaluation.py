"""What scores and intervals cost, ours and torchmetrics': `python -m benchmarks.evaluation --help`.

Each side is a process of its own, which prints its figures as JSON; the clock starts when its
images are in memory and its libraries imported.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

CLASSES = {1: "Blowhole", 2: "Break", 3: "Crack", 4: "Fray", 5: "Uneven"}
SEED = 11
DISTINCT = 24
"""Different images; they come again and again, as other parts, so that they fit into memory."""
EXPOSURES = 3
THRESHOLD = 0.5
RESAMPLES = 10_000
PEER_RESAMPLES = 4
"""Of torchmetrics: it takes too long for more, and each takes as long as the next."""
BATCH = 8
"""Images that torchmetrics is given at once; with 1 it takes longer."""
TARGET_SECONDS, TARGET_MB = 20, 1024
SAME = ("dice", "iou", "precision", "recall", "image_auroc", "image_ap", "calibration_error")
"""What both sides say."""


@dataclass(frozen=True)
class Scene:
    """One image's truth and what a model made of it."""

    truth: np.ndarray
    """uint8 of shape (H, W): class ids."""
    found: np.ndarray
    """The same, of the prediction."""
    probability: np.ndarray
    """float32 of shape (H, W)."""


def scenes(size: int) -> list[Scene]:
    """Draw images: blobs of one class, found with an error that is smooth, as networks' are."""
    drawn = []
    for number in range(DISTINCT):
        rng = np.random.default_rng([SEED, number])
        smooth = [_smooth(rng, size, sigma) for sigma in (size / 25, size / 60)]
        defective = smooth[0] > (2.2 if number % 3 else 99)
        logit = np.where(defective, 3, -8.5) + 2.5 * smooth[1]
        probability = (1 / (1 + np.exp(-logit))).astype(np.float32)
        true_class = 1 + number % len(CLASSES)
        found_class = true_class if number % 7 else 1 + (number + 1) % len(CLASSES)
        truth, found = (
            (mask * class_id).astype(np.uint8)
            for mask, class_id in (
                (defective, true_class),
                (probability >= THRESHOLD, found_class),
            )
        )
        drawn.append(Scene(truth, found, probability))
    return drawn


def _smooth(rng: np.random.Generator, size: int, sigma: float) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), sigma)
    return (noise - noise.mean()) / noise.std()


def ours(drawn: list[Scene], images: int) -> Iterator[tuple[str, Any]]:
    """Count the images, then report with all intervals; yield each step's name, and the scores."""
    from defect_assets.dataset.images import LabelledImage
    from defect_assets.evaluation.bootstrap import intervals
    from defect_assets.evaluation.counter import Counter
    from defect_assets.evaluation.metrics import summarize
    from defect_assets.inference.postprocessing import Analysis

    yield "start", None
    counter = Counter(CLASSES, THRESHOLD)
    for number in range(images):
        scene = drawn[number % DISTINCT]
        part = f"part-{number // EXPOSURES}"
        # The image itself is only looked at for its brightness, and for the galleries.
        label = LabelledImage(f"i{number}", "", part, "", scene.truth, scene.truth)
        verdict = "ng" if scene.found.any() else "ok"
        counter.add(label, Analysis(verdict, [], scene.found, scene.probability))
    evaluation = counter.counted()
    metrics = summarize(evaluation.images, CLASSES.values(), evaluation.pixel_scores)
    yield "metrics", metrics.model_dump(mode="json")
    found = intervals(
        evaluation.images, CLASSES.values(), RESAMPLES, pixel_scores=evaluation.pixel_scores
    )
    yield "intervals", {"scores": len(found)}


def torchmetrics_side(drawn: list[Scene], images: int) -> Iterator[tuple[str, Any]]:
    """Do what torchmetrics can of it: no regions, no AUPRO, no parts."""
    import torch
    from torchmetrics import MetricCollection
    from torchmetrics.classification import (
        BinaryAUROC,
        BinaryAveragePrecision,
        BinaryCalibrationError,
        BinaryF1Score,
        BinaryJaccardIndex,
        BinaryPrecision,
        BinaryRecall,
        MulticlassF1Score,
        MulticlassJaccardIndex,
        MulticlassPrecision,
        MulticlassRecall,
    )
    from torchmetrics.wrappers import BootStrapper

    def batches() -> Iterator[tuple[torch.Tensor, ...]]:
        for first in range(0, images, BATCH):
            chosen = [drawn[n % DISTINCT] for n in range(first, min(images, first + BATCH))]
            yield tuple(
                torch.from_numpy(np.stack([getattr(s, name) for s in chosen]))
                for name in ("truth", "found", "probability")
            )

    yield "start", None
    count = 1 + len(CLASSES)
    pixels = MetricCollection(
        {
            "dice": BinaryF1Score(),
            "iou": BinaryJaccardIndex(),
            "precision": BinaryPrecision(),
            "recall": BinaryRecall(),
        }
    )
    of_classes = MetricCollection(
        MulticlassF1Score(count, average=None),
        MulticlassJaccardIndex(count, average=None),
        MulticlassPrecision(count, average=None),
        MulticlassRecall(count, average=None),
    )
    calibration = BinaryCalibrationError(n_bins=15)
    of_images = MetricCollection(
        {"image_auroc": BinaryAUROC(), "image_ap": BinaryAveragePrecision()}
    )
    for truth, found, probability in batches():
        defective = (truth > 0).long()
        pixels.update((found > 0).long(), defective)
        of_classes.update(found.long(), truth.long())
        # As float32, which it is, it stops counting at 2 ** 24 pixels, and says something else.
        calibration.update(probability.double(), defective)
        of_images.update(probability.amax(dim=(1, 2)), defective.amax(dim=(1, 2)))
    of_classes.compute()
    scores = {**pixels.compute(), **of_images.compute(), "calibration_error": calibration.compute()}
    yield "metrics", {name: float(score) for name, score in scores.items()}
    resampled = BootStrapper(BinaryF1Score(), num_bootstraps=PEER_RESAMPLES, quantile=0.95)
    for truth, found, _ in batches():
        resampled.update((found > 0).long(), (truth > 0).long())
    resampled.compute()
    yield "intervals", {"scores": 1}


SIDES: dict[str, Callable[[list[Scene], int], Iterator[tuple[str, Any]]]] = {
    "ours": ours,
    "torchmetrics": torchmetrics_side,
}


def run_side(side: str, images: int, size: int) -> dict[str, Any]:
    """Run one side in this process; return the wall and CPU seconds of each step, and its peak."""
    figures: dict[str, Any] = {}
    before = (0.0, 0.0)
    for step, said in SIDES[side](scenes(size), images):
        now = (time.perf_counter(), time.process_time())
        if step != "start":
            wall, cpu = (b - a for a, b in zip(before, now, strict=True))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            figures[step] = {"seconds": wall, "cpu_seconds": cpu, "peak_mb": peak, "said": said}
        before = now
    return figures


def main() -> None:
    """Print a table of what each side took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument(
        "--peer-images", type=int, default=96, help="for the comparison: torchmetrics keeps them"
    )
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2, help="of each side")
    parser.add_argument("--side", choices=SIDES, help="run this one here and print its figures")
    options = parser.parse_args()
    if options.side:
        print(json.dumps(run_side(options.side, options.images, options.size)))
        return
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(options.threads)
    )

    def measure(side: str, images: int) -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks.evaluation", "--side", side]
        command += ["--images", str(images), "--size", str(options.size)]
        done = subprocess.run(
            command, env={**os.environ, **threads}, check=True, stdout=subprocess.PIPE, text=True
        )
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return figures

    whole = measure("ours", options.images)
    show(options.images, {"ours": whole})
    both = {side: measure(side, options.peer_images) for side in SIDES}
    show(options.peer_images, both)
    for name in SAME:
        one, other = (figures["metrics"]["said"][name] for figures in both.values())
        if abs(one - other) > 1e-4:
            raise SystemExit(f"{name} differs: ours {one}, torchmetrics {other}")
    print(f"\nboth say the same of {', '.join(SAME)}")
    seconds = whole["metrics"]["seconds"] + whole["intervals"]["seconds"]
    peak = whole["intervals"]["peak_mb"]
    met = "met" if seconds < TARGET_SECONDS and peak < TARGET_MB else "missed"
    targets = f"targets: {TARGET_SECONDS} s, {TARGET_MB} MB"
    print(f"{options.images} images together: {seconds:.1f} s, {peak:.0f} MB ({targets}): {met}")


def show(images: int, figures: dict[str, dict[str, Any]]) -> None:
    """Print what each side took; torchmetrics' few resamples as if it had done all."""
    print(f"\n{images} images\n\n| step | side | s | CPU s | CPU ÷ ours | peak MB |")
    print("|---|---|---|---|---|---|")
    for step, what in (("metrics", "metrics"), ("intervals", f"{RESAMPLES:,} resamples")):
        for side, took in figures.items():
            few = step == "intervals" and side == "torchmetrics"
            times = RESAMPLES / PEER_RESAMPLES if few else 1
            cpu = times * took[step]["cpu_seconds"]
            ratio = cpu / figures["ours"][step]["cpu_seconds"]
            shown = f"{times * took[step]['seconds']:,.1f} | {cpu:,.1f} | {ratio:,.1f}"
            print(f"| {what} | {side} | {shown} | {took[step]['peak_mb']:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
