"""The threads in which the network runs: one, or as many as the runtime gains by."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What the network said of one image."""

    maps: np.ndarray
    """What `Detector.predict` returned for it."""
    queue_s: float
    """How long it waited."""
    forward_s: float
    """How long the batch took that it was in."""
    batch: int
    """How many images that batch had."""


@dataclass
class _Item:
    image: np.ndarray
    future: "Future[Prediction]" = field(default_factory=Future)
    since: float = field(default_factory=time.perf_counter)


class ModelThreads:
    """Runs the network on images that wait in a queue, several at once where that gains.

    No image waits for others to come: a batch is what waits already. An image whose future was
    cancelled, because its client is gone or its deadline has passed, is left out.

    Parameters
    ----------
    predict
        From images to what is known of each, as `Detector.predict`.
    batch_size
        How many images it gets at most.
    threads
        How many batches are worked on at once.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]],
        batch_size: int,
        threads: int = 1,
    ) -> None:
        self._predict = predict
        self._batch_size = batch_size
        self._waiting: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"model-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, image: np.ndarray) -> "Future[Prediction]":
        """Queue an image. How many wait is bounded by how many requests are taken in."""
        item = _Item(image)
        self._waiting.put(item)
        return item.future

    @property
    def waiting(self) -> int:
        """How many images wait."""
        return self._waiting.qsize()

    def is_alive(self) -> bool:
        """Tell whether images are still worked on."""
        return all(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Do what waits, then end."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            batch, ended = self._next_batch()
            if batch:
                self._answer(batch)

    def _next_batch(self) -> tuple[list[_Item], bool]:
        """Wait for an image, and take those that wait behind it; tell whether it is the end."""
        batch: list[_Item] = []
        try:
            item = self._waiting.get()
            while item is not None:
                if item.future.set_running_or_notify_cancel():
                    batch.append(item)
                if len(batch) == self._batch_size:
                    return batch, False
                item = self._waiting.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _answer(self, batch: list[_Item]) -> None:
        begun = time.perf_counter()
        try:
            maps = self._predict([item.image for item in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            # One of them may be to blame; the others must not pay for it.
            logger.exception("a batch of %d failed; its images are tried alone", len(batch))
            for item in batch:
                self._answer([item])
            return
        took = time.perf_counter() - begun
        for item, map_ in zip(batch, maps, strict=True):
            item.future.set_result(Prediction(map_, begun - item.since, took, len(batch)))
