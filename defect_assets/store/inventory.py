"""What a store holds, and what of it is reached from its names.

A bare digest in a stored JSON value or in a table's cell is a reference, whatever it is called: so
nothing here needs to know what a batch, a snapshot or a bundle looks like, and nothing that is
mentioned anywhere is ever taken for garbage.
"""

import json
import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from defect_assets.spreading import while_waiting
from defect_assets.store.backend import Backend, Entry, NotInStore
from defect_assets.store.digest import OBJECTS, Corrupted, Digest, object_digest, object_key
from defect_assets.store.packs import INDEXES
from defect_assets.store.refs import REFS
from defect_assets.store.store import Store
from defect_assets.store.tables import TABLES, read_table, table_key

_DIGEST = re.compile(r"[0-9a-f]{64}")
_JSON_BYTES = 16 * 2**20
"""What is larger is no JSON value of ours."""
_AT_ONCE = 2**16
"""Digests that are spelled out at the same time."""

_Mentioned: TypeAlias = tuple[set[str], set[Digest], dict[str, str]]
"""Keys, packs, and what is missing; see `Reached`."""


@dataclass
class Reached:
    """What is reached from some names."""

    keys: set[str] = field(default_factory=set)
    packs: set[Digest] = field(default_factory=set)
    missing: dict[str, str] = field(default_factory=dict)
    """Digests that are nowhere, and keys that cannot be read; by which key each is mentioned."""


def immutable_entries(backend: Backend) -> dict[str, Entry]:
    """Return all objects, tables and indexes, by key."""
    return {
        entry.key: entry
        for folder in (OBJECTS, TABLES, INDEXES)
        for entry in backend.entries(folder)
    }


class Inventory:
    """All that a store holds, listed when this is made.

    Parameters
    ----------
    store
        The store.

    Attributes
    ----------
    refs
        All names.
    standing
        What each name's key stands for; None where that cannot be read.
    entries
        All objects, tables and indexes.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        backend = store.backend
        # Names first, and what they stand for now: all that they lead to was there before them.
        self.refs: list[str] = list(store.refs.names())
        standing = while_waiting(self._get, self.refs)
        self.standing: dict[str, Digest | None] = {
            REFS + name: digest for name, digest in zip(self.refs, standing, strict=True)
        }
        self.entries = immutable_entries(backend)
        self._mentioned: dict[str, _Mentioned] = {}
        store.objects.packs.refresh()

    def reached(self, names: Iterable[str], but: Iterable[Digest] = ()) -> Reached:
        """Return all that some names lead to, themselves included.

        Parameters
        ----------
        names
            Where to begin.
        but
            What is not followed, nor is what only it leads to.
        """
        passed = {key for digest in but for key in (object_key(digest), table_key(digest))}
        return self.led_to((REFS + name for name in names), passed)

    def led_to(self, keys: Iterable[str], but: Set[str] = frozenset()) -> Reached:
        """Return all that some keys lead to, themselves included; see `reached`."""
        result = Reached()
        pending = list(keys)
        result.keys.update(pending)
        while pending:
            key = pending.pop()
            if key not in self._mentioned:
                self._mentioned[key] = self._look_into(key)
            keys, packs, missing = self._mentioned[key]
            result.packs |= packs
            result.missing |= missing
            new = keys - result.keys - but
            result.keys |= new | {object_key(pack) for pack in packs}
            pending += new
        return result

    def table(self, key: str) -> pa.Table | None:
        """Return the table under a key, or None where it cannot be read."""
        try:
            return read_table(self._store.objects.get(self._file(key)))
        except (Corrupted, NotInStore):
            return None

    def _resolve(self, digests: Iterable[Digest], source: str) -> _Mentioned:
        """Return the keys and packs in which some digests are, and those that are nowhere."""
        rest = iter(digests)
        keys: set[str] = set()
        packs: set[Digest] = set()
        missing: dict[str, str] = {}
        while wanted := list(islice(rest, _AT_ONCE)):
            for digest, at in zip(wanted, self._store.objects.packs.known(wanted), strict=True):
                found = {k for k in (table_key(digest), object_key(digest)) if k in self.entries}
                if at is not None and object_key(at.pack) in self.entries:
                    packs.add(at.pack)
                    found.discard(object_key(at.pack))  # a pack of one object, which is this one
                elif not found:
                    missing[digest] = source
                keys |= found
        return keys, packs, missing

    def _look_into(self, key: str) -> _Mentioned:
        if key.startswith(TABLES):
            return self._look_into_table(key)
        try:
            return self._resolve(self._mentions(key), key)
        except (Corrupted, NotInStore):
            return set(), set(), {key: key}

    def _look_into_table(self, key: str) -> _Mentioned:
        try:
            file = self._file(key)
            data = self._store.objects.get(file)
        except NotInStore:
            return set(), set(), {key: key}
        except Corrupted as error:
            what = error.what if error.what in self.entries else key
            return {what}, set(), {what: what}
        self._mentioned[object_key(file)] = set(), set(), {}
        return self._resolve(chain([file], _digests_in(read_table(data))), key)

    def _file(self, key: str) -> Digest:
        """Return the object that holds a table."""
        file = self._store.backend.read(key).decode(errors="replace")
        if not _DIGEST.fullmatch(file):
            raise Corrupted(key)
        return file

    def _get(self, name: str) -> Digest | None:
        """Return what a name stands for; None where that cannot be read."""
        try:
            return self._store.refs.get(name)
        except Corrupted:
            return None

    def _mentions(self, key: str) -> Iterable[Digest]:
        if key.startswith(REFS):
            digest = self.standing[key]
            if digest is None:
                raise Corrupted(key)
            return {digest}
        if not key.startswith(OBJECTS) or self.entries[key].size > _JSON_BYTES:
            return ()
        # Hashed even where it looks like no JSON value: that may be by the one byte that is wrong,
        # and nobody must take what it mentions for garbage then.
        data = self._store.objects.get(object_digest(key))
        try:
            return set(_strings(json.loads(data))) if data.startswith(b"{") else ()
        except ValueError:
            return ()


def _digests_in(table: pa.Table) -> Iterator[Digest]:
    """Yield the digests in a table's cells."""
    for column in table.columns:
        if column.type == pa.string():
            values = pc.unique(column)
            for start in range(0, len(values), _AT_ONCE):
                for value in values[start : start + _AT_ONCE].to_pylist():
                    if len(value) == 64 and _DIGEST.fullmatch(value):
                        yield value


def _strings(value: Any) -> Iterator[str]:
    """Yield the digests in a JSON value."""
    if isinstance(value, str):
        if _DIGEST.fullmatch(value):
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
