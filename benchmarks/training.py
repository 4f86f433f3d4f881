"""Training against a plain loop and fastai: `python -m benchmarks.training --help`."""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import reference
from benchmarks.peers import PROJECT, StepFailed, install, measure
from benchmarks.trainers.shared import THREADS, TILES, Job
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.formats.magnetic_tiles import read_tiles
from defect_assets.errors import UserError
from defect_assets.inference.architecture import Architecture
from defect_assets.settings import read_settings
from defect_assets.training.config import TrainingConfig
from defect_assets.training.hardware import Hardware
from defect_assets.training.loop import _precision

FASTAI = "fastai==2.8.12"
SHARED = (
    "torch",
    "torchvision",
    "segmentation-models-pytorch",
    "albumentations",
    "opencv-python-headless",
    "numpy",
    "pydantic",
    "psutil",
)
"""What fastai's environment has in our versions, so that the loop is what differs."""
WARMUP = 5
HEAT = 10
"""Steps of each variant of a peer; the fastest variant is the one that is compared."""
TARGETS = {"plain": 1.0, "fastai": 1.5}
"""How many images a CPU second ours does, by those of a peer."""
LOADING = 0.05
"""Which share of a step may be waiting for the next batch."""
LOADED = "C-02"
"""The configuration with the heavier augmentation, for the data loading of ours alone."""


@dataclass(frozen=True)
class Side:
    """One who trains, in one precision."""

    name: str
    precision: str
    module: str
    variants: tuple[dict[str, Any], ...] = ({},)

    @property
    def title(self) -> str:
        """Name and precision."""
        return f"{self.name} {self.precision}"


@dataclass(frozen=True)
class Run:
    """What one whole process measured, from the end of the warm-up on."""

    images: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    """Of the largest process of the side."""
    waited: float = 0.0
    """Seconds in which the training's thread waited for the next batch."""
    prepare_cpu_seconds: float = 0.0
    """Of the thread that prepares batches."""
    decode_seconds: float = 0.0
    """Once, before the training."""
    decode_cpu_seconds: float = 0.0
    utilization: float = 0.0
    """Of the GPU, in percent."""

    @property
    def per_second(self) -> float:
        """Images by the wall clock."""
        return self.images / self.seconds

    @property
    def per_cpu_second(self) -> float:
        """Images by the time of all processors."""
        return self.images / self.cpu_seconds


@dataclass(frozen=True)
class Result:
    """A side's runs in its fastest variant."""

    side: Side
    variant: dict[str, Any]
    runs: list[Run]

    @property
    def best(self) -> Run:
        """The run that took the least CPU time: what others do on the machine only adds to it."""
        return max(self.runs, key=lambda run: run.per_cpu_second)


@dataclass(frozen=True)
class Case:
    """One training, and what the sides took for it."""

    name: str
    config: TrainingConfig
    images: list[tuple[str, str, int]]
    results: list[Result]


_PLAIN = tuple(
    {"workers": workers, "channels_last": last} for workers in (0, 1) for last in (False, True)
)
_FASTAI = tuple(
    {"workers": workers, "augmentation": augmentation}
    for workers in (0, 1)
    for augmentation in ("albumentations", "aug_transforms")
)
OURS = "benchmarks.trainers.ours"
SIDES = (
    Side("ours", "fp32", OURS),
    Side("plain", "fp32", "benchmarks.trainers.plain", _PLAIN),
    Side("fastai", "fp32", "benchmarks.trainers.with_fastai", _FASTAI),
    Side("bare", "fp32", "benchmarks.trainers.bare"),
    Side("ours", "bf16", OURS),
    Side("plain", "bf16", "benchmarks.trainers.plain", _PLAIN),
    Side("bare", "bf16", "benchmarks.trainers.bare"),
)


class Race:
    """Runs jobs of all sides, each a process of its own."""

    def __init__(self, work: Path, fastai: Path, device: str) -> None:
        self._work = work
        self._fastai = fastai
        self._device = device

    def run(
        self,
        side: Side,
        variant: dict[str, Any],
        config: TrainingConfig,
        images: list[tuple[str, str, int]],
        steps: int,
    ) -> Run:
        """Train some steps."""
        job = Job(
            images=images,
            classes=1 + max(class_id for *_, class_id in images),
            config=config.model_dump(mode="json"),
            warmup=WARMUP,
            steps=steps,
            bf16=side.precision == "bf16",
            device=self._device,
            variant=variant,
        )
        path = self._work / "job.json"
        job.write(path)
        python = self._fastai if side.name == "fastai" else Path(sys.executable)
        environment = os.environ | {
            "PYTHONPATH": str(PROJECT),
            "OMP_WAIT_POLICY": "PASSIVE",
            "NO_ALBUMENTATIONS_UPDATE": "1",
        }
        figure = measure([python, "-m", side.module, path], PROJECT, environment)
        measured = Run(peak_mb=figure.peak_mb, **json.loads(figure.output.splitlines()[-1]))
        _say(
            f"  {side.title:12} {measured.per_second:7.1f} images/s "
            f"{measured.per_cpu_second:7.1f} images/CPU s {measured.peak_mb:6.0f} MB {variant}"
        )
        return measured


