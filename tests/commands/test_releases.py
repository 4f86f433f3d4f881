"""Releasing by the command line, on a small home in which an experiment was evaluated."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from defect_assets import home as homes
from defect_assets.assets import release
from defect_assets.automation import road
from defect_assets.store import Store
from tests.commands.conftest import Run
from tests.experiments import (
    LENIENT,
    Made,
    new_home,
    publish_experiment,
    small_dataset,
    write_gates,
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed checkout with gates, in which git knows who is at work."""
    project = tmp_path / "checkout"
    write_gates(project, **LENIENT)
    for module in (homes, road, release):
        monkeypatch.setattr(module, "PROJECT", project)
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Ann")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "ann@example.com")
    return project


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A home's store with two evaluated experiments; the second one was evaluated last."""
    home = new_home(tmp_path / "home")
    store = home.store()
    small_dataset(home, store)
    publish_experiment(store, Made(threshold=0.4))
    publish_experiment(store, Made(config="C-02", steps=20))
    return store


@pytest.fixture
def root(store: Store, project: Path, tmp_path: Path) -> Path:
    return tmp_path / "home"


def _json(result: Result) -> Any:
    return json.loads(result.stdout)


def test_a_dry_run_says_what_would_be_and_does_nothing(run: Run, store: Store) -> None:
    shown = run("release", "--dry-run", "--bump", "major").output
    assert "Trained on DS-1.0.0 with C-02" in shown
    assert "without --dry-run it is v1.0.0" in shown
    told = _json(run("release", "DS-1.0.0/C-01", "--dry-run", "--json", "--note", "*new*"))
    assert not told["released"]
    assert (told["release"]["id"], told["release"]["config"]) == ("v0.1.0", "C-01")
    assert [gate["passed"] for gate in told["gates"]] == [True, True, True]
    assert "*new*" in told["note"]
    assert list(store.refs.names("releases/")) == []


def test_what_fails_is_refused_with_the_list_and_released_for_a_reason(
    run: Run, store: Store, project: Path, tmp_path: Path
) -> None:
    write_gates(project, floors={"dice": 0.99}, ceilings={"escapes": 0.5})
    for more in ((), ("--dry-run",)):
        refused = run("release", *more, code=1)
        assert "DS-1.0.0 × C-02 is not released: it fails 1 of 3 gates" in refused.stderr
        assert "✗ Dice: 0.9" in refused.stderr
        assert "✓ escapes" in refused.stderr
        assert "Traceback" not in refused.output
        gates = _json(run("release", "--json", *more, code=1))["gates"]
        assert [gate["gate"] for gate in gates if not gate["passed"]] == ["Dice"]
    assert list(store.refs.names("releases/")) == []

    told = _json(run("release", "--override", "the line waits", "--json"))
    assert told["released"]
    by = "Ann <ann@example.com>"
    assert told["override"] == {"reason": "the line waits", "by": by}
    assert store.content("bentos/v0.1.0") is not None

    again = run("release").output
    assert "DS-1.0.0 × C-02 is released already, as v0.1.0" in again
    assert "by Ann ann@example.com: the line waits" in again
    assert "is released already; name an experiment" in run("release", "v0.1.0", code=1).stderr

    folder = tmp_path / "out"
    assert "v0.1.0 is in " in run("bundle", "v0.1.0", "--to", str(folder)).output
    assert f"by {by}" in (folder / "MODEL_CARD.md").read_text()
    assert "is not empty" in run("bundle", "v0.1.0", "--to", str(folder), code=1).stderr
    assert "there is no release" in run("bundle", "v9.0.0", "--to", str(folder), code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["DS-1.0.0/C-09"], "there is no experiment DS-1.0.0/C-09"),
        (["nonsense"], "there is no release, channel or experiment nonsense"),
    ],
)
def test_what_is_not_there_is_said(run: Run, arguments: list[str], says: str) -> None:
    assert says in run("release", *arguments, code=1).stderr
