"""The reference's protocol: `python -m benchmarks.training reference --help`.

Defective images alone, a random fifth of them as test split, image by image, from scratch. Images
of one tile lie on both sides, so the score says how well known tiles are remembered, no more.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.peers import PROJECT
from benchmarks.trainers.ours import read_files
from benchmarks.trainers.shared import TILES, cpu_seconds
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.formats.magnetic_tiles import read_tiles
from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.counts import count_image
from defect_assets.evaluation.metrics import summarize
from defect_assets.evaluation.overlap import dice
from defect_assets.inference.bundle import BundleSpec
from defect_assets.inference.detector import Detector
from defect_assets.inference.postprocessing import Postprocessing
from defect_assets.inference.runtimes.pytorch import TorchRuntime
from defect_assets.registry.checkout import NoCheckout, read_checkout
from defect_assets.settings import read_settings
from defect_assets.training.config import TrainingConfig
from defect_assets.training.data import fit_images
from defect_assets.training.loop import train

TEST = 0.2
"""Share of the images in the test split."""


@dataclass(frozen=True)
class Score:
    """What came of one split."""

    split: int
    train: int
    """Images."""
    test: int
    dice: float
    """Pooled over all pixels of the test split, any defect against none."""
    dice_centre: float
    """The same on the largest centred square of each image, which is all the reference looks at."""
    macro: float
    """Mean over the classes of the Dice pooled over the images of one, any defect against none."""
    macro_typed: float | None
    """Mean over the classes, where a pixel counts as found only if its class is right; None for
    a binary configuration."""
    minutes: float
    """Of training, without reading and scoring."""
    cpu_minutes: float
    device: str


def run(options: argparse.Namespace) -> None:
    """Train and score the splits, print a table, and write the figures to a file."""
    config = read_settings(PROJECT / "configs" / f"{options.config}.yaml", TrainingConfig)
    changes = {"seed": options.seed} | (
        {"steps": options.steps, "epochs": None} if options.steps else {}
    )
    config = config.model_copy(update=changes)
    report = {
        "config": options.config,
        "values": config.model_dump(mode="json"),
        "commit": _commit(),
        "scores": [],
    }
    print(f"{options.config} at {report['commit']}, seed {options.seed}\n", flush=True)
    scores: list[Score] = []
    for score in _scores(config, options.tiles, options.splits, options.jobs):
        scores.append(score)
        print(f"  split {score.split}: Dice {score.dice:.4f}", flush=True)
        report["scores"] = [asdict(s) for s in sorted(scores, key=lambda s: s.split)]
        options.json.write_text(json.dumps(report, indent=1))  # now: the next one takes a while
    print(f"\n{table(sorted(scores, key=lambda s: s.split))}\n\nevery figure: {options.json}")


def random_split(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the train and of the test split."""
    order = np.random.default_rng(seed).permutation(images)
    test = round(TEST * images)
    return np.sort(order[test:]), np.sort(order[:test])


def score_split(config: TrainingConfig, tiles: Path, split: int) -> Score:
    """Train on a random split and score its test images."""
    description = read_settings(TILES, DatasetDescription)
    images = defective_images(tiles, description)
    in_train, in_test = random_split(len(images), split)
    fitted = fit_images((images[i] for i in in_train), config.input, description.class_ids)
    start, cpu_start = time.perf_counter(), cpu_seconds()
    # Nobody validates: all that is not tested is trained on, as by the reference.
    result = train(config, fitted, fitted.only([]), description.class_map)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu_start
    spec = BundleSpec(
        architecture=config.architecture,
        preprocessing=config.input,
        postprocessing=Postprocessing(threshold=0.5, min_area_px=config.min_area_px),
        class_map=config.class_map(description.class_map),
        flips=config.flips,
    )
    detector = Detector(TorchRuntime(result.network, flips=True), spec)
    tested = [images[i] for i in in_test]
    found = [detector.analyze(image.image) for image in tested]
    table = pd.DataFrame(
        [count_image(i, a, description.class_map) for i, a in zip(tested, found, strict=True)]
    )
    typed = summarize(table, description.class_map.values()).macro_dice
    masks = [
        (image.mask > 0, analysis.mask > 0) for image, analysis in zip(tested, found, strict=True)
    ]
    by_class = [
        pooled_dice(
            pair for pair, image in zip(masks, tested, strict=True) if image.class_name == name
        )
        for name in {image.class_name for image in tested}
    ]
    return Score(
        split=split,
        train=len(in_train),
        test=len(in_test),
        dice=pooled_dice(masks),
        dice_centre=pooled_dice((centre(truth), centre(mask)) for truth, mask in masks),
        macro=float(np.mean(by_class)),
        macro_typed=typed if config.task == "multiclass" else None,
        minutes=seconds / 60,
        cpu_minutes=cpu / 60,
        device=result.record["device"],
    )


