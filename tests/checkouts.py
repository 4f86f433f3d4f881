"""Checkouts of their own for tests, committed, so that the developer's may be as it likes."""

import subprocess
from pathlib import Path

_AUTHOR = (
    "-c",
    "user.name=test",
    "-c",
    "user.email=test@example.com",
    "-c",
    "commit.gpgsign=false",
)


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *_AUTHOR, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def commit_all(folder: Path) -> None:
    """Commit what is in a folder, making it a repository if it is none."""
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "all")
