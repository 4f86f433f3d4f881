"""The store in a bucket of S3, or of a server that speaks its protocol.

The client is obstore: of those that were measured (``benchmarks/s3_clients.py``) the fastest with
small and with large objects, and the only one whose conditional writes and range reads are part
of its interface.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from defect_assets.store.access import S3Access
from defect_assets.store.backend import Entry, NotInStore, StoreUnavailable

TIMEOUT = timedelta(seconds=60)
"""For one request, a pack's transfer included."""
PATIENCE = timedelta(seconds=90)
"""For one operation, from its first request to the start of its last."""

if TYPE_CHECKING:
    from obstore.auth.boto3 import Boto3CredentialProvider

FATAL = (NotFoundError, FileNotFoundError, PermissionDeniedError, UnauthenticatedError)
"""What is the same however often one asks."""


class UnsafeBucket(StoreUnavailable):
    """A bucket that overwrites where it was told to create only: no name would be for good."""


class S3Backend:
    """Keys as objects below a prefix of a bucket.

    Parameters
    ----------
    url
        ``s3://bucket/prefix``.
    access
        How the bucket is reached.

    Raises
    ------
    ValueError
        If the URL has another form.
    StoreUnavailable
        If there are no credentials.
    """

    def __init__(self, url: str, access: S3Access | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise ValueError(f"{url!r} is not of the form s3://bucket/prefix")
        access = access or S3Access()
        self.url = url
        self._probed = False
        self._probe_lock = threading.Lock()
        credentials = _credentials(url, access)
        endpoint = access.endpoint or _environment("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
        region = (credentials.config.get("region") if credentials else None) or _environment(
            "AWS_REGION", "AWS_DEFAULT_REGION"
        )
        self._store = S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            endpoint=endpoint,
            region=region or "us-east-1",
            credential_provider=credentials,
            client_options={
                "timeout": TIMEOUT,
                "connect_timeout": timedelta(seconds=5),
                "allow_http": True,
            },
            virtual_hosted_style_request=False,
            retry_config={
                "max_retries": 30,
                "retry_timeout": PATIENCE,
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
        )

    def __str__(self) -> str:
        return self.url

    def hold(self) -> None:
        pass  # see `leases.LeasingBackend`

    def read(self, key: str) -> bytes:
        with self._errors(key):
            return bytes(obstore.get(self._store, key).bytes())

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        starts, lengths = [start for start, _ in ranges], [length for _, length in ranges]
        try:
            with self._errors(key):
                parts = obstore.get_ranges(self._store, key, starts=starts, lengths=lengths)
        except StoreUnavailable as error:
            if "416" not in str(error):
                raise
            data = self.read(key)  # it is shorter than it should be; that is for others to judge
            return [data[start : start + length] for start, length in ranges]
        return [bytes(part) for part in parts]

    def exists(self, key: str) -> bool:
        try:
            with self._errors(key):
                obstore.head(self._store, key)
        except NotInStore:
            return False
        return True

    def create(self, key: str, data: bytes) -> bool:
        if key.startswith("refs/"):
            self._probe()

        def attempt() -> bool:
            try:
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            return True

        return self._insist(key, data, attempt)

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        self._probe()
        if expected is None:
            return self.create(key, data) or self._holds(key, data)

        def attempt() -> bool:
            try:
                found = obstore.get(self._store, key)
            except (NotFoundError, FileNotFoundError):
                return False
            tag = found.meta["e_tag"] or ""
            if bytes(found.bytes()) != expected:
                return False
            # Ceph compares with the tag without its quotes, others with it as it is.
            for form in (tag, tag.strip('"')):
                try:
                    obstore.put(self._store, key, data, mode={"e_tag": form}, use_multipart=False)
                except PreconditionError:
                    continue
                return True
            return self._holds(key, data)

        return self._insist(key, data, attempt)

    def _insist(self, key: str, data: bytes, attempt: Callable[[], bool]) -> bool:
        """Try a conditional write until there is an answer.

        The client does not repeat it by itself, since the reply may be lost after the write was
        done: where a later try says that the key is taken, it may be by the first.
        """
        deadline = time.monotonic() + PATIENCE.total_seconds()
        pause, again = 0.1, False
        while True:
            try:
                with self._errors(key):
                    return attempt() or (again and self._holds(key, data))
            except StoreUnavailable as error:
                if isinstance(error.__cause__, FATAL) or time.monotonic() > deadline:
                    raise
            again = True
            time.sleep(pause)
            pause = min(2 * pause, 5)

    def delete(self, key: str) -> None:
        with suppress(NotInStore), self._errors(key):
            obstore.delete(self._store, key)

    def entries(self, folder: str) -> Iterator[Entry]:
        for found in self._listed(folder.rstrip("/")):
            yield Entry(found["path"], found["size"], found["last_modified"].timestamp())

    def _listed(self, folder: str) -> list[Any]:
        """Return what is listed below a folder; a listing that breaks off is begun anew."""
        for pause in (0.2, 1, 5, 0):
            try:
                with self._errors(folder):
                    return list(obstore.list(self._store, folder).collect())
            except StoreUnavailable as error:
                if isinstance(error.__cause__, FATAL) or not pause:
                    raise
                time.sleep(pause)
        raise AssertionError

    def clean(self, before: float) -> int:
        return 0  # objects are written by one request each: whole, or not at all

    def _holds(self, key: str, data: bytes) -> bool:
        try:
            return self.read(key) == data
        except NotInStore:
            return False

    def _probe(self) -> None:
        """Make sure, once, that the bucket refuses to overwrite where it is told to create.

        Some servers ignore the condition, and so do Ceph's buckets with versions.
        """
        with self._probe_lock:
            if self._probed:
                return
            key = f"probes/{uuid.uuid4()}"
            try:
                with self._errors(key):
                    obstore.put(self._store, key, b"1", mode="create", use_multipart=False)
                    obstore.put(self._store, key, b"2", mode="create", use_multipart=False)
            except AlreadyExistsError:
                self._probed = True
            finally:
                self.delete(key)
            if not self._probed:
                raise UnsafeBucket(
                    f"{self.url} overwrites an object where it was told to create one only "
                    "(If-None-Match), so that a dataset's or a release's name could silently "
                    "change: use a server that honours it, and a bucket without versions on Ceph"
                )

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Turn the client's errors into the store's."""
        try:
            yield
        except (NotFoundError, FileNotFoundError) as error:
            if "NoSuchBucket" in str(error):
                raise StoreUnavailable(f"{self.url}: there is no such bucket; make it") from error
            raise NotInStore(key) from None
        except (AlreadyExistsError, PreconditionError):
            raise
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise StoreUnavailable(
                f"{self.url} refuses these credentials for {key}: {_first_line(error)}"
            ) from error
        except BaseError as error:
            raise StoreUnavailable(f"{self.url} does not answer: {_first_line(error)}") from error


def _credentials(url: str, access: S3Access) -> Boto3CredentialProvider | None:
    """Return where credentials come from; None: from the environment's own variables."""
    if access.session is None and _environment("AWS_ACCESS_KEY_ID"):
        return None  # the client reads them itself, and boto3's 0.3 s are saved
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider(access.session)
    except ValueError:
        raise StoreUnavailable(
            f"there are no credentials for {url}: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ) from None


def _environment(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _first_line(error: Any) -> str:
    return str(error).strip().splitlines()[0]
