"""Packs: many small objects in one, and the indexes that say where in them each lies.

A pack is the concatenation of its members and is itself an object, under the digest of its bytes.
An index is a Parquet file ``indexes/ab/cdef….parquet``, named by the SHA-256 of its bytes, with the
columns digest, pack (both 32 bytes), offset and length. It is written after its packs, so that
whatever an index names is there.
"""

import io
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from defect_assets.store.backend import Backend, NotInStore
from defect_assets.store.columns import column, numbers, table_of
from defect_assets.store.digest import Corrupted, Digest, digest_of, object_key

PACK_BYTES = 32 * 2**20
"""A pack is closed when it is this large. Fewer requests than with small ones, and still small
enough to hold a few in memory, or to send again."""

INDEXES = "indexes/"
_SCHEMA = pa.schema(
    [
        ("digest", pa.binary(32)),
        ("pack", pa.binary(32)),
        ("offset", pa.int64()),
        ("length", pa.int64()),
    ]
)


class Location(NamedTuple):
    """Where an object lies."""

    pack: Digest
    offset: int
    length: int


class _Sorted(NamedTuple):
    """What some indexes say; of a million images it takes 100 MB."""

    keys: np.ndarray
    """uint64 of shape (N,), sorted: the first eight bytes of the digests, as good as random."""
    order: np.ndarray
    """uint32 of shape (N,): which of the following each key belongs to."""
    digests: np.ndarray
    """uint8 of shape (N, 32)."""
    rows: np.ndarray
    """uint32 of shape (N, 3): number of the pack, offset, length. Packs are far below 4 GB."""
    packs: list[Digest]
    """By number."""


