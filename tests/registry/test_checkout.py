from pathlib import Path

import pytest

from defect_assets.registry.checkout import NoCheckout, read_checkout
from tests.checkouts import commit_all, git


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "repository" / "part"
    for name in ("defect_assets/__init__.py", "configs/C-01.yaml", "README.md"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
    return folder


def test_what_differs_from_the_commit_is_named(folder: Path) -> None:
    commit_all(folder)
    clean = read_checkout(folder)
    assert clean.commit == git(folder, "rev-parse", "HEAD").strip()
    assert clean.changed == ()
    assert clean.holds("configs/C-01.yaml")

    (folder / "README.md").write_text("changed")
    (folder / "configs/C-01.yaml").unlink()
    (folder / "configs/C-é 2.yaml").write_text("new")
    (folder / "defect_assets/staged.py").write_text("new")
    (folder / "notes.txt").write_text("read by nobody")
    git(folder, "add", "defect_assets/staged.py")
    changed = read_checkout(folder)
    assert changed.changed == (
        "README.md",
        "configs/C-01.yaml",
        "configs/C-é 2.yaml",
        "defect_assets/staged.py",
    )
    assert not changed.holds("configs/C-01.yaml")
    commit_all(folder)
    assert read_checkout(folder).changed == ()


def test_a_folder_of_a_larger_repository_is_judged_by_itself(folder: Path) -> None:
    commit_all(folder.parent)
    (folder.parent / "other.txt").write_text("of the neighbours")
    git(folder.parent, "add", "other.txt")
    assert read_checkout(folder).changed == ()
    assert read_checkout(folder).holds("defect_assets/__init__.py")


def test_no_commit_is_no_checkout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(folder.parent))
    with pytest.raises(NoCheckout, match="not a git repository"):
        read_checkout(folder)
    git(folder, "init", "--quiet")
    with pytest.raises(NoCheckout, match="not a checkout of a commit"):
        read_checkout(folder)
    commit_all(folder)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoCheckout, match="git cannot be run"):
        read_checkout(folder)


def test_a_package_installed_below_another_project_has_not_its_commit(folder: Path) -> None:
    project = folder.parent
    (project / ".gitignore").write_text("part/\n")
    (project / "mine.py").write_text("")
    commit_all(project)
    with pytest.raises(NoCheckout, match="git does not know the code"):
        read_checkout(folder)
