"""A local copy of what a remote store was asked for, up to a size."""

import os
import stat
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from defect_assets.store.backend import Backend, Entry
from defect_assets.store.digest import OBJECTS, digest_of

TABLES = "tables/"
IMMUTABLE = (OBJECTS, TABLES, "indexes/")
CACHE_BYTES = 20 * 2**30
STREAMED = 4 * 2**20
"""Whoever reads this many bytes of one object, by parts, gets the whole of it."""


class CachedBackend:
    """A remote place whose immutable content is kept in a folder once it was read.

    An object that is read by parts is fetched by parts at first, and as a whole once the parts
    come to `STREAMED` bytes: a single sample costs a sample, training a pack.

    Parameters
    ----------
    remote
        The place itself.
    folder
        Where copies are kept. Processes may share it.
    limit
        The size in bytes above which the copies that were not used for longest are removed.
    """

    def __init__(self, remote: Backend, folder: Path, limit: int = CACHE_BYTES) -> None:
        self._remote = remote
        self._folder = folder
        self._limit = limit
        self._asked: Counter[str] = Counter()
        self._checked: set[str] = set()
        self._lock = threading.Lock()
        self._size: int | None = None

    def __str__(self) -> str:
        return str(self._remote)

    def hold(self) -> None:
        self._remote.hold()

    def read(self, key: str) -> bytes:
        if not key.startswith(IMMUTABLE):
            return self._remote.read(key)
        if (copy := self._copy(key)) is not None:
            with copy:
                return _unsealed(key, copy.read())
        data = self._remote.read(key)
        self._keep(key, data)
        return data

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        if not key.startswith(OBJECTS):
            return self._remote.read_ranges(key, ranges)
        if (copy := self._copy(key)) is not None:
            with copy:
                return [os.pread(copy.fileno(), length, offset) for offset, length in ranges]
        with self._lock:
            self._asked[key] += sum(length for _, length in ranges)
            whole = self._asked[key] >= STREAMED
        if not whole:
            return self._remote.read_ranges(key, ranges)
        data = memoryview(self.read(key))
        return [bytes(data[offset : offset + length]) for offset, length in ranges]

    def exists(self, key: str) -> bool:
        return self._remote.exists(key)

    def create(self, key: str, data: bytes) -> bool:
        return self._remote.create(key, data)

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        return self._remote.swap(key, expected, data)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)
        self._remote.delete(key)

    def entries(self, folder: str) -> Iterator[Entry]:
        return self._remote.entries(folder)

    def clean(self, before: float) -> int:
        return self._remote.clean(before)

    def _copy(self, key: str) -> BinaryIO | None:
        """Open the copy, if there is one that holds what its key says; remove a damaged one.

        It stays readable while it is open, even where another process removes it.
        """
        path = self._path(key)
        try:
            copy = path.open("rb")
        except OSError:
            self._checked.discard(key)  # what comes in its place must be looked at
            return None
        with suppress(OSError):  # it may be another user's
            os.utime(copy.fileno())  # when it was used last
        if key not in self._checked:
            if not _is_sound(key, copy.read()):
                copy.close()
                path.unlink(missing_ok=True)
                return None
            copy.seek(0)
            self._checked.add(key)
        return copy

    def _path(self, key: str) -> Path:
        return self._folder.joinpath(*key.split("/"))

    def _keep(self, key: str, data: bytes) -> None:
        path = self._path(key)
        partial = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=".partial-")
            partial = Path(name)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.write(_seal(key, data))
            partial.replace(path)
        except OSError:  # a full disk: the copy is a convenience, the data is here
            if partial is not None:
                partial.unlink(missing_ok=True)
            return
        with self._lock:
            self._size = self._measure() if self._size is None else self._size + len(data)
            if self._size > self._limit:
                self._shrink()

    def _measure(self) -> int:
        return sum(size for _, size, _ in self._copies())

    def _shrink(self) -> None:
        """Remove what was not used for longest, to nine tenths of the limit."""
        copies = sorted(self._copies())
        size = sum(length for _, length, _ in copies)
        for _, length, path in copies:
            if size <= 0.9 * self._limit:
                break
            path.unlink(missing_ok=True)
            size -= length
        self._size = size

    def _copies(self) -> Iterator[tuple[int, int, Path]]:
        """Yield the copies: when each was used last, its size in bytes, its path."""
        for path in self._folder.rglob("*"):
            with suppress(FileNotFoundError):  # another process has removed it
                status = path.stat()
                if stat.S_ISREG(status.st_mode):
                    yield status.st_atime_ns, status.st_size, path


def _seal(key: str, data: bytes) -> bytes:
    """Return what a copy ends in: of what lies in a table's key, the key itself tells nothing."""
    return digest_of(data).encode() if key.startswith(TABLES) else b""


def _unsealed(key: str, copy: bytes) -> bytes:
    return copy[:-64] if key.startswith(TABLES) else copy


def _is_sound(key: str, copy: bytes) -> bool:
    if key.startswith(TABLES):
        data = _unsealed(key, copy)
        return data + _seal(key, data) == copy
    name = key.removesuffix(".parquet").partition("/")[2].replace("/", "")
    return digest_of(copy) == name
