"""What the service saw and said, kept for those who watch over it.

``FOLDER/records/*.jsonl``: one JSON object (`InferenceRecord`) a line. A file belongs to one
process, which only appends to it, and is never written again once the next one is begun; after a
crash its last line may be cut short. ``FOLDER/images/ab/abcd….jpg``: the files of images with the
verdict ``uncertain`` or ``ng``, under their SHA-256, the oldest removed when the budget is spent.
"""

import hashlib
import logging
import os
import queue
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pydantic import BaseModel, Field

from defect_assets.inference.postprocessing import Verdict
from defect_assets.inference.quality import ImageQuality
from detector_service.metrics import UNLOGGED

logger = logging.getLogger(__name__)

DAY = 86_400
_WAITING = 256
"""Requests whose records may wait for the disk; of more, none is kept."""


class InferenceRecord(BaseModel):
    """One image: what was asked, what was said, and how the image looked."""

    time: datetime = Field(default_factory=lambda: datetime.now(UTC))
    request_id: str
    route: str
    part_id: str | None
    image: str = ""
    """SHA-256 of the file that was sent; the log's thread reckons it."""
    bytes: int
    width: int
    height: int
    verdict: Verdict
    defects: int
    area_px: int
    classes: dict[str, int]
    """How many defects of each class there are."""
    confidence: float | None
    """The highest of a defect."""
    threshold: float
    quality: ImageQuality
    milliseconds: float
    release: str
    model: str
    """The bundle's digest."""


@dataclass(frozen=True)
class Limits:
    """How much is kept, in bytes."""

    file: float
    records: float
    images: float


class InferenceLog:
    """Writes records and images in a thread of its own. Nothing that goes wrong here is raised:
    it is counted.

    Parameters
    ----------
    folder
        Where to.
    limits
        How much.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._waiting: queue.Queue[tuple[InferenceRecord, bytes] | None] = queue.Queue(_WAITING)
        self._file: IO[bytes] | None = None
        self._opened = 0.0
        self._images: Budget | None = None
        self._thread = threading.Thread(target=self._run, name="inference-log", daemon=True)
        self._thread.start()

    def write(self, record: InferenceRecord, data: bytes) -> None:
        """Keep a record, and its image's file where a person should look at it."""
        try:
            self._waiting.put_nowait((record, data))
        except queue.Full:
            UNLOGGED.labels("record").inc()

    def close(self) -> None:
        """Write what waits."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            record, data = item
            record.image = hashlib.sha256(data).hexdigest()
            for what, write in (("record", self._write_record), ("image", self._write_image)):
                try:
                    write(record, data)
                except Exception:
                    UNLOGGED.labels(what).inc()
                    logger.exception("the %s of %s is not logged", what, record.request_id)
        if self._file is not None:
            self._file.close()

    def _write_record(self, record: InferenceRecord, _: bytes) -> None:
        file = self._open_file()
        try:
            file.write(record.model_dump_json().encode() + b"\n")
            file.flush()
        except OSError:
            # Half a line may be in it; the next record begins another file.
            self._file = None
            raise

    def _open_file(self) -> IO[bytes]:
        if self._file is not None:
            if self._file.tell() < self._limits.file and time.time() - self._opened < DAY:
                return self._file
            self._file.close()
            self._file = None
        folder = self._folder / "records"
        folder.mkdir(parents=True, exist_ok=True)
        Budget(folder.glob("*.jsonl"), self._limits.records).make_room(0)
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._file = (folder / f"{now}-{os.getpid()}.jsonl").open("ab")
        self._opened = time.time()
        return self._file

    def _write_image(self, record: InferenceRecord, data: bytes) -> None:
        if record.verdict == "ok" or len(data) > self._limits.images:
            return
        path = self._folder / "images" / record.image[:2] / record.image
        if self._images is None:
            kept = (self._folder / "images").glob("??/*")
            self._images = Budget(kept, self._limits.images)
        if path.exists():
            return
        self._images.make_room(len(data))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(data)
        partial.rename(path)
        self._images.add(path, len(data))


class Budget:
    """Files that together may take so many bytes; the oldest make room for others.

    Each process counts what it found and wrote itself: where several write into one folder, it
    can grow to a budget each.
    """

    def __init__(self, files: Iterable[Path], limit: float) -> None:
        self._limit = limit
        found = []
        for path in files:
            with suppress(OSError):  # another process may have removed it just now
                status = path.stat()
                found.append((status.st_mtime, path, status.st_size))
        self._sizes = {path: size for _, path, size in sorted(found)}
        self._total = sum(self._sizes.values())

    def add(self, path: Path, size: int) -> None:
        """Count a file, as the newest."""
        self._sizes[path] = size
        self._total += size

    def make_room(self, size: int) -> None:
        """Remove the oldest files until so many bytes are free."""
        while self._sizes and self._total + size > self._limit:
            oldest = next(iter(self._sizes))
            oldest.unlink(missing_ok=True)
            self._total -= self._sizes.pop(oldest)
