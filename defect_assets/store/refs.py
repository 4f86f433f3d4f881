"""Small named pointers to digests: some are set once for all, some move."""

from collections.abc import Iterator

from defect_assets.errors import UserError
from defect_assets.store.backend import Backend, NotInStore
from defect_assets.store.digest import Corrupted, Digest, check_digest

REFS = "refs/"


class RefConflict(UserError):
    """A name already stands for something else, or moved while one was not looking."""


class Refs:
    """The names of a store.

    Parameters
    ----------
    backend
        Where the names lie.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def get(self, name: str) -> Digest | None:
        """Return the digest that a name stands for, or None where there is no such name."""
        try:
            return check_digest(self._backend.read(REFS + name).decode())
        except NotInStore:
            return None
        except ValueError as error:
            raise Corrupted(REFS + name) from error

    def create(self, name: str, digest: Digest) -> None:
        """Set a name once for all.

        Raises
        ------
        RefConflict
            If the name already stands for another digest.
        """
        if not self._backend.create(REFS + name, check_digest(digest).encode()):
            current = self.get(name)
            if current != digest:
                raise RefConflict(f"{name} is set once for all, and stands for {current}")

    def move(self, name: str, expected: Digest | None, digest: Digest) -> None:
        """Move a name from the digest that one saw (None: no such name yet) to another.

        Raises
        ------
        RefConflict
            If someone else moved it in between; nothing is changed then.
        """
        before = expected.encode() if expected else None
        if not self._backend.swap(REFS + name, before, check_digest(digest).encode()):
            raise RefConflict(f"{name} was moved to {self.get(name)} by someone else: try again")

    def names(self, folder: str = "") -> Iterator[str]:
        """Yield the names in a folder of names, e.g. ``datasets/``, sorted."""
        found = self._backend.entries((REFS + folder).rstrip("/"))
        yield from sorted(entry.key.removeprefix(REFS) for entry in found)
