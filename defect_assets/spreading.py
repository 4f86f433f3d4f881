"""Dividing work: one function over many items, on the threads of this process or on a cluster.

Who has the work passes what divides it, so that nothing below knows of a cluster.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Spread(Protocol):
    """Calls a function on each of some items, several at a time."""

    def __call__(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """Yield the results in the order of the items; only a few are computed ahead.

        Parameters
        ----------
        function
            Sent to other machines, perhaps: so it can be pickled, and may be called twice on an
            item, where the first worker died.
        items
            Taken as they are needed.
        """
        ...


def one_by_one(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Call a function on items in this thread: for what uses all processors by itself."""
    return map(function, items)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Call a function on items in a thread for each processor.

    Examples
    --------
    >>> list(in_threads(abs, [-2, 1, -3]))
    [2, 1, 3]
    """
    return _in_threads(function, items, os.cpu_count() or 1)


def while_waiting(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Call a function on items in sixteen threads: for what waits for a bucket's answers."""
    return _in_threads(function, items, 16)


def _in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    rest = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        ahead: list[Future[Result]] = [pool.submit(function, i) for i in islice(rest, threads + 1)]
        while ahead:
            yield ahead.pop(0).result()
            ahead += [pool.submit(function, item) for item in islice(rest, 1)]
