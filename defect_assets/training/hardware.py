"""What a training runs on, and what it takes."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from pydantic import BaseModel, ConfigDict, Field

from defect_assets.inference.runtimes.runtime import processors


class Hardware(BaseModel):
    """What to train on. It is no part of a configuration: what is trained stays the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: a GPU where there is one."""
    devices: int = Field(default=1, ge=1)
    """GPUs, or processes on a CPU, of each machine."""
    nodes: int = Field(default=1, ge=1)
    """Machines; each runs the same command, with the environment that torchrun describes."""
    workers: int | None = Field(default=None, ge=0)
    """Processes that prepare batches; 0: a thread. By default that on a CPU, and on a GPU up to
    twelve processes."""

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU is used."""
        return self.accelerator == "cuda" or (
            self.accelerator == "auto" and torch.cuda.is_available()
        )

    @property
    def batch_workers(self) -> int:
        """How many processes prepare batches."""
        if self.workers is not None:
            return self.workers
        return min(12, max(1, processors() // self.devices - 1)) if self.on_gpu else 0


def share_processors(hardware: Hardware) -> None:
    """Divide the processors among the training's processes, leaving one to prepare batches.

    The kernels for bf16 wait for each other in busy loops: where there are more threads than free
    processors, a step takes ten times as long.
    """
    free = processors() - (1 if hardware.batch_workers == 0 else hardware.batch_workers)
    processes = 1 if hardware.on_gpu else hardware.devices
    torch.set_num_threads(max(1, free // processes))


def describe(device: torch.device) -> dict[str, Any]:
    """Return what a run record says of the machine."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processor": _processor_name(),
        "processors": processors(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
    }


@contextmanager
def energy_meter() -> Iterator[dict[str, float]]:
    """Measure the energy that processors and GPUs take meanwhile.

    Yields
    ------
    dict
        When the block is done, joules by ``cpu`` and ``gpu``: those that the machine lets us read.
        It counts all that runs on them.
    """
    taken: dict[str, float] = {}
    before = _energy()
    try:
        yield taken
    finally:
        after = _energy()
        # A counter that overflowed meanwhile says nothing.
        taken.update(
            {k: round(after[k] - before[k], 1) for k in before if after.get(k, -1) >= before[k]}
        )


def _energy() -> dict[str, float]:
    found = {}
    packages = sorted(Path("/sys/class/powercap").glob("intel-rapl:?"))
    with suppress(OSError, ValueError):  # only root may read it, on most machines
        if packages:
            found["cpu"] = sum(int((p / "energy_uj").read_text()) for p in packages) / 1e6
    if torch.cuda.is_available():
        with suppress(Exception):  # NVML has a class for each of its errors
            import pynvml

            pynvml.nvmlInit()
            millijoules = [
                pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(i))
                for i in range(torch.cuda.device_count())
            ]
            found["gpu"] = sum(millijoules) / 1e3
    return found


def _processor_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
