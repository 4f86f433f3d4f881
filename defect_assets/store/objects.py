"""Immutable bytes, JSON values, file trees and tables, each under the digest of its content."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from defect_assets.store.backend import Backend
from defect_assets.store.digest import Digest, canonical_json, check_digest, digest_of


class Corrupted(Exception):
    """What is stored under a digest does not have that digest."""


class Objects:
    """The immutable part of a store: whatever is put in is never changed and never put twice.

    Parameters
    ----------
    backend
        Where the bytes lie.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def put(self, data: bytes) -> Digest:
        """Store some bytes and return their digest."""
        digest = digest_of(data)
        self._backend.create(_object_key(digest), data)
        return digest

    def get(self, digest: Digest) -> bytes:
        """Return the bytes with a digest.

        Raises
        ------
        NotInStore
            If the store does not hold them.
        Corrupted
            If what it holds has another digest.
        """
        data = self._backend.read(_object_key(digest))
        if digest_of(data) != digest:
            raise Corrupted(
                f"the store is damaged: {_object_key(digest)} does not have its digest; remove "
                "that file and take in or compute again what it held"
            )
        return data

    def __contains__(self, digest: Digest) -> bool:
        return self._backend.exists(_object_key(digest))

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

    def put_table(self, table: pd.DataFrame) -> Digest:
        """Store a table and return the digest of its rows.

        The digest is of the content, not of the Parquet file, whose bytes differ between writers.
        It depends neither on the order of the rows nor on the frame's index.
        """
        digest = table_digest(table)
        buffer = io.BytesIO()
        _sorted(table).to_parquet(buffer, compression="zstd", index=False)
        self._backend.create(_table_key(digest), buffer.getvalue())
        return digest

    def get_table(self, digest: Digest) -> pd.DataFrame:
        """Return the table with a digest, its rows sorted by the first column.

        Raises
        ------
        NotInStore, Corrupted
            As `get` does.
        """
        data = self._backend.read(_table_key(digest))
        try:
            table = pd.read_parquet(io.BytesIO(data))
        except Exception as error:  # pyarrow raises many kinds for damaged files
            raise Corrupted(
                f"the store is damaged: {_table_key(digest)} cannot be read ({error})"
            ) from error
        if table_digest(table) != digest:
            raise Corrupted(f"the store is damaged: {_table_key(digest)} does not have its digest")
        return table


def table_digest(table: pd.DataFrame) -> Digest:
    """Return the digest of a table's columns and rows, whatever the order of the rows.

    SHA-256 over each cell's text, preceded by its length, column names first, rows sorted by the
    first column, which must be unique.
    """
    hasher = hashlib.sha256()

    def add(row: Any) -> None:
        for cell in row:
            text = str(cell).encode()
            hasher.update(len(text).to_bytes(8, "big"))
            hasher.update(text)

    add(table.columns)
    for row in _sorted(table).itertuples(index=False, name=None):
        add(row)
    return hasher.hexdigest()


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    key = table.columns[0]
    if not table[key].is_unique:
        raise ValueError(f"the first column of a table, {key!r}, must be unique")
    return table.sort_values(key, ignore_index=True)


def write_tree(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the files of a tree into a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _object_key(digest: Digest) -> str:
    return f"objects/{check_digest(digest)[:2]}/{digest[2:]}"


def _table_key(digest: Digest) -> str:
    return f"tables/{check_digest(digest)[:2]}/{digest[2:]}.parquet"
