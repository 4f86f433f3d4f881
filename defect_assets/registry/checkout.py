"""The checkout that the code runs from, as git sees it. Nothing else asks git."""

import getpass
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from defect_assets.errors import UserError

READ = ("defect_assets", "configs")
"""Folders whose files are imported or read: there, what git does not know counts as a change."""


class NoCheckout(UserError):
    """The code does not run from a commit; the message says why."""


@dataclass(frozen=True)
class Checkout:
    """A commit, and what differs from it in the working tree."""

    commit: str
    files: frozenset[str]
    """What the commit holds, by path below the checkout."""
    changed: tuple[str, ...]
    """Its files that were changed or removed, and new ones in the folders of `READ`; sorted."""

    def holds(self, file: str) -> bool:
        """Tell whether a file is in the commit, and as it is in the working tree."""
        return file in self.files and file not in self.changed


def read_checkout(folder: Path) -> Checkout:
    """Return the commit that a folder with this package is a checkout of.

    Raises
    ------
    NoCheckout
        If there is none: no git, no repository, no commit, or one of something else, as where
        the package is installed below another project.
    """
    head = _git(folder, "rev-parse", "--verify", "HEAD").strip()
    files = frozenset(_names(folder, "ls-tree", "-r", "--name-only", "-z", "HEAD"))
    if "defect_assets/__init__.py" not in files:
        raise NoCheckout(f"git does not know the code in {folder}")
    changed = _names(folder, "diff", "--relative", "--name-only", "-z", "HEAD")
    new = _names(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", *READ)
    return Checkout(head, files, tuple(sorted({*changed, *new})))


def holds_commit(folder: Path, commit: str) -> bool:
    """Tell whether a checkout's repository has a commit."""
    try:
        _git(folder, "cat-file", "-e", f"{commit}^{{commit}}")
    except NoCheckout:
        return False
    return True


def add_worktree(folder: Path, commit: str, into: Path) -> Path:
    """Check a commit out into a new folder, beside a checkout of the same repository.

    No branch points there, and no hook runs.

    Returns
    -------
    Path
        What in the new folder corresponds to the checkout's: where the checkout is a part of its
        repository, another one below.

    Raises
    ------
    NoCheckout
        If there is no repository, or it does not have the commit.
    """
    prefix = _git(folder, "rev-parse", "--show-prefix").strip()
    no_hooks = ("-c", f"core.hooksPath={os.devnull}")
    _git(folder, *no_hooks, "worktree", "add", "--quiet", "--detach", str(into), commit)
    return into / prefix


def remove_worktree(folder: Path, worktree: Path) -> None:
    """Remove a folder that `add_worktree` made, or began to make, and forget it."""
    shutil.rmtree(worktree, ignore_errors=True)
    _git(folder, "worktree", "prune")


def identity(folder: Path) -> str:
    """Return who is at work in a checkout, as git would sign a commit: ``name <email>``.

    Where git was not told, it is the name that the system knows the user by.
    """
    try:
        said = _git(folder, "-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
    except NoCheckout:
        return _user()
    return said.rsplit(">", 1)[0] + ">"  # a time follows


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # as in a container, of a user that has no name
        return f"user {os.getuid()}"


def write_commit(folder: Path, commit: str, into: Path) -> None:
    """Write the package as it was in a commit into a folder.

    Parameters
    ----------
    folder
        The checkout.
    commit
        Its id.
    into
        Where ``defect_assets`` will lie.

    Raises
    ------
    NoCheckout
        If the repository does not have the commit, or the package was not in it.
    """
    archive = _run(folder, "archive", "--format=tar", commit, "--", "defect_assets")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(into, filter="data")


def commits_between(
    folder: Path, one: str, other: str, files: Iterable[str]
) -> list[tuple[str, str]]:
    """Return the commits that lead to one of two and not to the other, and touch some files.

    Parameters
    ----------
    folder
        The checkout.
    one, other
        Ids of commits.
    files
        Paths below the checkout, whether they are there now or not.

    Returns
    -------
    list
        Id and subject of each, the newest first.

    Raises
    ------
    NoCheckout
        If the repository does not have one of the commits.
    """
    told = _names(folder, "log", "-z", "--format=%H %s", f"{one}...{other}", "--", *files)
    return [(line[:40], line[41:]) for line in told]


def _names(folder: Path, *arguments: str) -> list[str]:
    return [name for name in _git(folder, *arguments).split("\0") if name]


def _git(folder: Path, *arguments: str) -> str:
    return _run(folder, *arguments).decode()


def _run(folder: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(
            ["git", *arguments], cwd=folder, check=True, capture_output=True
        ).stdout
    except OSError as error:
        raise NoCheckout(f"git cannot be run: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr.decode(errors="replace").strip().splitlines() or ["nothing"])[0]
        raise NoCheckout(f"{folder} is not a checkout of a commit, git says: {said}") from error
