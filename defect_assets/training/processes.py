"""Running a training in this process, or in several that Fabric starts."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event, Thread
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import TorchElasticEnvironment
from torch import distributed

from defect_assets.training.hardware import Hardware

Job = TypeVar("Job")
Result = TypeVar("Result")


def launch(
    function: Callable[[Fabric, Job, Callable[[Any], None], Callable[[], bool]], Result],
    job: Job,
    report: Callable[[Any], None],
    stop: Callable[[], bool],
    hardware: Hardware,
    precision: str,
) -> Result:
    """Run a function once for each device; return what the first one returns.

    Parameters
    ----------
    function
        Takes Fabric, the job, a function that reports to this process, and one that asks it
        whether to stop.
    job
        What to do; sent to other processes, so it can be pickled.
    report
        Is called in this process with what the function reports.
    stop
        Is asked in this process whether to stop.
    hardware, precision
        See Fabric. Where somebody else has started the processes and joined them to a group, as Ray
        Train does, this one is one of them; each then returns what it has itself.
    """
    # cuBLAS reads it when it is first used, and gives the same results each time only with it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    alone = hardware.devices * hardware.nodes == 1
    if not alone and distributed.is_initialized():
        return function(_joined(hardware, precision), job, report, stop)
    fabric = Fabric(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        num_nodes=hardware.nodes,
        strategy="auto" if alone else "ddp_spawn",
        precision=precision,  # type: ignore[arg-type]
    )
    if alone:
        return function(fabric, job, report, stop)
    results: list[Result] = []

    def hear(said: Any) -> None:
        if isinstance(said, _Returned):
            results.append(said.value)
        else:
            report(said)

    with listening(hear) as tell, answering(stop) as asked:
        fabric.launch(partial(_in_process, function=function, job=job, tell=tell, stop=asked))
    return results[0]


def _joined(hardware: Hardware, precision: str) -> Fabric:
    """Return Fabric for this process, which is one of a group already."""
    fabric = Fabric(
        accelerator=hardware.accelerator,
        devices=[torch.cuda.current_device()] if hardware.on_gpu else 1,
        num_nodes=distributed.get_world_size(),
        strategy="ddp",
        plugins=_Group(),
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


class _Group(TorchElasticEnvironment):
    """A group of processes of which each has one device, whatever machine it is on."""

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return distributed.get_rank()


@contextmanager
def listening(hear: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    """Hear what other processes have to say; yield the function with which they say it."""
    with multiprocessing.get_context("spawn").Manager() as manager:
        queue = manager.Queue()
        listener = Thread(target=_listen, args=(queue, hear), daemon=True)
        listener.start()
        try:
            yield queue.put
        finally:
            queue.put(None)
            listener.join()


@contextmanager
def answering(stop: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
    """Let other processes ask whether to stop; yield the function with which they ask."""
    done = Event()
    with multiprocessing.get_context("spawn").Manager() as manager:
        asked = manager.Event()

        def watch() -> None:
            while not done.wait(0.2):
                if stop():
                    asked.set()
                    return

        watcher = Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield asked.is_set
        finally:
            done.set()
            watcher.join()


@dataclass(frozen=True)
class _Returned:
    value: Any


def _in_process(
    fabric: Fabric,
    function: Callable[..., Any],
    job: Any,
    tell: Callable[[Any], None],
    stop: Callable[[], bool],
) -> None:
    returned = _Returned(function(fabric, job, tell, stop))
    # Not through Fabric: what it returns may not be larger than a pipe holds.
    if fabric.is_global_zero:
        tell(returned)


def _listen(queue: Any, hear: Callable[[Any], None]) -> None:
    while (said := queue.get()) is not None:
        hear(said)
