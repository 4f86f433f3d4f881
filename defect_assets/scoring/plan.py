"""Which images there are, cut into shards: what is decided once, before the first is looked at."""

from __future__ import annotations

import io
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from defect_assets.errors import UserError
from defect_assets.scoring.places import open_place
from defect_assets.scoring.sources import Item
from defect_assets.store import Backend, NotInStore, S3Access
from defect_assets.store.columns import column

SMALLEST, LARGEST = 64, 1024
"""Images of a shard: few enough that not much is lost with a worker, and enough that the time goes
into images rather than files."""
SHARDS = 128
"""How many shards one would like to have: enough for the work to end everywhere at once."""
PAGE = 2**16
"""Names in one file of a written plan; shards divide it."""


class PlanGone(UserError):
    """The list of images is not where it was written; the message says what to do."""


class Plan(Protocol):
    """The images to look at, in shards that are numbered from 0."""

    @property
    def images(self) -> int:
        """How many there are in all."""
        ...

    @property
    def size(self) -> int:
        """How many are in a shard; the last one may have fewer."""
        ...

    def items(self, shard: int, access: S3Access | None = None) -> list[Item]:
        """Return the images of a shard."""
        ...


def count_shards(plan: Plan) -> int:
    """Return how many shards there are."""
    return -(-plan.images // plan.size)


def size_of_shards(images: int) -> int:
    """Return how many images a shard should have.

    >>> [size_of_shards(n) for n in (10, 10_000, 20_000, 1_000_000)]
    [64, 64, 128, 1024]
    """
    wanted = max(1, images // SHARDS)
    return min(LARGEST, max(SMALLEST, 1 << (wanted.bit_length() - 1)))


@dataclass(frozen=True)
class HeldPlan:
    """A plan in memory."""

    table: pa.Table
    """Columns name and digest."""
    size: int

    @property
    def images(self) -> int:
        return len(self.table)

    def items(self, shard: int, access: S3Access | None = None) -> list[Item]:
        return _items(self.table.slice(shard * self.size, self.size))


@dataclass(frozen=True)
class WrittenPlan:
    """A plan that was written beside the results, so that it stays what it was."""

    url: str
    """Where the results lie."""
    folder: str
    """Its own, there."""
    images: int
    size: int

    def __post_init__(self) -> None:
        if PAGE % self.size:
            raise ValueError(f"shards of {self.size} images do not divide a page of {PAGE}")

    def items(self, shard: int, access: S3Access | None = None) -> list[Item]:
        start = shard * self.size
        page = _page(self.url, _key(self.folder, start // PAGE), access)
        return _items(page.slice(start % PAGE, self.size))


def hold_plan(items: Iterable[Item]) -> HeldPlan:
    """Keep images in memory as a plan."""
    table = _table(list(items))
    return HeldPlan(table, size_of_shards(len(table)))


def write_plan(backend: Backend, folder: str, items: Iterable[Item]) -> int:
    """Write the names of images, page by page, into an empty folder; return how many there are."""
    images = 0
    for number, page in enumerate(_pages(items)):
        buffer = io.BytesIO()
        pq.write_table(_table(page), buffer, compression="zstd")
        backend.create(_key(folder, number), buffer.getvalue())
        images += len(page)
    return images


def _pages(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while page := list(islice(rest, PAGE)):
        yield page


def _table(items: Sequence[Item]) -> pa.Table:
    names, digests = ([item[i] for item in items] for i in (0, 1))
    columns = {"name": column(names, pa.string()), "digest": column(digests, pa.string())}
    return pa.table(columns)


def _items(table: pa.Table) -> list[Item]:
    return list(map(Item, table["name"].to_pylist(), table["digest"].to_pylist()))


@lru_cache(maxsize=4)
def _page(url: str, key: str, access: S3Access | None) -> pa.Table:
    """Read a page once for all the shards that are in it, which are done one after the other."""
    try:
        data = open_place(url, access).read(key)
    except NotInStore as error:
        raise PlanGone(
            f"what {url} should hold is not there on {platform.node()}: each machine that works "
            "must see it; write to a bucket, or to a folder that all share"
        ) from error
    return pq.ParquetFile(io.BytesIO(data)).read()


def _key(folder: str, page: int) -> str:
    return f"{folder}/page-{page:06}.parquet"
