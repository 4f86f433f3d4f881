"""The store on a local file system."""

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from defect_assets.store.backend import Entry, NotInStore

_PARTIAL = ".partial-"


class LocalBackend:
    """Keys as files below a folder.

    A file is written under a temporary name, synced, and only then linked to its key, so that a
    crash leaves the key absent or whole. Files are read-only, since nothing edits them in place.

    Parameters
    ----------
    root
        The folder. It is made when something is first written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def hold(self) -> None:
        pass  # see `leases.LeasingBackend`

    def read(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise NotInStore(key) from None

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        try:
            descriptor = os.open(self._path(key), os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            raise NotInStore(key) from None
        try:
            return [os.pread(descriptor, length, offset) for offset, length in ranges]
        finally:
            os.close(descriptor)

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def create(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        if path.exists():
            return False
        while True:
            partial = self._write_partial(path.parent, data)
            try:
                os.link(partial, path)
            except FileExistsError:
                return False
            except FileNotFoundError:  # swept up by a collector, who waits for no lease's file
                continue
            finally:
                partial.unlink(missing_ok=True)
            _sync_folder(path.parent)
            return True

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        path = self._path(key)
        self.root.mkdir(parents=True, exist_ok=True)
        # One lock for all swaps: they are rare and take a millisecond. The kernel drops it when
        # its holder dies, so no lock is ever left behind.
        with (self.root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                current = self.read(key)
            except NotInStore:
                current = None
            if current != expected:
                return False
            self._write_partial(path.parent, data).replace(path)
            _sync_folder(path.parent)
            return True

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def entries(self, folder: str) -> Iterator[Entry]:
        folder = folder.rstrip("/")
        try:
            children = sorted(os.scandir(self.root / folder), key=lambda child: child.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for child in children:
            if child.name.startswith("."):
                continue
            key = f"{folder}/{child.name}"
            if child.is_dir(follow_symlinks=False):
                yield from self.entries(key)
            else:
                try:
                    status = child.stat(follow_symlinks=False)
                except FileNotFoundError:  # deleted since the folder was listed
                    continue
                yield Entry(key, status.st_size, status.st_mtime)

    def clean(self, before: float) -> int:
        count = 0
        for path in list(self.root.rglob(f"{_PARTIAL}*")):
            with suppress(FileNotFoundError):  # its writer is quicker
                if path.lstat().st_mtime < before:
                    path.unlink()
                    count += 1
        return count

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
            raise ValueError(f"{key!r} is not a key: it must be a plain relative path")
        return self.root.joinpath(*parts)

    def _write_partial(self, folder: Path, data: bytes) -> Path:
        new = [parent for parent in (folder, *folder.parents) if not parent.is_dir()]
        folder.mkdir(parents=True, exist_ok=True)
        for made in new:
            _sync_folder(made.parent)
        descriptor, name = tempfile.mkstemp(prefix=_PARTIAL, dir=folder)
        partial = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), 0o444)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            partial.unlink()
            raise
        return partial


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
