"""A store: objects, names, and the record of how each named result came to be."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from defect_assets.store.access import S3Access
from defect_assets.store.backend import Backend
from defect_assets.store.cache import CachedBackend
from defect_assets.store.digest import Digest
from defect_assets.store.leases import LeasingBackend
from defect_assets.store.local import LocalBackend
from defect_assets.store.objects import Objects
from defect_assets.store.refs import RefConflict, Refs


class Record(BaseModel):
    """How one result came to be. Names point to records; records point to content.

    The content is what was computed and nothing else, so that the same work gives the same
    digest again; when, where and by whose code it was computed stands here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    asset: str
    """The stage that made it, e.g. ``trained_model``."""
    partition: str = ""
    """Which of its partitions, e.g. ``C-01|DS-1.1.0``."""
    content: Digest
    """The result itself."""
    parents: dict[str, Digest] = Field(default_factory=dict)
    """The contents it was made from, by the name of their stage."""
    code_version: str = ""
    """Digest of the source that the stage runs."""
    commit: str = ""
    """The commit of the working tree; ends in ``+`` when files were changed since."""
    run_id: str = ""
    """Dagster's run."""
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    previous: Digest | None = None
    """The record that the same name pointed to before, so that a name has a history."""
    details: dict[str, Any] = Field(default_factory=dict)
    """What is worth knowing but is no part of the content: durations, hardware."""


class Store:
    """Objects, names and records over one backend.

    One that `open_store` opened can be sent to another process, which opens it for itself, as the
    usual AWS environment says there.

    Parameters
    ----------
    backend
        Where everything lies.
    place
        Its URL and its cache, as `open_store` was told.
    """

    def __init__(self, backend: Backend, place: tuple[str, Path | None] | None = None) -> None:
        self._place = place
        self.backend = backend
        self.objects = Objects(backend)
        self.refs = Refs(backend)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._place is None:
            raise TypeError("only a store that open_store opened can be sent elsewhere")
        url, cache = self._place
        return open_store, (url, None, cache)

    def record(self, name: str) -> Record | None:
        """Return the record that a name points to, or None where there is no such name."""
        digest = self.refs.get(name)
        return Record.model_validate(self.objects.get_json(digest)) if digest else None

    def history(self, name: str) -> Iterator[Record]:
        """Yield the records that a name pointed to, the newest first; none for no such name."""
        return self.past(self.refs.get(name))

    def past(self, digest: Digest | None) -> Iterator[Record]:
        """Yield a record, and those that its name pointed to before, the newest first."""
        while digest:
            record = Record.model_validate(self.objects.get_json(digest))
            yield record
            digest = record.previous

    def content(self, name: str) -> Digest | None:
        """Return the digest of the content that a name leads to, or None."""
        record = self.record(name)
        return record.content if record else None

    def publish(self, name: str, record: Record) -> None:
        """Point a name to a new result; its record remembers the one before.

        Raises
        ------
        RefConflict
            If someone else published under this name at the same time.
        """
        self.publish_after(name, self.refs.get(name), record)

    def publish_after(self, name: str, before: Digest | None, record: Record) -> None:
        """Point a name to a new result, unless it moved since one looked.

        Parameters
        ----------
        name
            Which name.
        before
            The record that it pointed to when one decided to move it; None: to nothing.
        record
            The new result's; it remembers the one before.

        Raises
        ------
        RefConflict
            If the name points to another record by now; nothing is changed then.
        """
        self.refs.move(name, before, self._put(record.model_copy(update={"previous": before})))

    def publish_once(self, name: str, record: Record) -> None:
        """Give a result a name for good. To do so again with the same content changes nothing.

        Raises
        ------
        RefConflict
            If the name already stands for other content.
        """
        standing = self.content(name)
        if standing is None:
            try:
                self.refs.create(name, self._put(record))
            except RefConflict:  # someone else was faster
                standing = self.content(name)
        if standing not in (None, record.content):
            raise RefConflict(
                f"{name} already names {standing}; it cannot be given to {record.content}"
            )

    def _put(self, record: Record) -> Digest:
        return self.objects.put_json(record.model_dump(mode="json"))


def open_store(url: str, access: S3Access | None = None, cache: Path | None = None) -> Store:
    """Open a store; it is made when something is first written.

    Parameters
    ----------
    url
        A folder's path, or ``s3://bucket/prefix``.
    access
        How the bucket is reached; by default as the usual AWS environment says.
    cache
        The folder in which what a bucket was asked for is kept; None: nowhere.
    """
    if "://" not in url:
        folder = Path(url).absolute()
        return Store(LeasingBackend(LocalBackend(folder)), (str(folder), None))
    return _open_bucket(url, access, cache)


@lru_cache
def _open_bucket(url: str, access: S3Access | None, cache: Path | None) -> Store:
    """Open a bucket once a process: its probe and its credentials take a moment."""
    from defect_assets.store.s3 import S3Backend

    backend: Backend = LeasingBackend(S3Backend(url, access))
    return Store(CachedBackend(backend, cache) if cache else backend, (url, cache))
