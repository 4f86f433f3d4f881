"""What a place that holds bytes must be able to do.

Keys are relative POSIX paths. Two promises carry everything above: a key is either whole or
absent at any time, and of two writers that race for a key exactly one is told that it won.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from defect_assets.errors import UserError


class NotInStore(UserError, KeyError):
    """The store holds nothing under this key."""

    def __str__(self) -> str:
        return f"the store holds nothing under {self.args[0]!r}"


class StoreUnavailable(UserError, OSError):
    """The place where the store lies does not answer, or refuses; the message says what to do."""


class Entry(NamedTuple):
    """What is known of a key without reading it."""

    key: str
    size: int
    """In bytes."""
    modified: float
    """When it was written, in seconds since 1970."""


class Backend(Protocol):
    """A place that holds bytes under keys: a folder or a bucket."""

    def hold(self) -> None:
        """Say, before one relies on what is there, that it must not be collected meanwhile."""
        ...

    def read(self, key: str) -> bytes:
        """Return the bytes under ``key``; raise `NotInStore` where there are none."""
        ...

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return some parts of the bytes under ``key``, each from an offset, of a length.

        What reaches beyond the end comes back shorter. Raises `NotInStore` as `read` does.
        """
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

    def delete(self, key: str) -> None:
        """Remove ``key``, if it is there."""
        ...

    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield what lies in a folder of keys, its subfolders included."""
        ...

    def clean(self, before: float) -> int:
        """Remove what writers that died before a time left behind; return how much there was."""
        ...
