"""Removing what no name leads to."""

import time
from dataclasses import dataclass

from defect_assets.errors import UserError
from defect_assets.store.backend import Entry
from defect_assets.store.digest import OBJECTS, Digest, object_digest
from defect_assets.store.inventory import Inventory
from defect_assets.store.leases import collecting
from defect_assets.store.packs import INDEXES, only_packs, packs_in, read_index, write_index
from defect_assets.store.store import Store

GRACE_HOURS = 24.0
"""What is younger is left alone: someone may be about to name it."""


class CollectionRefused(UserError):
    """Nothing is collected from a store in which something is missing; the message says what."""


@dataclass(frozen=True)
class Garbage:
    """What no name leads to."""

    entries: tuple[Entry, ...]
    """Objects, tables and indexes."""
    indexes: tuple[str, ...]
    """Indexes that stay, but for the packs that go."""
    young: int
    """How many more keys no name leads to, too young to be taken."""
    kept: int
    """How many keys names lead to."""

    @property
    def bytes(self) -> int:
        """Size of all that would go."""
        return sum(entry.size for entry in self.entries)


def find_garbage(store: Store, grace_hours: float = GRACE_HOURS) -> Garbage:
    """Return what no name leads to; change nothing.

    Raises
    ------
    CollectionRefused
        If something that a name leads to is missing or damaged: what it led to cannot be told.
    """
    inventory = Inventory(store)
    reached = inventory.reached(inventory.refs)
    damaged = [*reached.missing, *store.objects.packs.damaged]
    if damaged:
        raise CollectionRefused(
            f"{len(damaged)} things are missing or damaged, {damaged[0]} among them, so it cannot "
            "be told what else is in use: run defect-assets verify"
        )
    before = time.time() - grace_hours * 3600
    packs = _packs_by_index(store, inventory)
    live = set(reached.keys) | {key for key, held in packs.items() if held & reached.packs}
    dead = [entry for key, entry in inventory.entries.items() if key not in live]
    old = tuple(entry for entry in dead if entry.modified < before)
    gone = _packs_among(old)
    return Garbage(
        old,
        tuple(key for key, held in packs.items() if key in live and held & gone),
        len(dead) - len(old),
        len(inventory.entries) - len(dead),
    )


def collect(store: Store, grace_hours: float = GRACE_HOURS) -> Garbage:
    """Remove what no name leads to, and return what that was.

    An index goes, or is written anew, before the packs that it names: whenever this is
    interrupted, what an index names is there.

    Raises
    ------
    CollectionRefused
        As `find_garbage` does.
    StoreBusy
        If someone is writing to the store.
    """
    backend = store.backend
    with collecting(backend):
        garbage = find_garbage(store, grace_hours)
        gone = _packs_among(garbage.entries)
        for key in garbage.indexes:
            table = read_index(backend, key)
            write_index(backend, only_packs(table, packs_in(table) - gone))
            backend.delete(key)
        for entry in sorted(garbage.entries, key=lambda entry: not entry.key.startswith(INDEXES)):
            backend.delete(entry.key)
        backend.clean(time.time() - grace_hours * 3600)
        store.objects.packs.forget()
    return garbage


def _packs_by_index(store: Store, inventory: Inventory) -> dict[str, set[Digest]]:
    """Return the packs that each index names."""
    return {
        key: packs_in(read_index(store.backend, key))
        for key in inventory.entries
        if key.startswith(INDEXES)
    }


def _packs_among(entries: tuple[Entry, ...]) -> set[Digest]:
    return {object_digest(entry.key) for entry in entries if entry.key.startswith(OBJECTS)}
