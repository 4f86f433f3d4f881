"""Where images come from: a folder, a prefix of a bucket, a snapshot.

A source is a value that can be sent to another machine; a reader is what it is opened as there.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from defect_assets.dataset.delivery import IMAGE_SUFFIXES
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import REF, find_snapshot, read_snapshot
from defect_assets.errors import UserError
from defect_assets.store import (
    Corrupted,
    Digest,
    NotInStore,
    S3Access,
    Store,
    StoreUnavailable,
    open_store,
)

if TYPE_CHECKING:
    from defect_assets.store.s3 import S3Backend

REQUESTS = 16
"""Objects of a bucket that are fetched at once, for one who looks at them."""
_SNAPSHOT = re.compile(r"DS-\d+\.\d+\.\d+")


class NoSource(UserError):
    """There is nothing to look at; the message says why."""


class Item(NamedTuple):
    """One image of a source."""

    name: str
    """Below the source; of a snapshot, the sample."""
    digest: Digest = ""
    """Of its file, where that is known before it is read."""


class Reader(Protocol):
    """Reads a source's images. Any number of threads may use it."""

    def read(self, items: Sequence[Item]) -> list[bytes | str]:
        """Return the bytes of each, or why they cannot be read.

        Raises
        ------
        UserError
            If the source as a whole does not answer.
        """
        ...


class Source(Protocol):
    """Images that lie somewhere."""

    def describe(self) -> dict[str, str]:
        """Return which source it is: another one has another description."""
        ...

    def items(self, access: S3Access | None = None) -> Iterator[Item]:
        """Yield its images, one page of names after the other, in the same order each time."""
        ...

    def open(self, access: S3Access | None = None) -> Reader:
        """Get ready to read it."""
        ...


@dataclass(frozen=True)
class FolderSource:
    """The images in a folder and its subfolders. On a cluster, all must have it mounted."""

    root: Path

    def describe(self) -> dict[str, str]:
        return {"folder": str(self.root)}

    def items(self, access: S3Access | None = None) -> Iterator[Item]:
        for folder, folders, files in os.walk(self.root):
            folders.sort()
            for name in sorted(files):
                if _is_image(name):
                    yield Item((Path(folder) / name).relative_to(self.root).as_posix())

    def open(self, access: S3Access | None = None) -> Reader:
        return _FolderReader(self.root)


@dataclass(frozen=True)
class BucketSource:
    """The images below a prefix of a bucket, ``s3://bucket/prefix``."""

    url: str

    def describe(self) -> dict[str, str]:
        return {"bucket": self.url}

    def items(self, access: S3Access | None = None) -> Iterator[Item]:
        yield from (Item(key) for key in _bucket(self.url, access).listing() if _is_image(key))

    def open(self, access: S3Access | None = None) -> Reader:
        return _BucketReader(_bucket(self.url, access))


@dataclass(frozen=True)
class SnapshotSource:
    """The images of a snapshot; their names are the samples'."""

    store: str
    """Where the store is."""
    cache: Path | None
    """Where what was read of a bucket is kept."""
    dataset: str
    digest: Digest

    def describe(self) -> dict[str, str]:
        return {"dataset": self.dataset, "snapshot": self.digest}

    def items(self, access: S3Access | None = None) -> Iterator[Item]:
        store = open_store(self.store, access, self.cache)
        table = samples_of(store, read_snapshot(store, self.digest).batches, ["sample", "image"])
        for batch in table.to_batches(max_chunksize=2**16):
            yield from map(Item, batch["sample"].to_pylist(), batch["image"].to_pylist())

    def open(self, access: S3Access | None = None) -> Reader:
        return _StoreReader(open_store(self.store, access, self.cache))


def source_of(text: str, store: Store, url: str, cache: Path | None) -> Source:
    """Return what a person means: a folder, ``s3://bucket/prefix``, or a dataset's version.

    Parameters
    ----------
    text
        What was said.
    store, url, cache
        The home's store, where it is, and where what was read of it is kept.

    Raises
    ------
    NoSource
        If there is no such folder.
    UnknownDataset
        If there is no such version.
    """
    if _SNAPSHOT.fullmatch(text):
        return SnapshotSource(url, cache, text, find_snapshot(store, text)[0])
    if "://" in text:
        return BucketSource(text.rstrip("/"))
    folder = Path(text).resolve()
    if not folder.is_dir():
        known = ", ".join(n.removeprefix(REF) for n in store.refs.names(REF)) or "none"
        raise NoSource(
            f"there is no folder {folder}: give a folder with images, s3://bucket/prefix, or a "
            f"dataset's version; known: {known}"
        )
    return FolderSource(folder)


@dataclass(frozen=True)
class _FolderReader:
    root: Path

    def read(self, items: Sequence[Item]) -> list[bytes | str]:
        return [self._read(item.name) for item in items]

    def _read(self, name: str) -> bytes | str:
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            if not self.root.is_dir():
                raise NoSource(
                    f"there is no folder {self.root} on {platform.node()}: each machine that works "
                    "must see it; put the images into a bucket, or into a folder that all share"
                ) from error
            return f"it cannot be read ({error.strerror})"


class _BucketReader:
    def __init__(self, bucket: S3Backend) -> None:
        self._bucket = bucket
        self._pool = ThreadPoolExecutor(REQUESTS)

    def read(self, items: Sequence[Item]) -> list[bytes | str]:
        return list(self._pool.map(self._read, (item.name for item in items)))

    def _read(self, name: str) -> bytes | str:
        try:
            return self._bucket.read(name)
        except NotInStore:
            return "it is gone since the images were listed"


@dataclass(frozen=True)
class _StoreReader:
    store: Store

    def read(self, items: Sequence[Item]) -> list[bytes | str]:
        try:
            return list(self.store.objects.get_many([item.digest for item in items]))
        except (Corrupted, NotInStore):
            return [self._read(item.digest) for item in items]

    def _read(self, digest: Digest) -> bytes | str:
        try:
            return self.store.objects.get(digest)
        except (Corrupted, NotInStore) as error:
            return str(error)


def _bucket(url: str, access: S3Access | None) -> S3Backend:
    from defect_assets.store.s3 import S3Backend

    try:
        return S3Backend(url, access)
    except StoreUnavailable as error:
        raise NoSource(str(error)) from error


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not Path(name).name.startswith(".")
