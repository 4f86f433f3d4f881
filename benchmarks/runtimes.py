"""What each runtime takes, and what windows find in large images: `… runtimes --help`."""

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save

from benchmarks.peers import PROJECT
from defect_assets.dataset.masks import decode_mask
from defect_assets.dataset.synthetic import synthetic_samples
from defect_assets.evaluation.overlap import dice
from defect_assets.home import known_description
from defect_assets.inference.bundle import WEIGHTS, BundleSpec, read_spec
from defect_assets.inference.detector import Detector
from defect_assets.inference.exported import MODEL, Exported, read_exported
from defect_assets.inference.images import decode_image
from defect_assets.inference.model import build_model
from defect_assets.inference.postprocessing import Postprocessing
from defect_assets.inference.runtimes.choice import ON_CPU, ON_GPU, open_runtime
from defect_assets.inference.runtimes.runtime import RuntimeUnavailable
from defect_assets.inference.tiling import TrainingSizes
from defect_assets.registry.exporting import export_onnx
from defect_assets.settings import read_settings
from defect_assets.training.config import TrainingConfig

CONFIGS = "C-01", "C-03"
"""The small network at 128 × 128, the reference's (ResNet-34) at 224 × 224; both with flips."""
BATCHES = 1, 8
WIDTH, HEIGHT = 640, 512
UNSEEN = 100_000
"""The first of the synthetic tiles that are looked at; what was trained on has low numbers."""
TIMES = 1, 2, 3, 4, 6
"""How often a tile and its mirror images are put beside each other, each way."""
FOUND = 0.1
"""Which share of a defect's pixels has to be found."""


@dataclass(frozen=True)
class Cost:
    """What an image takes in a runtime: milliseconds of one processor, or on a GPU by the clock."""

    network: str
    runtime: str
    batch: int
    bare_ms: float
    """The network alone, on as many images as there are views, in one batch."""
    run_ms: float
    """With mirror images made and averaged."""


def processor_ms(run: Callable[[], object], seconds: float) -> float:
    """Return the processors' milliseconds in a call, the least of many."""
    return _least(run, seconds, time.process_time)


def clock_ms(run: Callable[[], object], seconds: float) -> float:
    """Return the milliseconds of a call by the clock, the least of many."""
    return _least(run, seconds, time.perf_counter)


def _least(run: Callable[[], object], seconds: float, now: Callable[[], float]) -> float:
    for _ in range(3):
        run()
    least, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = now()
        run()
        least = min(least, now() - start)
    return least * 1e3


def measure_runtimes(config_id: str, device: str, seconds: float) -> list[Cost]:
    """Measure the network of a configuration, whose weights make no difference, in all runtimes."""
    config = read_settings(PROJECT / "configs" / f"{config_id}.yaml", TrainingConfig)
    spec = BundleSpec(
        architecture=config.architecture,
        preprocessing=config.input,
        postprocessing=Postprocessing(),
        class_map=known_description("synthetic-tiles").class_map,
        flips=config.flips,
    )
    least = processor_ms if device == "cpu" else clock_ms
    shape = (spec.preprocessing.channels, spec.preprocessing.height, spec.preprocessing.width)
    images = np.random.default_rng(0).standard_normal((max(BATCHES), *shape)).astype(np.float32)
    costs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exported = _untrained(folder, spec)
        for variant in ON_CPU if device == "cpu" else ON_GPU:
            with suppress(RuntimeUnavailable):
                bare, run = (
                    open_runtime(variant, folder, s, exported, device, threads=1)
                    for s in (spec.model_copy(update={"flips": False}), spec)
                )
                for n in BATCHES:
                    views = np.repeat(images[:n], 4 if spec.flips else 1, axis=0)
                    times = [
                        least(lambda r=r, i=i: r(i), seconds) / n  # type: ignore[misc]
                        for r, i in ((bare, views), (run, images[:n]))
                    ]
                    costs.append(Cost(config_id, str(variant), n, *times))
    return costs


def _untrained(folder: Path, spec: BundleSpec) -> Exported:
    """Write a network with weights drawn from a seed, and export it."""
    torch.manual_seed(0)
    classes = 1 + len(spec.class_map)
    network = build_model(spec.architecture, spec.preprocessing.channels, classes).eval()
    (folder / WEIGHTS).write_bytes(save(network.state_dict()))
    export_onnx(network, spec, folder / MODEL)
    return Exported(files={MODEL: hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()})


