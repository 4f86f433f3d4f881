"""A commit of this repository in a folder of its own, for as long as it is needed."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from defect_assets.errors import UserError
from defect_assets.registry.checkout import add_worktree, holds_commit, remove_worktree


class UnknownCommit(UserError):
    """A commit that the repository does not have; the message says how it may come to have it."""


@contextmanager
def worktree(checkout: Path, commit: str) -> Iterator[Path]:
    """Check a commit out into a scratch folder, which is gone when the block ends, however it ends.

    Parameters
    ----------
    checkout
        A checkout of the repository; it stays as it is.
    commit
        Which commit.

    Yields
    ------
    Path
        The folder of the commit's files.

    Raises
    ------
    UnknownCommit
        If the repository does not have the commit.
    NoCheckout
        If there is no repository.
    """
    if not holds_commit(checkout, commit):
        raise UnknownCommit(
            f"the repository of {checkout} does not have the commit {commit}: fetch it from the "
            "clone in which it was made, with git fetch, and in a shallow clone git fetch "
            "--unshallow"
        )
    with tempfile.TemporaryDirectory(prefix="defect-worktree-") as scratch:
        folder = Path(scratch) / commit[:12]
        try:
            yield add_worktree(checkout, commit, folder)
        finally:
            remove_worktree(checkout, folder)
