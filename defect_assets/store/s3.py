"""The store in a bucket of S3, or of a server that speaks its protocol.

The client is obstore: of those that were measured (``benchmarks/s3_clients.py``) the fastest with
small and with large objects, and the only one whose conditional writes and range reads are part
of its interface.
"""

from __future__ import annotations

import os
import re
import threading
import time
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar
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

PAGE = 1000
"""Keys that one request lists, at most."""
GAP = 2**20
"""Parts of an object that are no further apart than this, in bytes, are read as one."""

if TYPE_CHECKING:
    from obstore.auth.boto3 import Boto3CredentialProvider

WRITER = "writer"
"""The metadata of an object that tells one write of it from every other."""

_Result = TypeVar("_Result")


class Refused(StoreUnavailable):
    """The server's answer, which is the same however often one asks."""


class UnsafeBucket(Refused):
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
    StoreUnavailable
        If the URL or the endpoint's has another form, or there are no credentials.
    """

    def __init__(self, url: str, access: S3Access | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise StoreUnavailable(f"{url!r} is not of the form s3://bucket/prefix")
        access = access or S3Access()
        self.url = url
        self._probed = False
        self._probe_lock = threading.Lock()
        credentials = _credentials(url, access)
        endpoint = access.endpoint or _environment("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
        if endpoint and not re.match(r"https?://[^/]", endpoint):
            raise StoreUnavailable(
                f"{endpoint!r} is no server's URL: AWS_ENDPOINT_URL must be like http://host:9000"
            )
        region = (credentials.config.get("region") if credentials else None) or _environment(
            "AWS_REGION", "AWS_DEFAULT_REGION"
        )

        def client(retries: int) -> S3Store:
            return S3Store(
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
                    "max_retries": retries,
                    "retry_timeout": PATIENCE,
                    "backoff": {
                        "init_backoff": timedelta(milliseconds=100),
                        "max_backoff": timedelta(seconds=5),
                        "base": 2,
                    },
                },
            )

        self._store = client(30)
        # For conditional writes: when the client repeats one unseen, a refusal may be of a write
        # that it did itself.
        self._once = client(0)

    def __str__(self) -> str:
        return self.url

    def hold(self) -> None:
        pass  # see `leases.LeasingBackend`

    def read(self, key: str) -> bytes:
        with self._errors(key):
            return bytes(obstore.get(self._store, key).bytes())

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        # What is near each other is joined here, since obstore, which would do it, panics where a
        # later part of what it joined lies beyond the end.
        spans = _joined(ranges)
        if not spans and not self.exists(key):
            raise NotInStore(key)
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
        try:
            with self._errors(key):
                parts = obstore.get_ranges(self._store, key, starts=starts, ends=ends)
            found = [memoryview(part) for part in parts]
        except StoreUnavailable as error:
            if _status(error.__cause__) != 416:
                raise
            # It is shorter than it should be; that is for others to judge.
            starts, found = [0], [memoryview(self.read(key))]
        read = []
        for start, length in ranges:
            at = bisect_right(starts, start) - 1
            within = start - starts[at] if length else 0
            read.append(bytes(found[at][within : within + length]) if length else b"")
        return read

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
        return self._insist_on_write(key, lambda writer: self._put(key, data, "create", writer))

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        self._probe()
        if expected is None:
            return self.create(key, data)

        def attempt(writer: str) -> bool:
            try:
                found = obstore.get(self._store, key)
            except (NotFoundError, FileNotFoundError):
                return False
            tag = found.meta["e_tag"] or ""
            if bytes(found.bytes()) != expected:
                return False
            # Ceph compares with the tag without its quotes, others with it as it is.
            try:
                forms = (tag, tag.strip('"'))
                return any(self._put(key, data, {"e_tag": form}, writer) for form in forms)
            except (NotFoundError, FileNotFoundError):  # deleted since it was read
                return False

        return self._insist_on_write(key, attempt)

    def _put(self, key: str, data: bytes, mode: Any, writer: str) -> bool:
        """Write on a condition, by one request; tell whether it held."""
        try:
            obstore.put(
                self._once,
                key,
                data,
                mode=mode,
                attributes={WRITER: writer},
                use_multipart=False,
            )
        except PreconditionError:
            return False
        except AlreadyExistsError as error:
            # Amazon's word for "another write is under way, which may fail: ask again".
            if _status(error) == 409:
                raise StoreUnavailable(f"others are writing {key} to {self.url}") from error
            return False
        return True

    def _insist_on_write(self, key: str, attempt: Callable[[str], bool]) -> bool:
        """Try a conditional write until there is an answer.

        A reply may be lost after the write was done, or say nothing of it: where a later try says
        that the key is taken, it may be by an earlier one. So each write bears its writer's name;
        that of the bytes alone may be another's, who wrote the same.
        """
        writer = uuid.uuid4().hex
        tries = 0

        def again() -> bool:
            nonlocal tries
            tries += 1
            return attempt(writer) or (tries > 1 and self._writer(key) == writer)

        return self._insist(key, again)

    def _insist(self, key: str, attempt: Callable[[], _Result]) -> _Result:
        """Try what the client does not repeat by itself until there is an answer."""
        deadline = time.monotonic() + PATIENCE.total_seconds()
        pause = 0.1
        while True:
            try:
                with self._errors(key):
                    return attempt()
            except StoreUnavailable as error:
                if isinstance(error, Refused) or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 5)

    def delete(self, key: str) -> None:
        with suppress(NotInStore):
            self._insist(key, lambda: obstore.delete(self._store, key))

    def entries(self, folder: str) -> Iterator[Entry]:
        folder = folder.rstrip("/")
        # A listing that breaks off is begun anew.
        listed: list[Any] = self._insist(
            folder, lambda: list(obstore.list(self._store, folder).collect())
        )
        for found in listed:
            yield Entry(found["path"], found["size"], found["last_modified"].timestamp())

    def listing(self) -> Iterator[str]:
        """Yield all keys below the prefix, in order, page by page: of however many, few in memory.

        A listing that breaks off goes on after the last key that it told.
        """
        page = self._page(None)
        while page:
            yield from page
            page = self._page(page[-1]) if len(page) == PAGE else []

    def _page(self, after: str | None) -> list[str]:
        """Return the keys that follow one."""

        def page() -> Any:
            return next(iter(obstore.list(self._store, offset=after, chunk_size=PAGE)), [])

        return [entry["path"] for entry in self._insist("", page)]

    def folders(self) -> list[str]:
        """Return the names of the folders right below the prefix, sorted."""
        listed: Any = self._insist("", lambda: obstore.list_with_delimiter(self._store))
        return sorted(folder.rstrip("/") for folder in listed["common_prefixes"])

    def clean(self, before: float) -> int:
        return 0  # objects are written by one request each: whole, or not at all

    def _writer(self, key: str) -> str | None:
        try:
            return obstore.get(self._store, key).attributes.get(WRITER)
        except (NotFoundError, FileNotFoundError):
            return None

    def _probe(self) -> None:
        """Make sure, once, that the bucket refuses to overwrite where it is told to create.

        Some servers ignore the condition, and so do Ceph's buckets with versions.
        """
        with self._probe_lock:
            if self._probed:
                return
            key = f"probes/{uuid.uuid4()}"

            def refuses() -> bool:
                return not all(self._put(key, data, "create", "") for data in (b"1", b"2"))

            self._probed = self._insist(key, refuses)
            with suppress(StoreUnavailable):  # some may write, but not delete
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
        except (BaseError, FileNotFoundError) as error:
            said = str(error)
            if "NoSuchBucket" in said:
                raise Refused(f"{self.url}: there is no such bucket; make it") from error
            if isinstance(error, NotFoundError | FileNotFoundError):
                raise NotInStore(key) from None
            # Of a refused listing the client has no error of its own.
            of_its_own = isinstance(error, PermissionDeniedError | UnauthenticatedError)
            if of_its_own or _status(error) in (401, 403):
                raise Refused(
                    f"{self.url} refuses these credentials for {key}: {_reason(said)}"
                ) from error
            raise StoreUnavailable(f"{self.url} does not answer: {_reason(said)}") from error


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return starts and ends of what is to be read for some parts, in order and apart.

    >>> _joined([(5, 5), (2**24, 1), (0, 3), (7, 0)])
    [(0, 10), (16777216, 16777217)]
    """
    joined: list[tuple[int, int]] = []
    for start, length in sorted(ranges):
        if not length:
            continue
        end = start + length
        if joined and start - joined[-1][1] <= GAP:
            start, before = joined.pop()
            end = max(end, before)
        joined.append((start, end))
    return joined


def _credentials(url: str, access: S3Access) -> Boto3CredentialProvider | None:
    """Return where credentials come from; None: from the environment's own variables."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    if access.session is None and all(map(_environment, names)):
        return None  # the client reads them itself, and boto3's 0.3 s are saved
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider(access.session)
    except ValueError:
        raise StoreUnavailable(
            f"there are no credentials for {url}: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ) from None
    except BotoCoreError as error:  # half of them, or a profile that is not there
        raise StoreUnavailable(f"there are no credentials for {url}: {error}") from None


def _environment(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _status(error: BaseException | None) -> int | None:
    """Return the status of the server's reply, which the client tells in its message only."""
    found = re.search(r"non-2xx status code: (\d{3})\b", str(error))
    return int(found[1]) if found else None


def _reason(said: str) -> str:
    """Return what the server said is wrong, or else what the client did."""
    parts = [re.search(f"<{name}>(.*?)</{name}>", said, re.DOTALL) for name in ("Code", "Message")]
    return ": ".join(part[1] for part in parts if part) or said.strip().splitlines()[0]
