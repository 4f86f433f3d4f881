"""The inbox: what lies in it, what was taken in already, and taking it in.

A delivery that is refused leaves the inbox, whoever took it in, so that nobody tries it again and
whoever looks for it finds it with the list of reasons. What lies in a bucket (`Home.inbox_url`) is
fetched when it is taken in, and left there as it is.
"""

import hashlib
import json
import os
import time
from array import array
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from defect_assets.dataset.batch import REF, Batch, batch_names, read_batch
from defect_assets.dataset.delivery import COMPLETE, DeliveryRefused, check_name
from defect_assets.home import Home, HomeError
from defect_assets.spreading import in_threads
from defect_assets.store import Digest, Store

REASONS = "reasons.json"
"""In a refused delivery: the list of all that is wrong with it."""
FINE, COARSE = 0.1, 2.0
"""Seconds after which a file that changes again shows another time: where a file system counts
fractions of a second, and where it does not."""


class State(StrEnum):
    """What a delivery in the inbox is to the store."""

    NEW = "new"
    TAKEN = "taken in"
    TOUCHED = "touched since it was taken in"
    INCOMPLETE = "not complete"


@dataclass(frozen=True)
class Arrival:
    """A delivery in the inbox."""

    name: str
    state: State


class _Taken(BaseModel):
    """What a delivery's files were like when it was taken in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: Digest
    files: str


def arrivals(home: Home, store: Store, only: Collection[str] = ()) -> Iterator[Arrival]:
    """Yield what lies in the inbox, by name; by default all. No file is read."""
    known = batch_names(store)
    for name in delivered(home):
        if not only or name in only:
            yield Arrival(name, _state(home, store, name, name in known))


def delivered(home: Home) -> list[str]:
    """Return the names of all deliveries in the inbox or its bucket, complete or not, sorted."""
    names = set(home.bucket_inbox.names() if home.bucket_inbox else ())
    if home.inbox.is_dir():
        names.update(entry.name for entry in os.scandir(home.inbox) if entry.is_dir())
    return sorted(name for name in names if not name.startswith("."))


def is_complete(home: Home, name: str) -> bool:
    """Tell whether nothing more will come of a delivery.

    One that was fetched from the bucket and refused counts as complete again when it is another
    one there: someone mended it.
    """
    if (home.inbox / name).is_dir():
        return (home.inbox / name / COMPLETE).exists()
    bucket = home.bucket_inbox
    if bucket is None or not bucket.is_complete(name):
        return False
    before = _fetched(home, name)
    return before is None or before != bucket.fingerprint(name)[0]


def is_touched(home: Home, store: Store, name: str) -> bool:
    """Tell whether a delivery that was taken in is not any more what it was then.

    One that is gone from the inbox is not.
    """
    digest = store.content(f"{REF}{name}")
    if (home.inbox / name).is_dir() and not _is_untouched(home, name, digest):
        return True
    bucket, before = home.bucket_inbox, _fetched(home, name)
    if bucket is None or before is None:
        return False
    now, newest = bucket.fingerprint(name)
    return bool(newest) and now != before


def fingerprint(home: Home, name: str) -> tuple[str, float]:
    """Return what tells a delivery from one that was changed, and when it last was.

    No file is read: it is a digest of the names, sizes and times of all files, of those on disk
    also of their inodes, so that it stays the same where the delivery's folder is renamed.

    Returns
    -------
    tuple of str and float
        The digest, and the newest time of a file, in seconds since 1970.
    """
    bucket = home.bucket_inbox
    if bucket and not (home.inbox / name).is_dir():
        return bucket.fingerprint(name)
    files, newest = _fingerprint(home.inbox / name)
    return files, newest / 1e9


def declare_complete(home: Home, name: str) -> None:
    """Give a delivery its marker, where it lies: nothing more will come."""
    if (home.inbox / name).is_dir():
        (home.inbox / name / COMPLETE).touch()
    elif home.bucket_inbox:
        home.bucket_inbox.complete(name)


def taken_as(home: Home) -> dict[str, str]:
    """Return the names of the deliveries that were taken in here, by their fingerprints then."""
    found = {}
    for path in home.taken.glob("*.json"):
        try:
            found[_Taken.model_validate_json(path.read_text()).files] = path.stem
        except (OSError, ValidationError):
            continue
    return found


def _state(home: Home, store: Store, name: str, known: bool) -> State:
    if known:
        return State.TOUCHED if is_touched(home, store, name) else State.TAKEN
    return State.NEW if is_complete(home, name) else State.INCOMPLETE


def take_in(
    home: Home,
    store: Store,
    name: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Digest, Batch]:
    """Return a delivery's batch and its digest, taken in now or before; the caller names it.

    Of one that was taken in before, no file is read where sizes and times are as they were then.
    ``progress`` is told how many samples were looked at, of how many.

    Raises
    ------
    DeliveryRefused
        If anything is wrong with it. It lies in `Home.rejected` then, with a list of the reasons.
    HomeError
        If it is not there, not complete, or not what it was when it was taken in.
    """
    from defect_assets.dataset.ingest import ingest, same_samples

    folder = home.inbox / check_name(name)
    known = store.content(f"{REF}{name}")
    if known and (not folder.exists() or _is_untouched(home, name, known)):
        return known, read_batch(store, known)
    if not folder.is_dir():
        _fetch(home, name)
    if not (folder / COMPLETE).exists():
        raise HomeError(f"the delivery {name} is not complete yet: it has no {COMPLETE}")
    files = _settled_fingerprint(folder)
    try:
        batch = ingest(store, folder, home.description(), progress, home.spread(in_threads))
    except DeliveryRefused as refusal:
        if known:  # what came of it stands, so that it is no delivery to be mended
            raise
        raise DeliveryRefused(name, refusal.problems, _reject(home, refusal)) from None
    digest = known or store.objects.put_json(batch.model_dump(mode="json"))
    if known:
        before = read_batch(store, known)
        if not same_samples(store, before, batch):
            raise HomeError(
                f"the delivery {name} was taken in before and has changed since: put what is new "
                "into a delivery of its own, and restore this one or remove it from the inbox"
            )
        batch = before
    home.taken.mkdir(parents=True, exist_ok=True)
    taken = _Taken(batch=digest, files=files)
    (home.taken / f"{name}.json").write_text(taken.model_dump_json())
    return digest, batch


def _fetch(home: Home, name: str) -> None:
    """Fetch a delivery from the bucket."""
    bucket = home.bucket_inbox
    if bucket is None:
        raise HomeError(f"there is no delivery {name} in {home.inbox}")
    if not bucket.is_complete(name):
        raise HomeError(f"there is no delivery {name} with a {COMPLETE} in {home.inbox_url}")
    files = bucket.fetch(name, home.inbox)
    home.fetched.mkdir(parents=True, exist_ok=True)
    (home.fetched / name).write_text(files)


def _fetched(home: Home, name: str) -> str | None:
    """Return the fingerprint that a delivery had in the bucket when it was fetched."""
    path = home.fetched / name
    return path.read_text() if path.exists() else None


def _reject(home: Home, refusal: DeliveryRefused) -> Path:
    """Move a refused delivery out of the inbox; return where it is now.

    Whatever was refused under this name before stays where it is.
    """
    home.rejected.mkdir(parents=True, exist_ok=True)
    folder = home.rejected / refusal.delivery
    number = 1
    while folder.exists():
        number += 1
        folder = home.rejected / f"{refusal.delivery}-{number}"
    (home.inbox / refusal.delivery).rename(folder)
    reasons = [{"file": p.file, "reason": p.reason} for p in refusal.problems]
    (folder / REASONS).write_text(json.dumps(reasons, indent=2, ensure_ascii=False) + "\n")
    return folder


def _is_untouched(home: Home, name: str, batch: Digest | None) -> bool:
    try:
        taken = _Taken.model_validate_json((home.taken / f"{name}.json").read_text())
    except (OSError, ValidationError):
        return False
    return taken.batch == batch and taken.files == _fingerprint(home.inbox / name)[0]


def _settled_fingerprint(folder: Path) -> str:
    """Return a delivery's fingerprint, once none of its files could change without showing it."""
    files, newest = _fingerprint(folder)
    settled = newest / 1e9 + (FINE if newest % 1_000_000_000 else COARSE)
    if time.time() < settled:
        time.sleep(min(COARSE, settled - time.time()))
        files, _ = _fingerprint(folder)
    return files


def _fingerprint(folder: Path) -> tuple[str, int]:
    """Return a digest of the names, sizes, times and inodes of all files, and the newest time."""
    names: list[str] = []
    statuses: list[os.stat_result] = []
    folders = [("", str(folder))]
    while folders:
        prefix, path = folders.pop()
        for entry in list(os.scandir(path)):
            if entry.is_dir(follow_symlinks=False):
                folders.append((f"{prefix}{entry.name}/", entry.path))
            else:
                names.append(prefix + entry.name)
                statuses.append(entry.stat(follow_symlinks=False))
    states = array("q")
    for i in sorted(range(len(names)), key=names.__getitem__):
        s = statuses[i]
        states.extend((s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_mode))
    names.sort()
    hasher = hashlib.sha256("\0".join(names).encode(errors="surrogateescape"))
    hasher.update(states.tobytes())
    return hasher.hexdigest(), max(states[1::5] + states[2::5], default=0)
