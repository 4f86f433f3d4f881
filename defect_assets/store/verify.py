"""Finding what is damaged in a store, telling what that touches, and mending it."""

import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from defect_assets.spreading import Spread, in_threads
from defect_assets.store.backend import Entry, NotInStore
from defect_assets.store.columns import column
from defect_assets.store.digest import (
    OBJECTS,
    Corrupted,
    Digest,
    digest_of,
    object_digest,
    object_key,
)
from defect_assets.store.inventory import Inventory, Reached
from defect_assets.store.packs import INDEXES, Location, read_index
from defect_assets.store.refs import REFS
from defect_assets.store.store import Store
from defect_assets.store.tables import TABLES, read_table, table_digest, table_key

TOGETHER = 4
"""Keys that are read by one task; those of packs hold 32 MB each."""
Members = Mapping[Digest, list[tuple[Digest, Location]]]
"""What lies in each pack."""


@dataclass(frozen=True)
class Damage:
    """One key that does not hold what it should, or is not there."""

    key: str
    """Of what is damaged; a bare digest where what has it is nowhere."""
    reason: str
    members: tuple[Digest, ...] = ()
    """Of a pack, those objects in it that are damaged."""
    rows: tuple[str, ...] = ()
    """The samples that it touches."""
    names: tuple[str, ...] = ()
    """The names that it touches: batches, datasets, releases …"""

    def __str__(self) -> str:
        lines = [f"{self.key}: {self.reason}"]
        for title, values in [("samples", self.rows), ("touches", self.names)]:
            if values:
                more = f" and {len(values) - 20} more" if len(values) > 20 else ""
                lines.append(f"  {title}: {', '.join(values[:20])}{more}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Verification:
    """What was found."""

    keys: int
    """How many were read and hashed."""
    bytes: int
    damages: tuple[Damage, ...]


@dataclass(frozen=True)
class Portion:
    """One of some equal portions of all keys; each key, also one that is new, is in one of them."""

    number: int
    """From 0 on."""
    of: int

    def __contains__(self, key: str) -> bool:
        return zlib.crc32(key.encode()) % self.of == self.number


def verify(
    store: Store,
    share: float = 1.0,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    portion: Portion | None = None,
    spread: Spread = in_threads,
) -> Verification:
    """Read what a store holds, and compare it with the digests that name it.

    That everything which is mentioned somewhere is there is always checked in full.

    Parameters
    ----------
    store
        The store.
    share
        Of all keys, from 0 to 1, taken at random: how many to read.
    seed
        Of the choice.
    progress
        Is told how many bytes are done, of how many.
    portion
        Read only what is in it; by default everything.
    spread
        Divides the reading.
    """
    inventory = Inventory(store)
    members = store.objects.packs.by_pack()
    chosen = [
        entry
        for entry in inventory.entries.values()
        if (share >= 1 or random.Random(f"{seed}/{entry.key}").random() < share)
        and (portion is None or entry.key in portion)
    ]
    total = sum(entry.size for entry in chosen)
    done = 0
    damages: dict[str, Damage] = {}
    portions = [chosen[start : start + TOGETHER] for start in range(0, len(chosen), TOGETHER)]
    checked = spread(partial(_check_some, store), ((some, _of(members, some)) for some in portions))
    for some, found in zip(portions, checked, strict=True):
        damages |= {damage.key: damage for damage in found}
        done += sum(entry.size for entry in some)
        progress(done, total)
    for damage in _lost(store, inventory, members):
        if damage.key not in damages or damage.members:
            damages[damage.key] = damage
    return Verification(
        len(chosen) + len(inventory.refs), total, _with_consequences(inventory, damages)
    )


def missing_or_damaged(
    store: Store, names: Iterable[str], but: Iterable[Digest] = ()
) -> list[Damage]:
    """Find what is missing or damaged of all that some names lead to, without reading images.

    Values and tables are read and hashed; of what lies in packs it is looked whether the pack is
    there. To read them as well is `verify`'s work, and that of whoever uses them.

    Parameters
    ----------
    store
        The store.
    names
        Where to begin.
    but
        What is not followed, nor is what only it leads to.
    """
    return _wrong(store, Inventory(store).reached(names, but))


def look_below(store: Store, digests: Iterable[Digest]) -> tuple[int, list[Damage]]:
    """Look at all that some contents lead to, themselves included, as `missing_or_damaged` does.

    Returns
    -------
    tuple
        How many objects and tables that is, and what of it is missing or damaged.
    """
    reached = Inventory(store).led_to(object_key(digest) for digest in digests)
    return len(reached.keys), _wrong(store, reached)


def _wrong(store: Store, reached: Reached) -> list[Damage]:
    tables = (_check(store, key, {}) for key in reached.keys if key.startswith(TABLES))
    damages = [damage for damage in tables if damage]
    for what, by in reached.missing.items():
        reason = "it cannot be read" if what == by else f"it is gone, and {by} mentions it"
        damages.append(Damage(what, reason))
    return damages


def repair(store: Store, source: Store, damage: Damage) -> bool:
    """Restore one thing from another store, if that has it undamaged; return whether it had."""
    try:
        if damage.key.startswith(REFS):
            return _restore_name(store, source, damage.key)
        if damage.key.startswith(TABLES):
            return _restore_table(store, source, damage.key)
        if damage.key.startswith(INDEXES):
            return _restore_index(store, source, damage)
        if not damage.key.startswith(OBJECTS):
            return _fetch(store, source, damage.key)
        try:
            data = _restored(store, source, damage.key)
        except (Corrupted, NotInStore):
            return _write_table_anew(store, source, damage.key)
        _replace(store, damage.key, data)
    except (Corrupted, NotInStore):
        return False
    return True


def _restore_name(store: Store, source: Store, key: str) -> bool:
    digest = source.refs.get(key.removeprefix(REFS))
    if digest is None:
        return False
    try:
        here: bytes | None = store.backend.read(key)
    except NotInStore:
        here = None
    if digest in store.objects:
        # In one step: a name that is not there is missed by nobody.
        return store.backend.swap(key, here, digest.encode())
    return here == digest.encode() and _fetch(store, source, digest)


def _restore_table(store: Store, source: Store, key: str) -> bool:
    file = source.backend.read(key).decode()
    data = source.objects.get(file)
    if table_key(table_digest(read_table(data))) != key:
        return False
    store.objects.put(data)
    _replace(store, key, file.encode())
    return True


def _restore_index(store: Store, source: Store, damage: Damage) -> bool:
    try:
        read_index(source.backend, damage.key)
        _replace(store, damage.key, source.backend.read(damage.key))
    except (Corrupted, NotInStore):
        # The source packed otherwise: take over what cannot be found here any more.
        if not all(digest in source.objects for digest in damage.members):
            return False
        store.backend.delete(damage.key)
        store.objects.packs.forget()
        with store.objects.packing() as packer:
            for digest in damage.members:
                packer.add([(digest, source.objects.get(digest))])
    store.objects.packs.forget()
    return True


def _fetch(store: Store, source: Store, digest: Digest) -> bool:
    """Take over what is nowhere in this store."""
    if source.backend.exists(table_key(digest)):
        store.objects.put_table(source.objects.get_table(digest))
    else:
        store.objects.put(source.objects.get(digest))
    return True


def _restored(store: Store, source: Store, key: str) -> bytes:
    """Return the bytes of a damaged object, or those of a pack, made of what is sound of it."""
    digest = object_digest(key)
    try:
        return source.objects.get(digest)
    except (Corrupted, NotInStore):
        members = store.objects.packs.by_pack().get(digest)
        if not members:
            raise
    try:
        own = store.backend.read(key)
    except NotInStore:
        own = b""
    data = bytearray(max(location.offset + location.length for _, location in members))
    for member, location in members:
        span = slice(location.offset, location.offset + location.length)
        sound = digest_of(own[span]) == member
        data[span] = own[span] if sound else source.objects.get(member)
    if digest_of(bytes(data)) != digest:
        raise Corrupted(key)
    return bytes(data)


def _write_table_anew(store: Store, source: Store, key: str) -> bool:
    """Replace the file of a table by another one, where the source's writer gave it other bytes."""
    file = object_digest(key)
    for entry in list(store.backend.entries(TABLES.rstrip("/"))):
        if store.backend.read(entry.key) == file.encode():
            table = source.objects.get_table(entry.key.removeprefix(TABLES).replace("/", ""))
            if table_key(table_digest(table)) != entry.key:
                return False
            store.backend.delete(entry.key)
            store.backend.delete(key)
            store.objects.put_table(table)
            return True
    return False


def _replace(store: Store, key: str, data: bytes) -> None:
    store.backend.delete(key)
    store.backend.create(key, data)


def _lost(store: Store, inventory: Inventory, members: Members) -> Iterator[Damage]:
    """Find what is mentioned somewhere and is not there, or cannot be read."""
    missing = dict(inventory.reached(inventory.refs).missing)
    for key, digest in inventory.standing.items():
        if digest in missing:
            yield Damage(key, f"it leads to {digest}, which is not in the store")
    lost = _lost_packs(store, inventory, members)
    for pack in lost:
        held = tuple(member for member, _ in members[pack])
        yield Damage(object_key(pack), "a pack, it is not in the store, but in an index", held)
    explained = {member for pack in lost for member, _ in members[pack]}
    explained |= {digest for digest in inventory.standing.values() if digest}
    if store.objects.packs.damaged:
        # What tables mention and nothing else knows of, they name; it is still there, but where?
        unknown = {
            what for what, by in missing.items() if by.startswith(TABLES) and what not in explained
        }
        for key in sorted(store.objects.packs.damaged):
            yield Damage(key, "it does not have its digest", tuple(sorted(unknown)))
        explained |= unknown
    for what, by in missing.items():
        if what == by:
            yield Damage(what, "it cannot be read")
        elif what not in explained:
            yield Damage(what, f"it is not in the store, but {by} mentions it")


def _lost_packs(store: Store, inventory: Inventory, members: Members) -> list[Digest]:
    """Return the packs that an index names and that are not there."""
    lost = {
        pack
        for pack in members
        if object_key(pack) not in inventory.entries and not store.backend.exists(object_key(pack))
    }
    if lost:  # unless they were collected meanwhile, their index first
        store.objects.packs.forget()
        lost &= store.objects.packs.by_pack().keys()
    return sorted(lost)


def _of(members: Members, entries: list[Entry]) -> Members:
    """Return what lies in those of some keys that are packs."""
    packs = (object_digest(entry.key) for entry in entries if entry.key.startswith(OBJECTS))
    return {pack: members[pack] for pack in packs if pack in members}


def _check_some(store: Store, portion: tuple[list[Entry], Members]) -> list[Damage]:
    """Return what is wrong with some keys."""
    entries, members = portion
    found = (_check(store, entry.key, members) for entry in entries)
    return [damage for damage in found if damage]


def _check(store: Store, key: str, members: Members) -> Damage | None:
    """Return what is wrong with one key, if anything is."""
    try:
        data = store.backend.read(key)
    except NotInStore:
        return None  # collected since it was listed
    if key.startswith(INDEXES):
        return Damage(key, "it does not have its digest") if _index_fails(store, key) else None
    if key.startswith(TABLES):
        return _check_table(store, key, data)
    digest = object_digest(key)
    if digest_of(data) == digest:
        return None
    bad = tuple(
        member
        for member, (_, offset, length) in members.get(digest, ())
        if digest_of(data[offset : offset + length]) != member
    )
    if digest in members:
        of = f"a pack, {len(bad)} of its {len(members[digest])} objects are damaged"
        return Damage(key, of, bad)
    return Damage(key, "it does not have its digest")


def _check_table(store: Store, key: str, data: bytes) -> Damage | None:
    try:
        file = store.objects.get(data.decode("ascii"))
    except (ValueError, NotInStore):
        return Damage(key, "it does not name an object of the store")
    except Corrupted:
        return None  # which is found under its own key
    if table_key(table_digest(read_table(file))) != key:
        return Damage(key, "it names an object that is not this table")
    return None


def _index_fails(store: Store, key: str) -> bool:
    try:
        read_index(store.backend, key)
    except Corrupted:
        return True
    return False


def _with_consequences(inventory: Inventory, damages: dict[str, Damage]) -> tuple[Damage, ...]:
    """Find which samples and which names are touched."""
    if not damages:
        return ()
    reached = {name: inventory.reached([name]) for name in inventory.refs}
    tables = {
        key: inventory.table(key)
        for key in inventory.entries
        if key.startswith(TABLES) and key not in damages
    }
    found = []
    for damage in damages.values():
        digests = damage.members or ((damage.key,) if "/" not in damage.key else ())
        rows, of_tables = set(), set()
        for key, table in tables.items():
            hits = _rows_with(table, digests) if table is not None else []
            rows.update(hits)
            if hits:
                of_tables.add(key)
        touches = [
            name
            for name, keys in reached.items()
            if keys.keys & of_tables
            or (not damage.members and damage.key in keys.keys)
            or (damage.key in keys.missing)
        ]
        found.append(replace(damage, rows=tuple(sorted(rows)), names=tuple(touches)))
    return tuple(found)


def _rows_with(table: pa.Table, digests: tuple[Digest, ...]) -> list[str]:
    """Return the keys of those rows of a table that mention one of some digests."""
    wanted = column(digests, pa.string())
    hit = pa.chunked_array([column([False] * len(table), pa.bool_())])
    for cells in table.columns:
        if cells.type == pa.string():
            hit = pc.or_(hit, pc.is_in(cells, value_set=wanted))
    return list(table.column(0).filter(hit).to_pylist())
