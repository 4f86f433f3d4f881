"""A local copy of what a remote store was asked for, up to a size."""

import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from defect_assets.store.backend import Backend, Entry
from defect_assets.store.digest import OBJECTS, digest_of

TABLES = "tables/"
IMMUTABLE = (OBJECTS, TABLES, "indexes/")
CACHE_BYTES = 20 * 2**30
STREAMED = 4 * 2**20
"""Whoever reads this many bytes of one object, by parts, gets the whole of it."""


def _matches(key: str, data: bytes) -> bool:
    """Tell whether a copy can be what its key says."""
    if key.startswith(TABLES):
        return len(data) == 64
    name = key.removesuffix(".parquet").partition("/")[2].replace("/", "")
    return digest_of(data) == name


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
        copy = self._path(key)
        if self._sound(key, copy):
            os.utime(copy)  # when it was used last
            return copy.read_bytes()
        data = self._remote.read(key)
        self._keep(copy, data)
        return data

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        copy = self._path(key)
        if not self._sound(key, copy):
            with self._lock:
                self._asked[key] += sum(length for _, length in ranges)
                whole = self._asked[key] >= STREAMED
            if not whole:
                return self._remote.read_ranges(key, ranges)
            data = memoryview(self.read(key))
            return [bytes(data[offset : offset + length]) for offset, length in ranges]
        with copy.open("rb") as file:
            os.utime(copy)
            return [os.pread(file.fileno(), length, offset) for offset, length in ranges]

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

    def _sound(self, key: str, copy: Path) -> bool:
        """Tell whether there is a copy that holds what its key says; a damaged one is removed."""
        if key not in self._checked:
            try:
                data = copy.read_bytes()
            except FileNotFoundError:
                return False
            if not _matches(key, data):
                copy.unlink()
                return False
            self._checked.add(key)
        return copy.exists()

    def _path(self, key: str) -> Path:
        return self._folder.joinpath(*key.split("/"))

    def _keep(self, copy: Path, data: bytes) -> None:
        copy.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=self._folder, prefix=".partial-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(partial).replace(copy)
        except OSError:  # a full disk: the copy is a convenience, the data is here
            Path(partial).unlink(missing_ok=True)
            return
        with self._lock:
            self._size = len(data) + (self._measure() if self._size is None else self._size)
            if self._size > self._limit:
                self._shrink()

    def _measure(self) -> int:
        return sum(path.stat().st_size for path in self._copies())

    def _shrink(self) -> None:
        """Remove what was not used for longest, to nine tenths of the limit."""
        used = sorted(
            (path.stat().st_atime_ns, path.stat().st_size, path) for path in self._copies()
        )
        size = sum(length for _, length, _ in used)
        for _, length, path in used:
            if size <= 0.9 * self._limit:
                break
            path.unlink(missing_ok=True)
            size -= length
        self._size = size

    def _copies(self) -> Iterator[Path]:
        return (path for path in self._folder.rglob("*") if path.is_file())
