"""Tables under the digest of what they say.

Parquet writers differ in their bytes, so a table is named by its rows: ``tables/ab/cdef…`` holds
the digest of the object that is its Parquet file.
"""

import hashlib
import io
import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from defect_assets.store.columns import numbers, table_of
from defect_assets.store.digest import Digest, check_digest

TABLES = "tables/"
_TYPES = {pa.string(): "text", pa.int64(): "integer", pa.float64(): "number", pa.bool_(): "truth"}


def canonical_table(table: pa.Table) -> pa.Table:
    """Return a table with its rows sorted by the first column, and nothing but its values.

    Parameters
    ----------
    table
        Columns of text, integers, numbers or truth values, without nulls; the first is text.

    Raises
    ------
    ValueError
        If the first column is not unique, or a column is of another kind.
    """
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count:
            raise ValueError(f"the column {name!r} of a table must not have nulls")
        columns[name] = column.cast(_canonical_type(name, column.type)).combine_chunks()
    plain = pa.table(columns)
    key = plain.column(0)
    if len(plain) > 1:
        if not pc.all(pc.greater_equal(key[1:], key[:-1])).as_py():
            plain = plain.take(pc.sort_indices(key)).combine_chunks()
            key = plain.column(0)
        if pc.any(pc.equal(key[1:], key[:-1])).as_py():
            raise ValueError(f"the first column of a table, {table.column_names[0]!r}, is a key")
    return plain


def table_digest(table: pa.Table) -> Digest:
    """Return the digest of a table's columns and rows, whatever the order of the rows.

    SHA-256 over the canonical JSON of the columns' names and kinds, then, column by column, the
    values as little-endian 64-bit numbers; of text, the lengths in bytes, then all bytes (UTF-8).
    """
    return _digest(canonical_table(table))


def write_table(table: pa.Table) -> tuple[Digest, bytes]:
    """Return a table's digest and its Parquet file."""
    plain = canonical_table(table)
    buffer = io.BytesIO()
    # Groups of rows, so that a few can be looked up without decoding the others.
    pq.write_table(plain, buffer, compression="zstd", row_group_size=2**16)
    return _digest(plain), buffer.getvalue()


def read_table(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """Return a Parquet file's table, or some of its columns."""
    return pq.ParquetFile(pa.BufferReader(data)).read(columns=columns)


def select_rows(
    data: bytes, wanted: dict[str, pa.Array], columns: Sequence[str] | None = None
) -> pa.Table:
    """Return the rows in which one of some columns has one of some values, whole or some columns.

    Groups of rows in which there are none are not decoded any further.
    """
    file = pq.ParquetFile(pa.BufferReader(data))
    found = []
    for group in range(file.num_row_groups):
        keys = file.read_row_group(group, columns=list(wanted))
        hit = None
        for name, values in wanted.items():
            these = pc.is_in(keys[name], value_set=values)
            hit = these if hit is None else pc.or_(hit, these)
        if hit is not None and pc.any(hit).as_py():
            found.append(file.read_row_group(group, columns=columns).filter(hit))
    if found:
        return pa.concat_tables(found)
    schema = file.schema_arrow
    return table_of((), pa.schema(map(schema.field, columns)) if columns else schema)


def table_key(digest: Digest) -> str:
    """Return the key under which the table with a digest lies."""
    return f"{TABLES}{check_digest(digest)[:2]}/{digest[2:]}"


def _canonical_type(name: str, kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        return pa.string()
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_boolean(kind):
        return pa.bool_()
    raise ValueError(f"a table cannot hold the column {name!r} of {kind}")


def _digest(plain: pa.Table) -> Digest:
    hasher = hashlib.sha256()
    kinds = [[field.name, _TYPES[field.type]] for field in plain.schema]
    header = json.dumps(kinds, ensure_ascii=False).encode()
    hasher.update(len(header).to_bytes(8, "little") + header)
    for column in plain.columns:
        values = column.combine_chunks()
        if values.type == pa.string():
            lengths = pc.binary_length(values).cast(pa.int64())
            hasher.update(numbers(lengths).tobytes())
            hasher.update(_text(values))
        elif values.type == pa.bool_():
            hasher.update(numbers(values.cast(pa.int8())).tobytes())
        else:
            hasher.update(numbers(values).tobytes())
    return hasher.hexdigest()


def _text(values: pa.StringArray) -> memoryview:
    """Return the bytes of all of a column's text, one after the other."""
    if not len(values):
        return memoryview(b"")
    _, offsets, data = values.buffers()
    if data is None:
        return memoryview(b"")
    ends = memoryview(offsets).cast("i")
    return memoryview(data)[ends[values.offset] : ends[values.offset + len(values)]]