def compare(
    race: Race,
    sides: list[Side],
    config: TrainingConfig,
    images: list[tuple[str, str, int]],
    steps: int,
    rounds: int,
    known: dict[str, dict[str, Any]],
) -> list[Result]:
    """Let the sides train in turns, each in its fastest variant.

    Parameters
    ----------
    race
        Runs them.
    sides, config, images, steps
        Who trains what, on what, how long.
    rounds
        How often.
    known
        The fastest variant of sides, by title, where it is known; others are tried first.
    """
    variants = {}
    for side in sides:
        if len(side.variants) > 1 and side.title not in known:
            tried = [race.run(side, v, config, images, min(HEAT, steps)) for v in side.variants]
            speeds = [run.per_cpu_second for run in tried]
            variants[side.title] = side.variants[speeds.index(max(speeds))]
        else:
            variants[side.title] = known.get(side.title, side.variants[0])
    runs: dict[str, list[Run]] = {side.title: [] for side in sides}
    for turn in range(rounds):
        first = turn % len(sides)
        for side in sides[first:] + sides[:first]:
            variant = variants[side.title]
            runs[side.title].append(race.run(side, variant, config, images, steps))
    return [Result(side, variants[side.title], runs[side.title]) for side in sides]


def table(results: list[Result]) -> str:
    """Return the figures as a Markdown table; ratios are of images a CPU second.

    "As it comes" is ours in the precision that it takes by itself, against a peer in any.
    """
    lines = [
        "| side | precision | variant | images/s | images/CPU s | ours is, same precision "
        "| ours is, as it comes | target | met | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    ours = {r.side.precision: r.best.per_cpu_second for r in results if r.side.name == "ours"}
    as_it_comes = ours.get("bf16", ours.get("fp32"))
    for result in results:
        side, best = result.side, result.best
        peer, wanted = side.name != "ours", TARGETS.get(side.name)
        same, taken = (
            speed / best.per_cpu_second if speed and peer else None
            for speed in (ours.get(side.precision), as_it_comes)
        )
        met = ""
        if wanted and same and taken:
            met = "yes" if same >= wanted else "as it comes" if taken >= wanted else "no"
        cells = [
            side.name,
            side.precision,
            ", ".join(f"{k} {v}" for k, v in result.variant.items()),
            f"{best.per_second:.1f}",
            f"{best.per_cpu_second:.1f}",
            *(f"{ratio:.2f}×" if ratio else "" for ratio in (same, taken)),
            f"≥ {wanted:g}×" if wanted else "",
            met,
            f"{best.peak_mb:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def loading_table(cases: list[Case]) -> str:
    """Return what decoding and preparing take of our trainings, as a Markdown table."""
    lines = [
        "| training | precision | waiting, of the step | met | preparing, of the CPU time "
        "| preparing a batch, CPU ms | images/CPU s | with decoding |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        for result in case.results:
            if result.side.name != "ours":
                continue
            best, batch_size = result.best, case.config.sampling.batch_size
            # What others do on the machine only makes it wait longer.
            waiting = min(run.waited / run.seconds for run in result.runs)
            whole = case.config.steps_for(len(case.images)) * batch_size
            cells = [
                case.name,
                result.side.precision,
                f"{waiting:.1%}",
                "yes" if waiting < LOADING else "no",
                f"{best.prepare_cpu_seconds / best.cpu_seconds:.1%}",
                f"{1000 * best.prepare_cpu_seconds / (best.images / batch_size):.1f}",
                f"{best.per_cpu_second:.1f}",
                f"{whole / (whole / best.per_cpu_second + best.decode_cpu_seconds):.1f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def speed(options: argparse.Namespace) -> None:
    """Let all sides train, print the tables, and write every figure to a file."""
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    on_cpu = options.device == "cpu"
    fastai = Path(sys.executable)
    versions = [f"{name} {version(name)}" for name in SHARED]
    if on_cpu and "fastai" in options.sides:
        same = [f"{name}=={version(name).partition('+')[0]}" for name in SHARED]
        fastai, its_version = install(work, "fastai", FASTAI, *same)
        versions.insert(0, its_version)
    _say(", ".join(versions))
    sides = [side for side in SIDES if side.name in options.sides and _computes(side, options)]
    race = Race(work, fastai, options.device)
    cases = []
    # Kept as the environment is: to try them all takes as long as the rest.
    tried = work / "variants.json"
    known = json.loads(tried.read_text()) if tried.exists() and not options.tune else {}
    for name, config, steps, rounds in _trainings(options):
        images = training_files(options.tiles, config.sampling.defect_free)
        among = sides if name != LOADED else [side for side in sides if side.name == "ours"]
        _say(f"\n{name}: {len(images)} images, {steps} steps of {config.sampling.batch_size}\n")
        results = compare(race, among, config, images, steps, rounds, known)
        known |= {result.side.title: result.variant for result in results}
        tried.write_text(json.dumps(known))
        cases.append(Case(name, config, images, results))
        _say(f"\n{table(results)}\n")
        if not on_cpu:
            _say(_gpu_report(results))
    _say(f"Data loading\n\n{loading_table(cases)}\n")
    decoded = min(
        (r.best for c in cases for r in c.results if r.best.decode_seconds), key=_decoding
    )
    count = len(cases[0].images)
    _say(
        f"decoding {count} images once: {decoded.decode_seconds:.2f} s, "
        f"{1000 * decoded.decode_cpu_seconds / count:.2f} CPU ms each"
    )
    report = {"versions": versions, "processors": os.cpu_count(), "threads": THREADS}
    report |= {case.name: [asdict(result) for result in case.results] for case in cases}
    path = options.json or work / time.strftime("training-%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps(report, indent=1))
    _say(f"every figure: {path}")


def training_files(tiles: Path, defect_free: float) -> list[tuple[str, str, int]]:
    """Return image, mask and class id of all defective tiles, and of some defect-free ones.

    So many that whoever draws from the list at random sees the share of defect-free images that
    our sampling gives.
    """
    description = read_settings(TILES, DatasetDescription)
    found = [tile for tile in read_tiles(tiles) if tile.mask]
    files = [
        (str(tile.image), str(tile.mask), description.class_ids[tile.class_name]) for tile in found
    ]
    defective = [file for file in files if file[2] > 0]
    free = [file for file in files if file[2] == 0]
    return defective + free[: round(len(defective) * defect_free / (1 - defect_free))]


def _trainings(options: argparse.Namespace) -> list[tuple[str, TrainingConfig, int, int]]:
    """Return name, configuration, steps and rounds of what is trained."""
    c01, c02 = (
        read_settings(PROJECT / "configs" / f"{name}.yaml", TrainingConfig)
        for name in ("C-01", LOADED)
    )
    if options.batch_size:
        sampling = c01.sampling.model_copy(update={"batch_size": options.batch_size})
        c01, c02 = (c.model_copy(update={"sampling": sampling}) for c in (c01, c02))
    unet = Architecture(name="unet", encoder="resnet34")
    every = [
        ("C-01", c01, options.steps, options.rounds),
        (LOADED, c02, options.steps, options.rounds),
        # Ten times as long a step.
        (
            "ResNet-34",
            c01.model_copy(update={"architecture": unet}),
            max(1, options.steps // 5),
            max(1, options.rounds // 2),
        ),
    ]
    return [training for training in every if training[0] in options.only]


def _computes(side: Side, options: argparse.Namespace) -> bool:
    """Tell whether a side can run on the device: bf16 only where our training would take it."""
    if options.device == "cuda":
        return side.name in ("ours", "bare") and side.precision == "bf16"
    native = _precision(TrainingConfig(), Hardware(accelerator="cpu")) == "bf16-mixed"
    return side.precision == "fp32" or native


def _gpu_report(results: list[Result]) -> str:
    by_name = {result.side.name: result.best for result in results}
    ours = by_name["ours"]
    said = f"{ours.per_second:.0f} images/s, the GPU busy {ours.utilization:.0f} % of the time"
    if "bare" in by_name:
        bare = by_name["bare"].per_second
        said += f"; the bare limit is {bare:.0f}, of which that is {ours.per_second / bare:.0%}"
    return said + "\n"


def _decoding(run: Run) -> float:
    return run.decode_cpu_seconds


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    commands = parser.add_subparsers(required=True)

    race = commands.add_parser("speed", help=speed.__doc__)
    race.set_defaults(run=speed)
    race.add_argument("--tiles", type=Path, required=True, help="has MT_*/Imgs")
    race.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "defect-assets-benchmark"
    )
    race.add_argument("--steps", type=int, default=60, help="on the clock; a fifth for ResNet-34")
    race.add_argument("--rounds", type=int, default=2, help="half as many for ResNet-34")
    race.add_argument("--only", nargs="+", default=["C-01", LOADED, "ResNet-34"])
    race.add_argument("--tune", action="store_true", help="try the variants of the peers anew")
    race.add_argument("--sides", nargs="+", default=["ours", "plain", "fastai", "bare"])
    race.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    race.add_argument("--batch-size", type=int, help="instead of the configurations'")
    race.add_argument("--json", type=Path, help="where every figure goes; by default to --work")

    reference.add_options(
        commands.add_parser("reference", help="Train and score as the reference does.")
    )
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        chosen = _options()
        chosen.run(chosen)
    except (StepFailed, UserError) as error:
        sys.exit(str(error))
