"""Where results go: a folder, or a prefix of a bucket, by the store's own means of writing whole
files."""

from functools import lru_cache
from pathlib import Path

from defect_assets.store import Backend, S3Access


@lru_cache
def open_place(url: str, access: S3Access | None = None) -> Backend:
    """Return a folder or ``s3://bucket/prefix`` to write to; once a process.

    Raises
    ------
    StoreUnavailable
        If it is no such address, or there are no credentials.
    """
    if "://" in url:
        from defect_assets.store.s3 import S3Backend

        return S3Backend(url, access)
    from defect_assets.store.local import LocalBackend

    return LocalBackend(Path(url))
