"""Immutable bytes, JSON values, file trees and tables, each under the digest of its content."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defect_assets.store.backend import Backend, NotInStore
from defect_assets.store.digest import (
    Corrupted,
    Digest,
    canonical_json,
    check_digest,
    digest_of,
    object_key,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from defect_assets.store.packs import Location, Packer, PackIndex

# Packs and tables are imported where they are used: Arrow takes 0.2 s, and a command that reads a
# few names and headers should not have to wait for it.


class Objects:
    """The immutable part of a store: whatever is put in is never changed and never put twice.

    Parameters
    ----------
    backend
        Where the bytes lie.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._packs: PackIndex | None = None
        self._lock = threading.Lock()

    @property
    def packs(self) -> PackIndex:
        """What lies in which pack."""
        from defect_assets.store.packs import PackIndex

        with self._lock:
            if self._packs is None:
                self._packs = PackIndex(self._backend)
            return self._packs

    def put(self, data: bytes) -> Digest:
        """Store some bytes and return their digest."""
        digest = digest_of(data)
        self._backend.create(object_key(digest), data)
        return digest

    @contextmanager
    def packing(self) -> Iterator[Packer]:
        """Open a packer, for many small objects; they are there once it is left without error."""
        from defect_assets.store.packs import Packer

        packer = Packer(self._backend, self.packs)
        try:
            yield packer
        except BaseException:
            packer.abandon()
            raise
        packer.close()

    def get(self, digest: Digest) -> bytes:
        """Return the bytes with a digest, whether they lie alone or in a pack.

        Raises
        ------
        NotInStore
            If the store does not hold them.
        Corrupted
            If what it holds has another digest.
        """
        try:
            data = self._backend.read(object_key(digest))
        except NotInStore:
            return self._packed(digest)
        if digest_of(data) != digest:
            raise Corrupted(object_key(digest))
        return data

    def get_many(self, digests: Sequence[Digest]) -> list[bytes]:
        """Return some objects, those of one pack by one read.

        Raises
        ------
        NotInStore, Corrupted
            As `get` does.
        """
        by_pack: dict[Digest, list[tuple[int, Location]]] = defaultdict(list)
        data: dict[int, bytes] = {}
        for i, location in enumerate(self.packs.locate(digests)):
            if location is None:
                data[i] = self.get(digests[i])
            else:
                by_pack[location.pack].append((i, location))
        for pack, members in by_pack.items():
            try:
                read = self._members(pack, [(digests[i], location) for i, location in members])
            except NotInStore:
                read = [self.get(digests[i]) for i, _ in members]
            data |= dict(zip((i for i, _ in members), read, strict=True))
        return [data[i] for i in range(len(digests))]

    def __contains__(self, digest: Digest) -> bool:
        return self._backend.exists(object_key(digest)) or self.packs.locate([digest]) != [None]

    def put_json(self, value: Any) -> Digest:
        """Store a JSON value in its canonical form and return the digest of that form."""
        return self.put(canonical_json(value))

    def get_json(self, digest: Digest) -> Any:
        """Return the JSON value with a digest."""
        return json.loads(self.get(digest))

    def put_tree(self, files: Mapping[str, bytes]) -> Digest:
        """Store named files and return the digest of the list of their names and digests."""
        return self.put_json({name: self.put(data) for name, data in files.items()})

    def get_tree(self, digest: Digest) -> dict[str, bytes]:
        """Return the files of a tree by name."""
        return {name: self.get(file) for name, file in self.get_json(digest).items()}

    def put_table(self, table: pa.Table) -> Digest:
        """Store a table and return the digest of its rows; see `tables.table_digest`."""
        from defect_assets.store.tables import table_key, write_table

        digest, file = write_table(table)
        self._backend.hold()
        if not self._backend.exists(table_key(digest)):
            self._backend.create(table_key(digest), self.put(file).encode())
        return digest

    def get_table(self, digest: Digest, columns: list[str] | None = None) -> pa.Table:
        """Return the table with a digest, or some of its columns, sorted by the first column.

        Raises
        ------
        NotInStore, Corrupted
            As `get` does.
        """
        from defect_assets.store.tables import read_table

        return read_table(self._table(digest), columns)

    def find_rows(
        self, digest: Digest, wanted: dict[str, pa.Array], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Return those rows of a table in which one of some columns has one of some values, with
        all columns or some."""
        from defect_assets.store.tables import select_rows

        return select_rows(self._table(digest), wanted, columns)

    def _table(self, digest: Digest) -> bytes:
        from defect_assets.store.tables import table_key

        key = table_key(digest)
        try:
            file = check_digest(self._backend.read(key).decode())
        except ValueError as error:
            raise Corrupted(key) from error
        return self.get(file)

    def _packed(self, digest: Digest) -> bytes:
        """Return an object that lies in a pack."""
        for known in (True, False):
            [location] = self.packs.locate([digest])
            if location is None:
                break
            try:
                return self._members(location.pack, [(digest, location)])[0]
            except NotInStore:
                if not known:
                    raise
                self.packs.forget()  # it was collected, and what one wants may lie elsewhere, too
        raise NotInStore(object_key(digest))

    def _members(self, pack: Digest, members: Sequence[tuple[Digest, Location]]) -> list[bytes]:
        ranges = [(location.offset, location.length) for _, location in members]
        read = self._backend.read_ranges(object_key(pack), ranges)
        for (digest, location), data in zip(members, read, strict=True):
            if digest_of(data) != digest:
                raise Corrupted(
                    f"{digest}, bytes {location.offset} to {location.offset + location.length} "
                    f"of {object_key(pack)},"
                )
        return read


def write_tree(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the files of a tree into a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