class PackIndex:
    """What all packs of a store hold.

    Parameters
    ----------
    backend
        The store's. Its indexes are read when they are first needed, and again when something
        is not found in those that were read.

    Attributes
    ----------
    damaged
        The keys of indexes that cannot be used.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Forget what was read, after something was removed or mended."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        self.damaged: set[str] = set()
        self._read: set[str] = set()
        self._sorted = _Sorted(
            np.empty(0, np.uint64),
            np.empty(0, np.uint32),
            np.empty((0, 32), np.uint8),
            np.empty((0, 3), np.uint32),
            [],
        )

    def locate(self, digests: Sequence[Digest]) -> list[Location | None]:
        """Return where each of some objects lies; None for those that are in no pack.

        Raises
        ------
        Corrupted
            If one is in no pack, but an index is damaged that might name it.
        """
        found = self.known(digests)
        if None in found:
            self.refresh()
            found = self.known(digests)
        if None in found and self.damaged:
            raise Corrupted(min(self.damaged))
        return found

    def known(self, digests: Sequence[Digest]) -> list[Location | None]:
        """Return what `locate` does, by the indexes that were read already."""
        keys, order, known, rows, packs = (
            self._sorted
        )  # once: another thread may change it meanwhile
        if not len(digests) or not len(keys):
            return [None] * len(digests)
        wanted = np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(-1, 32)
        wanted_keys = _keys_of(wanted)
        found: list[Location | None] = []
        for i, at in enumerate(np.searchsorted(keys, wanted_keys).tolist()):
            # Two digests of one store that begin alike are not to be expected, but may be.
            while at < len(keys) and keys[at] == wanted_keys[i]:
                row = order[at]
                if (known[row] == wanted[i]).all():
                    pack, offset, length = rows[row].tolist()
                    found.append(Location(packs[pack], offset, length))
                    break
                at += 1
            else:
                found.append(None)
        return found

    def refresh(self) -> None:
        """Read the indexes that were not read yet, and forget those that are gone."""
        with self._lock:
            listed = {entry.key for entry in self._backend.entries(INDEXES)}
            if (self._read | self.damaged) - listed:
                self._forget()  # with them went packs
            keys = sorted(listed - self._read - self.damaged)
            if keys:
                with ThreadPoolExecutor(8) as pool:
                    tables = dict(zip(keys, pool.map(self._try, keys), strict=True))
                self._take_in({key: table for key, table in tables.items() if table is not None})

    def _try(self, key: str) -> pa.Table | None:
        try:
            return read_index(self._backend, key)
        except Corrupted:
            self.damaged.add(key)
        except NotInStore:  # collected since the indexes were listed
            pass
        return None

    def remember(self, key: str, table: pa.Table) -> None:
        """Take in an index that was just written."""
        with self._lock:
            if key not in self._read:
                self._take_in({key: table})

    def by_pack(self) -> "PackMembers":
        """Return what lies in each pack."""
        self.refresh()
        return PackMembers(self._sorted)

    def packs(self) -> set[Digest]:
        """Return the packs of which it is known what lies in them."""
        self.refresh()
        return set(self._sorted.packs)

    def _take_in(self, tables: dict[str, pa.Table]) -> None:
        digests, rows, names = [self._sorted.digests], [self._sorted.rows], [*self._sorted.packs]
        for table in tables.values():
            packs = table["pack"].combine_chunks().dictionary_encode()
            columns = [
                numbers(packs.indices) + len(names),
                numbers(table["offset"]),
                numbers(table["length"]),
            ]
            rows.append(np.stack(columns, axis=1).astype(np.uint32))
            names += [pack.hex() for pack in packs.dictionary.to_pylist()]
            values = table["digest"].combine_chunks().buffers()[1]
            digests.append(np.frombuffer(values, np.uint8).reshape(-1, 32)[: len(table)])
        every = np.concatenate(digests)
        keys = _keys_of(every)
        order = np.argsort(keys, kind="stable")
        self._sorted = _Sorted(
            keys[order], order.astype(np.uint32), every, np.concatenate(rows), names
        )
        self._read |= tables.keys()


class PackMembers(Mapping[Digest, list[tuple[Digest, Location]]]):
    """What lies in each pack, and where. It is spelled out of one pack at a time: of a million
    objects all of it would take a gigabyte."""

    def __init__(self, known: _Sorted) -> None:
        self._known = known
        of_rows = known.rows[:, 0]
        self._rows = np.argsort(of_rows, kind="stable").astype(np.uint32)
        self._starts = np.searchsorted(of_rows[self._rows], np.arange(len(known.packs) + 1))
        self._numbers: dict[Digest, list[int]] = {}
        for number, pack in enumerate(known.packs):  # one that is in two indexes has two
            self._numbers.setdefault(pack, []).append(number)

    def __getitem__(self, pack: Digest) -> list[tuple[Digest, Location]]:
        found = {}
        for number in self._numbers[pack]:
            rows = self._rows[self._starts[number] : self._starts[number + 1]]
            spans = self._known.rows[rows, 1:].tolist()
            for digest, (offset, length) in zip(self._known.digests[rows], spans, strict=True):
                found[digest.tobytes().hex()] = Location(pack, offset, length)
        return list(found.items())

    def __contains__(self, pack: object) -> bool:
        return pack in self._numbers

    def __iter__(self) -> Iterator[Digest]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


class Packer:
    """Writes objects into packs, those alone that the store does not hold in one already.

    Nobody sees what was written until `close`.

    Parameters
    ----------
    backend
        Where to write.
    index
        What is there.
    """

    def __init__(self, backend: Backend, index: PackIndex) -> None:
        self._backend = backend
        self._index = index
        backend.hold()  # before one looks what need not be written
        self._index.refresh()
        self._buffer = bytearray()
        self._open: list[tuple[Digest, int, int]] = []
        self._seen: set[Digest] = set()
        self._written: list[tuple[list[tuple[Digest, int, int]], Future[Digest]]] = []
        # Hashing and syncing a pack go on while the next is filled; one at a time, so that no
        # more than two are in memory.
        self._pool = ThreadPoolExecutor(1)

    def add(self, objects: Sequence[tuple[Digest, bytes]]) -> None:
        """Take in some objects under their digests, which the caller has computed."""
        new = [(digest, data) for digest, data in objects if digest not in self._seen]
        for (digest, data), at in zip(
            new, self._index.known([digest for digest, _ in new]), strict=True
        ):
            if at is not None or digest in self._seen:
                continue
            self._seen.add(digest)
            self._open.append((digest, len(self._buffer), len(data)))
            self._buffer += data
            if len(self._buffer) >= PACK_BYTES:
                self._flush()

    def close(self) -> None:
        """Write what is left, and the index."""
        try:
            if self._open:
                self._flush()
            rows = [
                {
                    "digest": bytes.fromhex(digest),
                    "pack": bytes.fromhex(pack.result()),
                    "offset": offset,
                    "length": length,
                }
                for members, pack in self._written
                for digest, offset, length in members
            ]
        finally:
            self._pool.shutdown()
        if rows:
            table = table_of(rows, _SCHEMA)
            self._index.remember(write_index(self._backend, table), table)

    def abandon(self) -> None:
        """Stop without an index: what was written is garbage."""
        self._pool.shutdown(cancel_futures=True)

    def _flush(self) -> None:
        if self._written:
            self._written[-1][1].result()
        data, self._buffer = bytes(self._buffer), bytearray()
        self._written.append((self._open, self._pool.submit(self._write, data)))
        self._open = []

    def _write(self, data: bytes) -> Digest:
        digest = digest_of(data)
        self._backend.create(object_key(digest), data)
        return digest


def write_index(backend: Backend, table: pa.Table) -> str:
    """Store an index and return its key."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", use_dictionary=["pack"])
    data = buffer.getvalue()
    key = _index_key(digest_of(data))
    backend.create(key, data)
    return key


def read_index(backend: Backend, key: str) -> pa.Table:
    """Return an index.

    Raises
    ------
    NotInStore
        If there is none under this key.
    Corrupted
        If it does not have the digest that its key says.
    """
    data = backend.read(key)
    if key != _index_key(digest_of(data)):
        raise Corrupted(key)
    return pq.ParquetFile(pa.BufferReader(data)).read()


def _index_key(digest: Digest) -> str:
    return f"{INDEXES}{digest[:2]}/{digest[2:]}.parquet"


def packs_in(index: pa.Table) -> set[Digest]:
    """Return the packs that an index names."""
    return {pack.hex() for pack in pc.unique(index["pack"]).to_pylist()}


def only_packs(index: pa.Table, packs: Iterable[Digest]) -> pa.Table:
    """Return what an index says of some packs."""
    wanted = column(map(bytes.fromhex, packs), pa.binary(32))
    return index.filter(pc.is_in(index["pack"], value_set=wanted))


def _keys_of(digests: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(digests[:, :8]).view(">u8")[:, 0].astype(np.uint64)
