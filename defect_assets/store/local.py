"""The store on a local file system."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from defect_assets.store.backend import NotInStore

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

    def read(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            raise NotInStore(key) from None

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def create(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        if path.exists():
            return False
        partial = self._write_partial(path.parent, data)
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
        finally:
            partial.unlink()
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

    def keys(self, prefix: str) -> Iterator[str]:
        folder = self.root / prefix if prefix.endswith("/") else (self.root / prefix).parent
        for path in sorted(folder.rglob("*")):
            key = path.relative_to(self.root).as_posix()
            if key.startswith(prefix) and path.is_file() and not path.name.startswith("."):
                yield key

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
            raise ValueError(f"{key!r} is not a key: it must be a plain relative path")
        return self.root.joinpath(*parts)

    def _write_partial(self, folder: Path, data: bytes) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
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
