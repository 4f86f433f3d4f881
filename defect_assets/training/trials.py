"""Trials: models that are trained only to be tested, one after the other or side by side."""

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from defect_assets.dataset.snapshot import read_snapshot
from defect_assets.dataset.split import Split, read_part
from defect_assets.evaluation.evaluate import evaluate
from defect_assets.evaluation.metrics import summarize
from defect_assets.evaluation.trial import TrialResult
from defect_assets.inference.detector import Detector
from defect_assets.store import Digest, Store, open_store
from defect_assets.store.objects import write_tree
from defect_assets.training.checkpoint import Checkpoint
from defect_assets.training.config import TrainingConfig
from defect_assets.training.data import fit_snapshot
from defect_assets.training.experiment import train_on_split
from defect_assets.training.hardware import Hardware
from defect_assets.training.loop import Progress
from defect_assets.training.processes import listening


@dataclass(frozen=True)
class Trial:
    """One model to train and to test."""

    name: str
    """E.g. ``fold-3``; no two that share a folder for their state have the same."""
    split: Split
    fold: int | None
    """Which fold of the split, from 1 on; None: its train, val and test."""
    config: TrainingConfig
    fitted: Path
    """The folder for images at the network's resolution."""
    state: Path
    """The folder for the training's state."""
    identity: str
    """See `defect_assets.training.checkpoint.Checkpoint`."""
    hardware: Hardware
    bundle: Digest | None = None
    """The model, where it is trained already, and only to be tested."""


def run_trial(
    store: Store, trial: Trial, report: Callable[[str], None] = lambda _: None
) -> TrialResult:
    """Train a model and test it; its files are in the store when this returns.

    Parameters
    ----------
    store
        Where all lies.
    trial
        Who trains and who tests.
    report
        Is told of progress.
    """
    checkpoint = Checkpoint(trial.state / trial.name, trial.identity)
    bundle = trial.bundle or store.objects.put_tree(_train(store, trial, checkpoint, report))
    with tempfile.TemporaryDirectory() as folder:
        write_tree(store.objects.get_tree(bundle), Path(folder))
        detector = Detector.load(Path(folder))
    description = read_snapshot(store, trial.split.snapshot).description
    images = read_part(store, trial.split, "test", trial.fold)
    table = evaluate(detector, images, description).images
    result = TrialResult(
        bundle=bundle,
        images=store.objects.put(table.to_csv(index=False).encode()),
        threshold=detector.spec.postprocessing.threshold,
        test=summarize(table, detector.spec.class_map.values()),
    )
    checkpoint.remove()
    return result


def _train(
    store: Store, trial: Trial, checkpoint: Checkpoint, report: Callable[[str], None]
) -> dict[str, bytes]:
    def told(progress: Progress) -> None:
        report(f"{trial.name}: {progress}")

    return train_on_split(
        store,
        trial.split,
        trial.config,
        trial.fitted,
        trial.fold,
        trial.hardware,
        checkpoint,
        told,
    ).files


def run_trials(
    store: Store,
    store_url: str,
    trials: list[Trial],
    at_once: int,
    report: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[Trial, TrialResult]]:
    """Yield trials as they are done, and what they came to.

    Parameters
    ----------
    store
        Where all lies.
    store_url
        How other processes open it.
    trials
        Of one snapshot.
    at_once
        How many to train at the same time, each in a process of its own; 1: in this one.
    report
        Is told of progress.
    """
    if at_once == 1 or len(trials) < 2:
        yield from ((trial, run_trial(store, trial, report)) for trial in trials)
        return
    first = trials[0]
    fit_snapshot(store, first.split.snapshot, first.config.input, first.fitted)  # not by each
    spawn = multiprocessing.get_context("spawn")
    with listening(report) as tell, ProcessPoolExecutor(at_once, spawn) as pool:
        futures: dict[Future[TrialResult], Trial] = {
            pool.submit(_run_there, store_url, trial, tell): trial for trial in trials
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run_there(store_url: str, trial: Trial, tell: Callable[[str], None]) -> TrialResult:
    return run_trial(open_store(store_url), trial, tell)
