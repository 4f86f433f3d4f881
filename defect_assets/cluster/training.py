"""Training by Ray Train: a process on each of several GPUs or machines, one of which may be lost.

Each process does the same task. They meet in Fabric's DDP, for which Ray Train prepares the process
group; the first one says how it goes, to a mailbox, and stores the model. When one dies, all are
started again, and go on from the checkpoint in the home, which they share.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from defect_assets.cluster.connection import NoCluster, connect
from defect_assets.cluster.likeness import OtherCode, demand, likeness
from defect_assets.errors import UserError
from defect_assets.training.task import News, Outcome, TrainingTask, join_task, run_task

LOSSES = 3
"""How many lost workers a training survives."""
GRACE = 20
"""Seconds in which workers that are asked to stop save their state."""
MAILBOX, TASK, LIKENESS = "mailbox", "task", "likeness"


class TrainingRefused(UserError):
    """A person can mend why the training has no model; the message says how."""


class Mailbox:
    """An actor to which workers say how it goes, and of which they ask whether to stop."""

    def __init__(self) -> None:
        self._news: list[str] = []
        self._stop = False
        self._end: tuple[str, str] | None = None

    def tell(self, news: str) -> None:
        """Take in some news."""
        self._news.append(news)

    def heard(self) -> list[str]:
        """Return the news since one asked last."""
        news, self._news = self._news, []
        return news

    def ask_to_stop(self) -> None:
        """Have the workers stop."""
        self._stop = True

    def is_asked_to_stop(self) -> bool:
        """Tell whether to stop."""
        return self._stop

    def end(self, how: str, what: str) -> None:
        """Take in how the training ended: outcome, stopped or refused; and what came of it."""
        self._end = (how, what)

    def ended(self) -> tuple[str, str] | None:
        """Return how the training ended, if it did."""
        return self._end


def train_on_ray(
    task: TrainingTask,
    environment: Mapping[str, str],
    hear: Callable[[News], None],
    gpus: float = 1,
) -> Outcome:
    """Train on the cluster: ``devices`` × ``nodes`` processes, wherever there is place.

    Parameters
    ----------
    task
        What to train. Its folders are on a disk that the machines share.
    environment
        Variables for the workers, e.g. where a bucket is. Nothing secret: Ray shows them.
    hear
        Is told of progress, in this thread.
    gpus
        For each process, where the training is on GPUs.

    Raises
    ------
    TrainingRefused
        If it diverges, the configuration does not fit the data, or a node has other code.
    NoCluster
        If the cluster is not there, lacks what is asked for, or is lost.
    """
    import ray
    from ray.exceptions import RayError

    connect()
    mailbox = _mailbox()
    trainer = _trainer(task, environment, mailbox, gpus)
    fitting = _begin(trainer)
    try:
        for news in _news(mailbox, fitting):
            hear(news)
        ended = ray.get(mailbox.ended.remote())
        error = fitting.exception()
    except RayError as lost:
        raise NoCluster(f"the cluster failed while a model was trained: {lost}") from lost
    except BaseException:  # e.g. the run is cancelled
        ray.get(mailbox.ask_to_stop.remote())
        _wait(fitting, GRACE)
        raise
    finally:
        ray.kill(mailbox)  # whose loss ends those who did not hear
        shutil.rmtree(_notes(task), ignore_errors=True)
    if ended is None:
        raise NoCluster(f"the training ended without a model: {error}") from error
    how, what = ended
    if how == "refused":
        raise TrainingRefused(what)
    return Outcome.model_validate_json(what)


def _mailbox() -> Any:
    """Return a mailbox on the node of this process, so that no lost worker takes it along."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()


def _begin(trainer: Any) -> Future[Any]:
    """Let Ray Train begin, in a thread that keeps no process from its end."""
    fitting: Future[Any] = Future()

    def fit() -> None:
        try:
            fitting.set_result(trainer.fit())
        except Exception as error:
            fitting.set_exception(error)

    Thread(target=fit, daemon=True).start()
    return fitting