def defective_images(tiles: Path, description: DatasetDescription) -> list[LabelledImage]:
    """Return all images of a class of defect, sorted by name."""
    files = sorted(
        (str(tile.image), str(tile.mask), description.class_ids[tile.class_name])
        for tile in read_tiles(tiles)
        if tile.mask and tile.class_name != description.defect_free
    )
    return list(read_files(files, description))


def centre(pixels: np.ndarray) -> np.ndarray:
    """Return the largest centred square.

    >>> centre(np.arange(10).reshape(2, 5))
    array([[1, 2],
           [6, 7]])
    """
    height, width = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def pooled_dice(masks: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the Dice over all pixels of pairs of truth and what was found, bool (H, W) each."""
    counts = [
        ((truth & found).sum(), (~truth & found).sum(), (truth & ~found).sum())
        for truth, found in masks
    ]
    tp, fp, fn = (int(count) for count in np.sum(counts, axis=0))
    return dice(tp, fp, fn)


def table(scores: list[Score]) -> str:
    """Return the scores and their mean as a Markdown table."""
    lines = [
        "| split | Dice | Dice, centre crop | macro | macro, right class | minutes | CPU minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = [(f"{score.split}", score) for score in scores]
    for name, of_row in [*((name, [score]) for name, score in rows), ("mean", scores)]:
        typed = [score.macro_typed for score in of_row if score.macro_typed is not None]
        cells = [
            name,
            *(f"{np.mean([getattr(s, k) for s in of_row]):.3f}" for k in _DICE),
            f"{np.mean(typed):.3f}" if typed else "",
            *(
                f"{np.mean([getattr(s, k) for s in of_row]):.1f}"
                for k in ("minutes", "cpu_minutes")
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_DICE = ("dice", "dice_centre", "macro")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be chosen."""
    parser.set_defaults(run=run)
    parser.add_argument("--tiles", type=Path, required=True, help="has MT_*/Imgs")
    parser.add_argument("--config", required=True, help="e.g. C-01")
    parser.add_argument("--splits", type=int, default=5, help="how many; seeds 0, 1, 2 …")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--jobs", type=int, default=1, help="splits at a time")
    parser.add_argument("--steps", type=int, help="instead of the configuration's, for a try")
    parser.add_argument(
        "--json", type=Path, default=Path("reference.json"), help="where every figure goes"
    )


def _scores(config: TrainingConfig, tiles: Path, splits: int, jobs: int) -> Iterator[Score]:
    """Yield the scores of splits as they come, each process trained in by one at a time."""
    context = multiprocessing.get_context("spawn")
    shares: Queue = context.Queue()
    for job in range(jobs):
        shares.put(job)
    with ProcessPoolExecutor(jobs, context, _take_share, (shares, jobs)) as pool:
        running = [pool.submit(score_split, config, tiles, split) for split in range(splits)]
        for done in as_completed(running):
            yield done.result()


def _take_share(shares: Queue, jobs: int) -> None:
    """Keep a process to its share of the processors, if that has two: to compute, and to prepare.

    PyTorch takes as many threads as there are processors, and several trainings would wait for
    each other.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    share = sorted(os.sched_getaffinity(0))[shares.get() :: jobs]
    if len(share) > 1:
        os.sched_setaffinity(0, share)


def _commit() -> str:
    try:
        checkout = read_checkout(PROJECT)
    except NoCheckout:
        return "unknown"
    return checkout.commit + (", changed since" if checkout.changed else "")
