"""Training in a process of its own, by Dagster's Pipes: what a run starts, hears and stops.

The run stays light and answers at once when it is cancelled, and PyTorch's memory goes when the
training is done.
"""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from defect_assets.assets import training_worker as worker
from defect_assets.assets.message_pipe import MessagePipe
from defect_assets.assets.publishing import refuse
from defect_assets.home import PROJECT
from defect_assets.store import S3Access

if TYPE_CHECKING:
    from defect_assets.training.task import News, Outcome, TrainingTask


class TrainingFailed(Exception):
    """The process that trained ended without a model; the message says how."""


def train_apart(
    context: dg.AssetExecutionContext,
    task: "TrainingTask",
    access: S3Access | None,
    hear: Callable[["News"], None],
) -> "Outcome":
    """Train in another process; what it prints goes where this process prints.

    Parameters
    ----------
    context
        Of the asset whose model it is.
    task
        What to train.
    access
        How the store's bucket is reached.
    hear
        Is told of progress, in this thread.

    Raises
    ------
    dagster.Failure
        If the training is refused or diverges.
    TrainingFailed
        If it ends otherwise, e.g. for want of memory.
    """
    from defect_assets.training.task import News, Outcome

    # Of how many processes may write to a reader, which Dagster itself asks.
    warnings.filterwarnings("ignore", message=".*expected_writer_count", category=dg.PreviewWarning)
    with dg.open_pipes_session(
        context,
        dg.PipesTempFileContextInjector(),
        MessagePipe(),
        extras={worker.TASK: task.model_dump_json(), worker.RUN: os.getpid()},
    ) as session:
        # A session of its own, so that Ctrl-C asks this process alone, which then asks it.
        process = subprocess.Popen(
            [sys.executable, "-m", worker.__name__],
            env={**_environment(access), **session.get_bootstrap_env_vars()},
            start_new_session=True,
        )
        try:
            for message in _messages(process, session):
                if worker.NEWS in message:
                    hear(News.model_validate_json(message[worker.NEWS]))
        finally:
            _end(process)
    # All that it said is heard when the session is closed.
    last: dict[str, str] = next(iter(session.get_custom_messages()[-1:]), {})
    if process.returncode == worker.REFUSED:
        raise refuse(last[worker.WHY])
    if worker.OUTCOME not in last:
        how = last.get(worker.WHY) or _how(process.returncode)
        raise TrainingFailed(f"the training's process ended without a model: {how}")
    return Outcome.model_validate_json(last[worker.OUTCOME])


def _messages(process: subprocess.Popen, session: dg.PipesSession) -> Iterator[dict[str, Any]]:
    """Yield what a process says until it ends."""
    heard = 0
    while process.poll() is None:
        messages = session.get_custom_messages()
        yield from messages[heard:]
        heard = len(messages)
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            continue


def _end(process: subprocess.Popen) -> None:
    """Let a process that still runs save its state, and see it end."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(worker.GRACE + 5)
        finally:
            process.kill()


def _environment(access: S3Access | None) -> dict[str, str]:
    """Return the variables with which a process imports this package and reaches the bucket."""
    paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return found | (access.environment() if access else {})


def _how(status: int) -> str:
    if status < 0:
        memory = ", perhaps because the machine's memory was used up" if status == -9 else ""
        return f"it was killed by signal {-status}{memory}"
    return f"its exit status is {status}; look at what it printed"
