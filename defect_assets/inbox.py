"""The inbox: what lies in it, what was taken in already, and taking it in."""

import hashlib
import os
import time
from array import array
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from defect_assets.dataset.batch import REF, Batch, read_batch
from defect_assets.dataset.delivery import COMPLETE, check_name
from defect_assets.home import Home, HomeError
from defect_assets.store import Digest, Store

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
    if not home.inbox.is_dir():
        return
    known = set(store.refs.names(REF))
    for folder in sorted(home.inbox.iterdir()):
        if folder.name.startswith(".") or not folder.is_dir() or (only and folder.name not in only):
            continue
        if not (folder / COMPLETE).exists():
            state = State.INCOMPLETE
        elif f"{REF}{folder.name}" not in known:
            state = State.NEW
        elif _is_untouched(home, folder.name, store.content(f"{REF}{folder.name}")):
            state = State.TAKEN
        else:
            state = State.TOUCHED
        yield Arrival(folder.name, state)


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
        If anything is wrong with it.
    HomeError
        If it is not there, not complete, or not what it was when it was taken in.
    """
    from defect_assets.dataset.ingest import ingest, same_samples

    folder = home.inbox / check_name(name)
    known = store.content(f"{REF}{name}")
    if known and (not folder.exists() or _is_untouched(home, name, known)):
        return known, read_batch(store, known)
    if not folder.is_dir():
        raise HomeError(f"there is no delivery {name} in {home.inbox}")
    if not (folder / COMPLETE).exists():
        raise HomeError(f"the delivery {name} is not complete yet: it has no {COMPLETE}")
    files = _settled_fingerprint(folder)
    batch = ingest(store, folder, home.description(), progress)
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
