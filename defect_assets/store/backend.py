"""What a place that holds bytes must be able to do.

Keys are relative POSIX paths. Two promises carry everything above: a key is either whole or
absent at any time, and of two writers that race for a key exactly one is told that it won.
"""

from collections.abc import Iterator
from typing import Protocol


class NotInStore(KeyError):
    """The store holds nothing under this key."""

    def __str__(self) -> str:
        return f"the store holds nothing under {self.args[0]!r}"


class Backend(Protocol):
    """A place that holds bytes under keys: a folder, later a bucket."""

    def read(self, key: str) -> bytes:
        """Return the bytes under ``key``; raise `NotInStore` where there are none."""
        ...

    def exists(self, key: str) -> bool:
        """Tell whether something is stored under ``key``."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Store ``data`` durably unless ``key`` is taken; return whether it was free."""
        ...

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        """Replace ``expected`` (None: absence) by ``data``; return whether it was there."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with ``prefix``, sorted."""
        ...
