import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from defect_assets.registry.environment import record_environment
from defect_assets.registry.reproduce.scratch_environment import (
    EnvironmentFailed,
    recorded_environment,
)
from defect_assets.store import Digest, NotInStore, Store


def recorded(store: Store, text: str, folder: Path, **changes: object) -> Digest:
    """Record the present environment with a lock file of this text; return its digest."""
    path = folder / "requirements.lock"
    path.write_text(text)
    environment = store.objects.get_json(record_environment(store, path))
    return store.objects.put_json(environment | changes)


def test_the_present_environment_is_used_where_it_is_the_recorded_one(
    store: Store, tmp_path: Path
) -> None:
    lock = f"numpy=={metadata.version('numpy')} \\\n    --hash=sha256:{'0' * 64}\n"
    found = recorded_environment(store, recorded(store, lock, tmp_path), tmp_path / "kept")
    assert found.present
    assert found.python == Path(sys.executable)
    assert not (tmp_path / "kept").exists()


def test_another_environment_is_made_once_and_says_how_it_differs(
    store: Store, tmp_path: Path
) -> None:
    # Nothing is locked, so nothing is fetched.
    digest = recorded(store, "# nothing\n", tmp_path, packages={"six": "1.0"}, machine="abacus")
    said: list[str] = []
    found = recorded_environment(store, digest, tmp_path / "kept", said.append)
    assert not found.present
    assert found.differs["six"] == ("1.0", "none")
    assert found.differs["machine"][0] == "abacus"
    assert "python" not in found.differs
    assert len(said) == 1
    script = "import sys; print(sys.prefix)"
    prefix = subprocess.check_output([found.python, "-c", script], text=True).strip()
    assert Path(prefix) == found.python.parents[1]
    assert recorded_environment(store, digest, tmp_path / "kept", said.append) == found
    assert len(said) == 1
    assert [path.name[0] == "." for path in (tmp_path / "kept").iterdir()] == [False]


def test_what_cannot_be_made_leaves_nothing_and_says_what_uv_said(
    store: Store, tmp_path: Path
) -> None:
    digest = recorded(store, "# nothing\n", tmp_path, python="3.1.4")
    with pytest.raises(EnvironmentFailed, match=r"uv venv says"):
        recorded_environment(store, digest, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_lock_that_is_gone_is_named(store: Store, tmp_path: Path) -> None:
    digest = recorded(store, "# nothing\n", tmp_path, lock="0" * 64)
    with pytest.raises(NotInStore):
        recorded_environment(store, digest, tmp_path / "kept")
