"""An inbox in a bucket: what cameras or labellers put under a prefix, a folder a delivery."""

from __future__ import annotations

import hashlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from defect_assets.dataset.delivery import COMPLETE, PARTIAL
from defect_assets.errors import UserError
from defect_assets.store import S3Access

if TYPE_CHECKING:
    from defect_assets.store.s3 import S3Backend


class UnsafeKey(UserError):
    """A delivery with a key that would not stay in its folder; the message names it."""


class BucketInbox:
    """The deliveries below a prefix of a bucket.

    Parameters
    ----------
    bucket
        The prefix, as the store reaches its own.
    """

    def __init__(self, bucket: S3Backend) -> None:
        self._bucket = bucket

    def names(self) -> list[str]:
        """Return the names of all deliveries, complete or not, sorted."""
        return self._bucket.folders()

    def is_complete(self, name: str) -> bool:
        """Tell whether a delivery has its marker."""
        return self._bucket.exists(f"{name}/{COMPLETE}")

    def complete(self, name: str) -> None:
        """Give a delivery its marker."""
        self._bucket.create(f"{name}/{COMPLETE}", b"")

    def fingerprint(self, name: str) -> tuple[str, float]:
        """Return a digest of all names, sizes and times, and the newest time (Unix, seconds)."""
        entries = sorted(self._bucket.entries(name))
        return (
            hashlib.sha256(repr([tuple(entry) for entry in entries]).encode()).hexdigest(),
            max((entry.modified for entry in entries), default=0.0),
        )

    def fetch(self, name: str, inbox: Path) -> str:
        """Copy a delivery into a folder of deliveries, where it appears whole or not at all.

        Returns
        -------
        str
            Its fingerprint as it was before anything was copied.

        Raises
        ------
        UnsafeKey
            If a key in it leads out of it.
        """
        fingerprint, _ = self.fingerprint(name)
        inbox.mkdir(parents=True, exist_ok=True)
        keys = [entry.key for entry in self._bucket.entries(name)]
        # A folder of one's own: another process may be fetching the same.
        with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=inbox) as scratch:
            partial = Path(scratch) / name
            with ThreadPoolExecutor(8) as pool:
                for _ in pool.map(lambda key: self._copy(key, name, partial), keys):
                    pass
            if not (inbox / name).exists():
                partial.rename(inbox / name)
        return fingerprint

    def _copy(self, key: str, name: str, folder: Path) -> None:
        path = PurePosixPath(key).relative_to(name)
        if ".." in path.parts or path.is_absolute():
            raise UnsafeKey(f"the delivery {name} has a key that leads out of it: {key}")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self._bucket.read(key))


@lru_cache
def open_bucket_inbox(url: str, access: S3Access | None) -> BucketInbox:
    """Return the inbox below ``s3://bucket/prefix``; once a process, like a store's bucket."""
    from defect_assets.store.s3 import S3Backend

    return BucketInbox(S3Backend(url, access))
