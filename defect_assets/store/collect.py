"""Removing what no name leads to."""

import time
from collections.abc import Set
from dataclasses import dataclass

from defect_assets.errors import UserError
from defect_assets.store.backend import Entry
from defect_assets.store.digest import OBJECTS, Digest, object_digest, object_key
from defect_assets.store.inventory import Inventory
from defect_assets.store.leases import collecting
from defect_assets.store.packs import INDEXES, only_packs, packs_in, read_index, write_index
from defect_assets.store.store import Store
from defect_assets.store.tables import TABLES

GRACE_HOURS = 24.0
"""What is younger is left alone: someone may be about to name it."""
_ORDER = (INDEXES, TABLES, OBJECTS)
"""What says that something is there goes before it."""


class CollectionRefused(UserError):
    """Nothing is collected from a store in which something is missing; the message says what."""


@dataclass(frozen=True)
class Garbage:
    """What no name leads to."""

    entries: tuple[Entry, ...]
    """Indexes, tables and objects, in this order."""
    indexes: tuple[str, ...]
    """Indexes that stay, but for the packs that go."""
    packs: frozenset[Digest]
    """The packs that go, or are gone."""
    young: int
    """How many more keys no name leads to, too young to be taken, or needed by what is."""
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
    live = reached.keys | {key for key, held in packs.items() if held & reached.packs}
    young = {
        key
        for key, entry in inventory.entries.items()
        if key not in live and entry.modified >= before
    }
    # Someone wrote what is young because what it mentions was there already, however old that is.
    # And an index or a table that stays must not say that something is there which is not.
    needed = inventory.led_to(young)
    needed.packs.update(*(packs[key] for key in young & packs.keys()))
    stay = live | needed.keys | {object_key(pack) for pack in needed.packs}
    stay |= {key for key, held in packs.items() if held & needed.packs}
    garbage = [entry for key, entry in inventory.entries.items() if key not in stay]
    there = _packs_among(inventory.entries.keys() & stay)
    gone = {pack for held in packs.values() for pack in held} - there
    kept = len(live & inventory.entries.keys())
    return Garbage(
        tuple(sorted(garbage, key=lambda entry: (_ORDER.index(_folder(entry)), entry.key))),
        tuple(key for key, held in packs.items() if key in stay and held & gone),
        frozenset(gone),
        len(inventory.entries) - len(garbage) - kept,
        kept,
    )


def collect(store: Store, grace_hours: float = GRACE_HOURS) -> Garbage:
    """Remove what no name leads to, and return what that was.

    An index goes, or is written anew, before the packs that it names, and a table's name before
    its file: whenever this is interrupted, what is said to be there is there.

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
        for key in garbage.indexes:
            table = read_index(backend, key)
            left = packs_in(table) - garbage.packs
            if left:
                write_index(backend, only_packs(table, left))
            backend.delete(key)
        for entry in garbage.entries:
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


def _packs_among(keys: Set[str]) -> set[Digest]:
    return {object_digest(key) for key in keys if key.startswith(OBJECTS)}


def _folder(entry: Entry) -> str:
    return entry.key[: entry.key.index("/") + 1]
