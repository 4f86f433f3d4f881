"""Arrow columns of Python values.

`pyarrow.array` would do, but it imports pandas to see whether it was given something of it, which
takes longer than most commands.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa


def column(values: Iterable[Any], kind: pa.DataType) -> pa.Array:
    """Return a column without nulls.

    Parameters
    ----------
    values
        Its values.
    kind
        ``string``, ``int64``, ``float64``, ``bool_`` or a ``binary`` of fixed size.

    >>> column(["a", "é", ""], pa.string()).to_pylist()
    ['a', 'é', '']
    >>> column([True, False, True], pa.bool_()).to_pylist()
    [True, False, True]
    """
    values = list(values)
    if kind == pa.string():
        encoded = [value.encode() for value in values]
        ends = np.fromiter(accumulate(map(len, encoded), initial=0), np.int64, len(encoded) + 1)
        if ends[-1] >= 2**31:
            raise ValueError("a column of text cannot hold 2 GB or more")
        buffers = [pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(encoded))]
    elif kind == pa.bool_():
        buffers = [pa.py_buffer(np.packbits(np.array(values, bool), bitorder="little"))]
    elif pa.types.is_fixed_size_binary(kind):
        buffers = [pa.py_buffer(b"".join(values))]
    else:
        buffers = [pa.py_buffer(np.array(values, kind.to_pandas_dtype()))]
    return pa.Array.from_buffers(kind, len(values), [None, *buffers])


def repeated(text: str, times: int) -> pa.Array:
    """Return a column with the same text in each row.

    >>> repeated("é", 2).to_pylist()
    ['é', 'é']
    """
    data = text.encode()
    ends = np.arange(times + 1, dtype=np.int32) * len(data)
    return pa.StringArray.from_buffers(times, pa.py_buffer(ends), pa.py_buffer(data * times))


def table_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return a table of rows; see `column`."""
    columns = [column((row[field.name] for row in rows), field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def numbers(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return a column of 64-bit or 32-bit numbers without nulls as an array."""
    whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    kind = np.dtype(whole.type.to_pandas_dtype())
    buffer = whole.buffers()[1]
    if buffer is None:
        return np.empty(0, kind)
    start = whole.offset * kind.itemsize
    return np.frombuffer(buffer, kind, len(whole), start)


def codes(texts: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Return a column of text as numbers from 0 on, and the text that each number stands for.

    >>> numbers_of, meant = codes(pa.chunked_array([column(["b", "a", "b"], pa.string())]))
    >>> numbers_of.tolist(), meant.to_pylist()
    ([0, 1, 0], ['b', 'a'])
    """
    encoded = texts.combine_chunks().dictionary_encode()
    return numbers(encoded.indices), encoded.dictionary
