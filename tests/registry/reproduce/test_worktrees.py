from pathlib import Path

import pytest

from defect_assets.registry.checkout import NoCheckout
from defect_assets.registry.reproduce.worktrees import UnknownCommit, worktree
from tests.checkouts import commit_all, git


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout that is a part of its repository, with two commits and a change."""
    folder = tmp_path / "repository" / "part"
    folder.mkdir(parents=True)
    for text in ("old", "new"):
        (folder / "code.py").write_text(text)
        commit_all(folder)
    (folder / "code.py").write_text("changed")
    return folder


def state(folder: Path) -> list[str]:
    asked = ("status", "--porcelain"), ("worktree", "list"), ("branch", "--all")
    return [git(folder, *question) for question in asked]


def test_a_commit_is_there_for_as_long_as_it_is_needed(folder: Path) -> None:
    before = state(folder)
    with worktree(folder, git(folder, "rev-parse", "HEAD~").strip()) as past:
        assert (past / "code.py").read_text() == "old"
        (past / "made.txt").write_text("in a hurry")
    assert not past.exists()
    assert (folder / "code.py").read_text() == "changed"
    assert state(folder) == before


def test_nothing_is_left_after_an_interruption(folder: Path) -> None:
    before = state(folder)

    def interrupted() -> None:
        with worktree(folder, git(folder, "rev-parse", "HEAD").strip()) as past:
            places.append(past)
            raise KeyboardInterrupt

    places: list[Path] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not places[0].exists()
    assert state(folder) == before


def test_two_of_one_commit_do_not_meet(folder: Path) -> None:
    commit = git(folder, "rev-parse", "HEAD").strip()
    with worktree(folder, commit) as one:
        with worktree(folder, commit) as other:
            assert one != other
        assert (one / "code.py").read_text() == "new"


def test_an_unknown_commit_is_named_with_what_to_do(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownCommit, match="git fetch"), worktree(folder, "0" * 40):
        pass
    with pytest.raises((UnknownCommit, NoCheckout)), worktree(tmp_path, "0" * 40):
        pass


def test_hooks_do_not_run(folder: Path) -> None:
    hooks = Path(git(folder, "rev-parse", "--absolute-git-dir").strip()) / "hooks"
    hooks.mkdir(exist_ok=True)
    hook = hooks / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {folder.parent}/hooked\n")
    hook.chmod(0o755)
    with worktree(folder, git(folder, "rev-parse", "HEAD").strip()):
        pass
    assert not (folder.parent / "hooked").exists()
