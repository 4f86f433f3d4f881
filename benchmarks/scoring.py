"""What scoring takes beside the network itself: `python -m benchmarks.scoring --help`."""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import torch

from benchmarks.runtimes import print_table
from defect_assets.inference.bundle import FILES, read_spec
from defect_assets.inference.exported import CHECK, EXPORTED, MODEL, read_exported
from defect_assets.inference.images import decode_image
from defect_assets.inference.runtimes.choice import ON_CPU, open_runtime
from defect_assets.scoring import engine
from defect_assets.scoring.files import Files
from defect_assets.scoring.model import Model
from defect_assets.scoring.plan import HeldPlan, count_shards, hold_plan
from defect_assets.scoring.sources import FolderSource, Item
from defect_assets.scoring.work import Job, Worker

SHARD = 64
"""Images that the network alone and scoring look at in turns."""
REPEATED = 1000
"""How often the folder's images are in the plan: each shard is written once, as ever."""


@dataclass(frozen=True)
class Throughput:
    """Images a second of one processor's time, all threads of the process together."""

    model: str
    runtime: str
    images: int
    bare: float
    """Read, decoded, made the network's input, and run through it."""
    scored: float
    """All of that, and what is found, as rows and masks in files."""
    ratio: float
    """Of the two."""
    low: float
    high: float
    """The ratio in the tenth and the ninetieth of a hundred shards."""


def read_model(folder: Path) -> Model:
    """Return the model in a folder, with what was exported of it."""
    names = (*FILES, MODEL, CHECK, EXPORTED)
    return Model({n: (folder / n).read_bytes() for n in names if (folder / n).exists()}, "auto")


def measure(folder: Path, images: Path, seconds: float) -> Throughput:
    """Measure one model on one processor, shard by shard in turns with the network alone.

    Parameters
    ----------
    folder
        A packed model.
    images
        A folder of images.
    seconds
        How long to go on.
    """
    spec = read_spec(folder)
    model, source = read_model(folder), FolderSource(images)
    listed = hold_plan(source.items()).table
    plan = HeldPlan(pa.concat_tables([listed] * REPEATED), SHARD)
    spent: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as output:
        worker = Worker(Job(model, source, plan, Files(output)), callers=1)
        name = worker.detector.runtime
        variant = next(v for v in ON_CPU if str(v) == name)
        network = open_runtime(variant, folder, spec, read_exported(folder), "cpu", threads=1)

        def bare(items: Sequence[Item]) -> None:
            for item in items:
                image = decode_image((images / item.name).read_bytes())
                network(spec.preprocessing(image)[None])

        worker.score(0)
        bare(plan.items(0))
        end = time.perf_counter() + seconds
        number = 0
        while time.perf_counter() < end:
            number += 1
            items = plan.items(number)
            times = [time.process_time()]
            if number % 2:
                bare(items)
                times.append(time.process_time())
                worker.score(number)
            else:
                worker.score(number)
                times.append(time.process_time())
                bare(items)
            times.append(time.process_time())
            first, second = np.diff(times).tolist()
            spent.append((first, second) if number % 2 else (second, first))
    alone, scoring = np.array(spent).T
    low, high = np.percentile(alone / scoring, (10, 90)).tolist()
    seen = SHARD * len(spent)
    return Throughput(
        model=folder.name,
        runtime=name,
        images=seen,
        bare=seen / float(alone.sum()),
        scored=seen / float(scoring.sum()),
        ratio=float(alone.sum() / scoring.sum()),
        low=low,
        high=high,
    )


@dataclass(frozen=True)
class Run:
    """Scoring of a folder, once it is under way."""

    images: int
    seconds: float
    """From the first shard that was done to the last."""
    start_seconds: float
    """Until the first shard was done: processes, model, and that shard."""

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


def timed(model: Model, images: Path, output: str, times: int = 1, shard: int = SHARD) -> Run:
    """Score a folder by whoever does the work here: this process, or the cluster of DEFECT_DEPLOY.

    Parameters
    ----------
    model
        See `read_model`.
    images
        A folder of images.
    output
        A new folder, or ``s3://bucket/prefix``.
    times
        How often to look at each image: of many shards, the first and the last weigh little.
    shard
        Images of a shard.
    """
    source = FolderSource(images)
    plan = HeldPlan(pa.concat_tables([hold_plan(source.items()).table] * times), shard)
    job = Job(model, source, plan, Files(output))
    begun = time.perf_counter()
    ends, seen = [], []
    for done in engine.run(job, range(count_shards(plan))):
        ends.append(time.perf_counter())
        seen.append(done.images)
    return Run(sum(seen[1:]), ends[-1] - ends[0], ends[0] - begun)


def main() -> None:
    """Measure, print a table, and write all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path, help="packed models' folders")
    parser.add_argument("--images", type=Path, required=True, help="a folder of images")
    parser.add_argument("--seconds", type=float, default=30, help="for each model")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rows = [
        asdict(measure(folder, arguments.images, arguments.seconds)) for folder in arguments.models
    ]
    print_table(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
