"""Training and testing the folds of a cross-validation, one after the other or side by side."""

import io
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from defect_assets.dataset.snapshot import read_snapshot
from defect_assets.dataset.split import Split, read_part
from defect_assets.evaluation.crossvalidation import Fold
from defect_assets.evaluation.evaluate import evaluate
from defect_assets.evaluation.metrics import summarize
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
class FoldJob:
    """One fold to train and to test."""

    fold: int
    split: Split
    config: TrainingConfig
    fitted: Path
    """The folder for images at the network's resolution."""
    state: Path
    """The folder for the training's state."""
    identity: str
    """See `defect_assets.training.checkpoint.Checkpoint`."""
    hardware: Hardware


def run_fold(store: Store, job: FoldJob, report: Callable[[str], None] = lambda _: None) -> Fold:
    """Train a fold's model and test it; its files are in the store when this returns.

    Parameters
    ----------
    store
        Where all lies.
    job
        The fold.
    report
        Is told of progress.
    """

    def told(progress: Progress) -> None:
        report(f"fold {job.fold}: {progress}")

    checkpoint = Checkpoint(job.state / f"fold-{job.fold}", job.identity)
    model = train_on_split(
        store, job.split, job.config, job.fitted, job.fold, job.hardware, checkpoint, told
    )
    with tempfile.TemporaryDirectory() as folder:
        write_tree(model.files, Path(folder))
        detector = Detector.load(Path(folder))
    description = read_snapshot(store, job.split.snapshot).description
    table = evaluate(detector, read_part(store, job.split, "test", job.fold), description).images
    fold = Fold(
        fold=job.fold,
        bundle=store.objects.put_tree(model.files),
        images=store.objects.put(table.to_csv(index=False).encode()),
        threshold=detector.spec.postprocessing.threshold,
        test=summarize(table, detector.spec.class_map.values()),
    )
    checkpoint.remove()
    return fold


def run_folds(
    store: Store,
    store_url: str,
    jobs: list[FoldJob],
    at_once: int,
    report: Callable[[str], None] = lambda _: None,
) -> Iterator[Fold]:
    """Yield folds as they are done.

    Parameters
    ----------
    store
        Where all lies.
    store_url
        How other processes open it.
    jobs
        The folds.
    at_once
        How many to train at the same time, each in a process of its own; 1: in this one.
    report
        Is told of progress.
    """
    if at_once == 1 or len(jobs) < 2:
        yield from (run_fold(store, job, report) for job in jobs)
        return
    first = jobs[0]
    fit_snapshot(store, first.split.snapshot, first.config.input, first.fitted)  # not by each
    spawn = multiprocessing.get_context("spawn")
    with listening(report) as tell, ProcessPoolExecutor(at_once, spawn) as pool:
        futures: list[Future[Fold]] = [
            pool.submit(_run_there, store_url, job, tell) for job in jobs
        ]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run_there(store_url: str, job: FoldJob, tell: Callable[[str], None]) -> Fold:
    return run_fold(open_store(store_url), job, tell)


def read_table(store: Store, digest: Digest) -> pd.DataFrame:
    """Return the counts of each image of a fold's test part."""
    names = ("sample", "group", "exposure", "batch")
    return pd.read_csv(io.BytesIO(store.objects.get(digest)), dtype=dict.fromkeys(names, str))
