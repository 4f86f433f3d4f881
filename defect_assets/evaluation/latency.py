"""How long one image takes, and how much memory, on this machine.

Measured in a process of its own that imports `inference/` alone, as the service does, so that what
else is in memory or at work in the caller's process makes no difference::

    python -m defect_assets.evaluation.latency FOLDER
"""

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from defect_assets.errors import UserError

IMAGES = 32
"""Images that are looked at, at most."""
_WARM_UP = 3
_RUNS = 50
_ROOT = Path(__file__).resolve().parents[2]


class LatencyError(UserError):
    """A measurement that failed; the message says what the process said."""


class Latency(BaseModel):
    """How long an image takes from its pixels to its verdict, one at a time, not decoded anew."""

    model_config = ConfigDict(frozen=True)

    runtime: str
    device: str
    threads: int
    """That PyTorch computes with."""
    runs: int
    p50_ms: float
    p95_ms: float
    peak_memory_mb: float | None
    """Of the whole process, Python and PyTorch included; None where the system does not tell."""
    machine: str


def measure_latency(bundle: Mapping[str, bytes], images: Sequence[np.ndarray]) -> Latency:
    """Measure a bundle on some images.

    Parameters
    ----------
    bundle
        Its files.
    images
        uint8, H × W or H × W × 3 (RGB); the first `IMAGES` are looked at, in turns.

    Raises
    ------
    LatencyError
        If the process fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, data in bundle.items():
            (folder / file).write_bytes(data)
        for number, image in enumerate(images[:IMAGES]):
            np.save(folder / f"{number:03}.npy", image)
        done = subprocess.run(
            [sys.executable, "-m", "defect_assets.evaluation.latency", name],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise LatencyError(f"the model could not be timed: {done.stderr.strip()[-500:]}")
    return Latency.model_validate_json(done.stdout.strip().splitlines()[-1])


def _measure(folder: Path) -> Latency:
    import torch

    from defect_assets.inference.detector import Detector

    detector = Detector.load(folder)
    images = [np.load(path) for path in sorted(folder.glob("*.npy"))]
    for run in range(_WARM_UP):
        detector.analyze(images[run % len(images)])
    seconds = []
    for run in range(_RUNS):
        start = time.perf_counter()
        detector.analyze(images[run % len(images)])
        seconds.append(time.perf_counter() - start)
    p50, p95 = (round(1000 * float(np.percentile(seconds, q)), 2) for q in (50, 95))
    return Latency(
        runtime=detector.runtime,
        device=detector.device,
        threads=torch.get_num_threads(),
        runs=_RUNS,
        p50_ms=p50,
        p95_ms=p95,
        peak_memory_mb=_peak_memory_mb(),
        machine=_machine(),
    )


def _peak_memory_mb() -> float | None:
    # Not `resource`'s: that begins with the peak of the process from which this one was forked.
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None
    return round(int(peak) / 1024, 1)


def _machine() -> str:
    """Return the processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    print(json.dumps(_measure(Path(sys.argv[1])).model_dump()))
