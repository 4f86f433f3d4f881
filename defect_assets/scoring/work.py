"""One shard of the work, by whoever does it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from defect_assets.scoring.looking import Prediction, look
from defect_assets.scoring.model import Model
from defect_assets.scoring.plan import Plan
from defect_assets.scoring.sources import Item, Reader, Source
from defect_assets.store import Digest, S3Access

READ = 32
"""Images that are read while those before them are looked at."""


@dataclass(frozen=True)
class Shard:
    """What came of a shard."""

    number: int
    verdicts: dict[str, int]
    """Images by verdict."""
    unread: int = 0
    """Images that could not be read or decoded."""
    tables: dict[str, Digest] = field(default_factory=dict)
    """What the store holds of it, where it went there."""

    @property
    def images(self) -> int:
        """How many there were."""
        return sum(self.verdicts.values()) + self.unread


class Writer(Protocol):
    """Writes what came of a shard, whole. Any number of threads may use it."""

    def write(
        self, shard: int, predictions: Sequence[Prediction], runtime: str
    ) -> dict[str, Digest]:
        """Write it; return what the store holds of it, where that is where it goes."""
        ...


class Sink(Protocol):
    """Where results go: a value that can be sent to another machine."""

    def open(self, access: S3Access | None = None) -> Writer:
        """Get ready to write there."""
        ...


@dataclass(frozen=True)
class Job:
    """All that one must know to work on a shard: a value that can be sent to another machine."""

    model: Model
    source: Source
    plan: Plan
    sink: Sink


class Stopped(Exception):
    """A shard that is left since the work was stopped."""


class Worker:
    """Works on shards of a job. Any number of threads may use it.

    Parameters
    ----------
    job
        What is to be done.
    callers
        How many threads will.
    access
        How buckets are reached.
    """

    def __init__(self, job: Job, callers: int, access: S3Access | None = None) -> None:
        self.detector = job.model.load(callers)
        self._plan = job.plan
        self._access = access
        self._reader = job.source.open(access)
        self._writer = job.sink.open(access)
        self._reading = ThreadPoolExecutor(callers)
        self._stopped = threading.Event()

    def score(self, number: int) -> Shard:
        """Look at all images of a shard, and write what came of it.

        Raises
        ------
        Stopped
            If it was stopped meanwhile; nothing is written then.
        """
        items = self._plan.items(number, self._access)
        predictions: list[Prediction] = []
        for some, files in _read_ahead(self._reader, items, self._reading):
            if self._stopped.is_set():
                raise Stopped(f"shard {number} was left")
            predictions += look(self.detector, some, files)
        tables = self._writer.write(number, predictions, self.detector.runtime)
        verdicts = Counter(p.verdict for p in predictions if not p.error)
        unread = len(predictions) - sum(verdicts.values())
        return Shard(number, dict(verdicts), unread, tables)

    def stop(self) -> None:
        """Leave the shards that are being worked on: nobody waits for them any more."""
        self._stopped.set()


def _read_ahead(
    reader: Reader, items: Sequence[Item], pool: ThreadPoolExecutor
) -> Iterator[tuple[Sequence[Item], list[bytes | str]]]:
    """Yield images some at a time, while the next are read."""
    parts = [items[i : i + READ] for i in range(0, len(items), READ)]
    waiting = pool.submit(reader.read, parts[0]) if parts else None
    for i, part in enumerate(parts):
        assert waiting is not None
        files = waiting.result()
        if i + 1 < len(parts):
            waiting = pool.submit(reader.read, parts[i + 1])
        yield part, files
