"""How long one image takes, and how much memory, in each runtime on this machine.

Measured in processes of their own that import `inference/` alone, as the service does, so that what
else is in memory or at work in the caller's process makes no difference::

    python -m defect_assets.evaluation.latency FOLDER RUNTIME
"""

import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from defect_assets.errors import UserError

IMAGES = 32
"""Images that are looked at, at most."""
RUNTIMES = ("", "openvino", "onnx", "tensorrt")
"""What is timed: PyTorch in float32, as the model is evaluated, and what a service may choose."""
_WARM_UP = 3
_RUNS = 50
_ROOT = Path(__file__).resolve().parents[2]


class LatencyError(UserError):
    """A measurement that failed; the message says what the process said."""


class Latency(BaseModel):
    """How long an image takes from its pixels to its verdict, one at a time, not decoded anew."""

    model_config = ConfigDict(frozen=True)

    runtime: str
    """E.g. ``openvino bf16``."""
    device: str
    processors: int
    """That it may use."""
    runs: int
    p50_ms: float
    p95_ms: float
    peak_memory_mb: float | None
    """Of the whole process, Python and its libraries included; None where the system does not
    tell."""
    machine: str


def measure_latency(bundle: Path, images: Sequence[np.ndarray]) -> list[Latency]:
    """Time a bundle on some images, in each runtime that can be had here.

    Parameters
    ----------
    bundle
        Its folder, with what was exported of it for other runtimes than PyTorch.
    images
        uint8, H × W or H × W × 3 (RGB); the first `IMAGES` are looked at, in turns. They are
        written beside the bundle.

    Raises
    ------
    LatencyError
        If a process fails.
    """
    for number, image in enumerate(images[:IMAGES]):
        np.save(bundle / f"{number:03}.npy", image)
    timed = [_measured_apart(bundle, runtime) for runtime in RUNTIMES]
    return [latency for latency in timed if latency is not None]


def _measured_apart(bundle: Path, runtime: str) -> Latency | None:
    """Time one runtime in a process of its own; None if it cannot be had."""
    done = subprocess.run(
        [sys.executable, "-m", "defect_assets.evaluation.latency", str(bundle), runtime],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LatencyError(f"the model could not be timed: {done.stderr.strip()[-500:]}")
    said = done.stdout.strip().splitlines()
    return Latency.model_validate_json(said[-1]) if said else None


def _measure(folder: Path, runtime: str) -> Latency | None:
    from defect_assets.inference.detector import Detector
    from defect_assets.inference.runtimes.runtime import RuntimeUnavailable, processors

    # Engines other than these need no PyTorch, which would be counted as theirs.
    device = "cpu" if runtime in ("openvino", "onnx") else None
    try:
        detector = Detector.load(folder, runtime or None, device)
    except RuntimeUnavailable:
        return None
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
        processors=processors(),
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
    found = _measure(Path(sys.argv[1]), sys.argv[2])
    print(found.model_dump_json() if found else "")
