"""Running a training in this process, or in several that Fabric starts."""

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any, TypeVar

from lightning_fabric import Fabric

from defect_assets.training.hardware import Hardware

Job = TypeVar("Job")
Result = TypeVar("Result")


def launch(
    function: Callable[[Fabric, Job, Callable[[Any], None]], Result],
    job: Job,
    report: Callable[[Any], None],
    hardware: Hardware,
    precision: str,
) -> Result:
    """Run a function once for each device; return what the first one returns.

    Parameters
    ----------
    function
        Takes Fabric, the job and a function that reports to this process.
    job
        What to do; sent to other processes, so it can be pickled.
    report
        Is called in this process with what the function reports.
    hardware, precision
        See Fabric.
    """
    # cuBLAS reads it when it is first used, and gives the same results each time only with it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    alone = hardware.devices * hardware.nodes == 1
    fabric = Fabric(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        num_nodes=hardware.nodes,
        strategy="auto" if alone else "ddp_spawn",
        precision=precision,  # type: ignore[arg-type]
    )
    if alone:
        return function(fabric, job, report)
    # What happens in other processes comes through a queue.
    with multiprocessing.get_context("spawn").Manager() as manager:
        queue = manager.Queue()
        results: list[Result] = []
        listener = Thread(target=_listen, args=(queue, report, results.append), daemon=True)
        listener.start()
        try:
            fabric.launch(partial(_in_process, function=function, job=job, queue=queue))
        finally:
            queue.put(None)
            listener.join()
        return results[0]


@dataclass(frozen=True)
class _Returned:
    value: Any


def _in_process(fabric: Fabric, function: Callable[..., Any], job: Any, queue: Any) -> None:
    returned = _Returned(function(fabric, job, queue.put))
    # Not through Fabric: what it returns may not be larger than a pipe holds.
    if fabric.is_global_zero:
        queue.put(returned)


def _listen(queue: Any, report: Callable[[Any], None], keep: Callable[[Any], None]) -> None:
    while (said := queue.get()) is not None:
        if isinstance(said, _Returned):
            keep(said.value)
        else:
            report(said)
