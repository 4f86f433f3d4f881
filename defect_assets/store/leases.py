"""Who is writing to a store: so that nothing is collected as garbage before it has its name.

A writer leaves a lease before it writes for the first time, or relies for the first time on what
is there and need not be written; the collector leaves a lock before it begins. Each looks for the
other's mark after it has set its own, so of the two one always sees the other.
"""

import atexit
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from defect_assets.errors import UserError
from defect_assets.store.backend import Backend, Entry, NotInStore

LEASES = "leases"
COLLECTING = f"{LEASES}/collecting"
VALID = 24 * 3600.0
"""Seconds after which the lease of a writer that cannot be asked is taken to be dead."""
PATIENCE = 60.0
"""Seconds for which a writer waits for the collector."""


class StoreBusy(UserError):
    """Others are at work on the store; the message says who, and what to do."""


class LeasingBackend:
    """A backend that leaves a lease before this process writes to it for the first time.

    It stays until the process ends.

    Parameters
    ----------
    inner
        Where everything lies.
    """

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self._held_by: int | None = None
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return str(self.inner)

    def read(self, key: str) -> bytes:
        return self.inner.read(key)

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return self.inner.read_ranges(key, ranges)

    def exists(self, key: str) -> bool:
        return self.inner.exists(key)

    def create(self, key: str, data: bytes) -> bool:
        self.hold()
        return self.inner.create(key, data)

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        self.hold()
        return self.inner.swap(key, expected, data)

    def delete(self, key: str) -> None:
        self.hold()
        self.inner.delete(key)

    def entries(self, folder: str) -> Iterator[Entry]:
        return self.inner.entries(folder)

    def clean(self, before: float) -> int:
        return self.inner.clean(before)

    def hold(self) -> None:
        with self._lock:
            if self._held_by == os.getpid():
                return
            key = f"{LEASES}/writers/{uuid.uuid4()}"
            deadline = time.monotonic() + PATIENCE
            while True:
                self.inner.create(key, signature())
                if not _lives(read_mark(self.inner, COLLECTING)):
                    break
                self.inner.delete(key)
                if time.monotonic() > deadline:
                    raise StoreBusy(f"garbage is being collected in {self.inner}; try again later")
                time.sleep(0.2)
            self._held_by = os.getpid()
            atexit.register(self._release, key, os.getpid())

    def _release(self, key: str, pid: int) -> None:
        if os.getpid() == pid:  # a forked child's exit is not the writer's
            with suppress(OSError):  # what stays expires
                self.inner.delete(key)


@contextmanager
def collecting(backend: Backend) -> Iterator[None]:
    """Keep writers away meanwhile.

    Raises
    ------
    StoreBusy
        If there are any, or another collector.
    """
    while not backend.create(COLLECTING, signature()):
        left = read_mark(backend, COLLECTING)
        if _lives(left):
            raise StoreBusy(f"garbage is being collected in {backend} already")
        # By one that died. Of two that find this out at once, one goes on.
        if left is not None and backend.swap(COLLECTING, left, signature()):
            break
    try:
        for entry in list(backend.entries(f"{LEASES}/writers")):
            lease = read_mark(backend, entry.key)
            if _lives(lease):
                raise StoreBusy(
                    f"{who(lease)} is writing to {backend}: wait until it is "
                    "done. What another machine left when it died is ignored after a day"
                )
            if not _is_own(lease):
                backend.delete(entry.key)
        yield
    finally:
        backend.delete(COLLECTING)


def signature(**more: str) -> bytes:
    """Return a mark by which others can tell who left it, and whether that process still lives."""
    mark = {
        "host": socket.gethostname(),
        "boot": _boot(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "at": time.time(),
        **more,
    }
    return json.dumps(mark).encode()


def read_mark(backend: Backend, key: str) -> bytes | None:
    """Return the mark under a key, or None."""
    try:
        return backend.read(key)
    except NotInStore:
        return None


def who(lease: bytes | None) -> str:
    """Say who left a mark."""
    try:
        left = json.loads(lease or b"")
    except ValueError:
        return "someone"
    return f"process {left['pid']} on {left['host']}"


def _lives(lease: bytes | None) -> bool:
    """Tell whether there is a lease, and whether another who left it may still be there."""
    return lease is not None and not _is_own(lease) and may_live(lease)


def may_live(mark: bytes, valid: float = VALID) -> bool:
    """Tell whether the process that left a mark, this one included, may still be there.

    Parameters
    ----------
    mark
        What it left.
    valid
        Seconds for which one of another machine, which cannot be asked, is believed.
    """
    try:
        left = json.loads(mark)
    except ValueError:
        return True
    boot = _boot()
    if boot and (left["host"], left["boot"]) == (socket.gethostname(), boot):
        return bool(_started(left["pid"]) == left["started"])
    return bool(time.time() - left["at"] < valid)


def _is_own(lease: bytes | None) -> bool:
    try:
        left, own = json.loads(lease or b""), json.loads(signature())
    except ValueError:
        return False
    return all(left[name] == own[name] for name in ("host", "boot", "pid", "started"))


def _boot() -> str:
    """Return what tells this boot of this machine, or this container, from others.

    Empty where the system does not say; whether another process lives cannot be told then.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """Return when a process of this machine began, in the kernel's ticks; None if it is gone.

    One that was killed and that nobody asked about since is gone, too: where nobody ever does, as
    in a container without an init process, it stays a zombie for good.
    """
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else rest[18]