def measure_steps(folder: Path, seconds: float) -> dict[str, dict[str, float]]:
    """Measure what becomes of a JPEG in a trained model, step by step, in one thread.

    Returns
    -------
    dict
        Processor milliseconds by step, by verdict: means over some tiles.
    """
    spec = read_spec(folder)
    detector = Detector.load(folder, "auto", "cpu", threads=1)
    runtime = open_runtime(
        next(v for v in ON_CPU if str(v) == detector.runtime),
        folder,
        spec,
        read_exported(folder),
        "cpu",
        threads=1,
    )
    found: dict[str, list[list[float]]] = {}
    steps = ("decode", "fit", "normalize", "network", "interpret", "decode and analyze")
    for image, _ in tiles(4):
        resized = cv2.resize(image, (WIDTH, HEIGHT))
        jpeg = cv2.imencode(".jpg", resized, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
        fitted = spec.preprocessing.fit(resized)[None]
        inputs = spec.preprocessing.normalize(fitted)
        [maps] = detector.predict([resized])
        calls: tuple[Callable[[], object], ...] = (
            lambda: decode_image(jpeg),  # noqa: B023
            lambda: spec.preprocessing.fit(resized),  # noqa: B023
            lambda: spec.preprocessing.normalize(fitted),  # noqa: B023
            lambda: runtime(inputs),  # noqa: B023
            lambda: detector.interpret(maps, (HEIGHT, WIDTH)),  # noqa: B023
            lambda: detector.analyze(decode_image(jpeg)),  # noqa: B023
        )
        verdict = detector.analyze(resized).verdict
        found.setdefault(verdict, []).append([processor_ms(call, seconds / 10) for call in calls])
    return {
        f"{verdict}, {len(rows)} images, {detector.runtime}": dict(
            zip(steps, np.mean(rows, axis=0).tolist(), strict=True)
        )
        for verdict, rows in sorted(found.items())
    }


@dataclass(frozen=True)
class Found:
    """What was found in images of one size."""

    times: int
    """How much higher and wider than the largest tile of the training."""
    way: str
    """``whole`` or ``windows``."""
    dice: float
    defects: int
    found: int
    ms: float
    """Processor milliseconds an image."""


def measure_tiling(folder: Path, count: int) -> list[Found]:
    """Look at large images as a whole, and by windows.

    A large image is one tile and its mirror images beside each other: a surface without a seam, on
    which it is known where the defects are.
    """
    samples = list(tiles(count))
    spec = read_spec(folder).model_copy(
        update={"trained_on": TrainingSizes.of(image.shape[:2] for image, _ in samples)}
    )
    assert spec.trained_on is not None
    ways = {
        "whole": spec.model_copy(update={"trained_on": None}),
        "windows": spec.model_copy(
            update={"trained_on": spec.trained_on.model_copy(update={"largest": (1, 1)})}
        ),
    }
    detector = Detector.load(folder, "auto", "cpu", threads=1)
    rows = []
    for times in TIMES:
        for way, looking in ways.items():
            detector.spec = looking
            start = time.process_time()
            pairs = [
                (detector.analyze(mirrored(image, times)).mask > 0, mirrored(mask > 0, times))
                for image, mask in samples
            ]
            spent = (time.process_time() - start) * 1e3 / len(samples)
            regions = [hit for found, truth in pairs for hit in hits(found, truth)]
            rows.append(Found(times, way, pooled(pairs), len(regions), sum(regions), spent))
    return rows


def tiles(count: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Yield image and mask of synthetic tiles that nobody was trained on, one exposure of each."""
    description = known_description("synthetic-tiles")
    for sample in synthetic_samples(0, UNSEEN, count):
        if sample.exposure == "exp2":
            image = decode_image(sample.image)
            size = (image.shape[0], image.shape[1])
            yield image, decode_mask(sample.mask, sample.class_name, size, description)


def mirrored(image: np.ndarray, times: int) -> np.ndarray:
    """Return an image and its mirror images beside each other."""
    for axis in (0, 1):
        image = np.concatenate([(image, np.flip(image, axis))[i % 2] for i in range(times)], axis)
    return image


def hits(found: np.ndarray, truth: np.ndarray) -> list[bool]:
    """Tell of each region of the truth whether it was found."""
    count, labels = cv2.connectedComponents(truth.astype(np.uint8))
    return [bool(found[labels == label].mean() >= FOUND) for label in range(1, count)]


def pooled(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the Dice over all pixels."""
    return dice(
        tp=sum(int((found & truth).sum()) for found, truth in pairs),
        fp=sum(int((found & ~truth).sum()) for found, truth in pairs),
        fn=sum(int((~found & truth).sum()) for found, truth in pairs),
    )


def main() -> None:
    """Measure, print tables, and write all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["runtimes", "steps", "tiling"])
    parser.add_argument("--model", type=Path, help="a packed model, for steps and tiling")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", nargs="+", default=CONFIGS, help="configurations, for runtimes")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure")
    parser.add_argument("--tiles", type=int, default=24, help="for tiling")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.what != "runtimes" and arguments.model is None:
        parser.error("--model is needed, e.g. home/bentoml/models/defect_detector/v0.1.0")
    cv2.setNumThreads(1)
    rows: list[dict[str, Any]]
    if arguments.what == "runtimes":
        costs = [
            cost
            for config_id in arguments.only
            for cost in measure_runtimes(config_id, arguments.device, arguments.seconds)
        ]
        rows = [asdict(cost) for cost in costs]
    elif arguments.what == "steps":
        steps = measure_steps(arguments.model, arguments.seconds)
        rows = [{"verdict": name, **figures} for name, figures in steps.items()]
    else:
        rows = [asdict(row) for row in measure_tiling(arguments.model, arguments.tiles)]
    print_table(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print rows as a table in Markdown."""
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        cells = (f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values())
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