def _trainer(task: TrainingTask, environment: Mapping[str, str], mailbox: Any, gpus: float) -> Any:
    """Return Ray Train's trainer for a task."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    processes = task.hardware.devices * task.hardware.nodes
    has = ray.cluster_resources()
    accelerator = task.hardware.accelerator
    enough = has.get("GPU", 0) >= processes * gpus
    on_gpus = accelerator == "cuda" or (accelerator == "auto" and enough)
    kind, needed = ("GPU", processes * gpus) if on_gpus else ("CPU", processes)
    if has.get(kind, 0) < needed:
        raise NoCluster(
            f"the training asks for {needed:g} {kind}s, and the cluster has {has.get(kind, 0):g}: "
            "add machines, or ask for fewer by devices and nodes"
        )
    # Each process has one device, wherever it is; which machine it is on is Ray's business.
    place = task.hardware.model_copy(update={"accelerator": "cuda" if on_gpus else "cpu"})
    return TorchTrainer(
        _work,
        train_loop_config={
            TASK: task.model_copy(update={"hardware": place}).model_dump_json(),
            MAILBOX: mailbox,
            LIKENESS: likeness(),
        },
        torch_config=TorchConfig(backend="nccl" if on_gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=processes,
            use_gpu=on_gpus,
            resources_per_worker={"CPU": 1, **({"GPU": gpus} if on_gpus else {})},
        ),
        run_config=RunConfig(  # type: ignore[call-arg]
            storage_path=str(_notes(task)),
            failure_config=FailureConfig(max_failures=LOSSES),
            worker_runtime_env={"env_vars": dict(environment)},
        ),
    )


def _notes(task: TrainingTask) -> Path:
    """Return the folder for what Ray Train writes: nothing that is worth keeping, since the state
    lies where every training's does."""
    return task.state / "ray-train"


def _work(config: dict[str, Any]) -> None:
    """Train in one process of several."""
    import ray

    from defect_assets.training.loop import TrainingDiverged, TrainingStopped

    task = TrainingTask.model_validate_json(config[TASK])
    mailbox = config[MAILBOX]

    def stop() -> bool:
        asked: bool = ray.get(mailbox.is_asked_to_stop.remote())
        return asked

    def tell(news: News) -> None:
        mailbox.tell.remote(news.model_dump_json())

    asked = _Seldom(stop)
    try:
        demand(config[LIKENESS])
    except OtherCode as error:
        ray.get(mailbox.end.remote("refused", str(error)))
        raise
    if int(os.environ.get("RANK", "0")) > 0:
        with suppress(TrainingStopped, TrainingDiverged, UserError):  # which the first one tells
            join_task(task)
        return
    try:
        outcome = run_task(task, tell, asked)
    except TrainingStopped as stopped:
        ray.get(mailbox.end.remote("stopped", str(stopped)))
    except (TrainingDiverged, UserError) as error:  # it would be the same again
        ray.get(mailbox.end.remote("refused", str(error)))
    else:
        ray.get(mailbox.end.remote("outcome", outcome.model_dump_json()))


class _Seldom:
    """Asks a question that costs a message no more than once in a second."""

    def __init__(self, question: Callable[[], bool]) -> None:
        self._question = question
        self._asked = 0.0
        self._answer = False

    def __call__(self) -> bool:
        if time.monotonic() - self._asked > 1:
            self._answer = self._question()
            self._asked = time.monotonic()
        return self._answer


def _news(mailbox: Any, fitting: Future[Any]) -> Iterator[News]:
    """Yield what workers say until they are done."""
    import ray

    while True:
        done = fitting.done()
        for news in ray.get(mailbox.heard.remote()):
            yield News.model_validate_json(news)
        if done:
            return
        _wait(fitting, 0.2)


def _wait(fitting: Future[Any], seconds: float) -> None:
    try:
        fitting.exception(seconds)
    except TimeoutError:
        return
