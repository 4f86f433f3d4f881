from pathlib import Path

import pytest

from defect_assets.home import Home
from defect_assets.registry.comparison.differences import (
    Change,
    Factor,
    changes_between,
    differences,
)
from defect_assets.training.config import Optimizer, TrainingConfig
from tests.checkouts import commit_all, git
from tests.registry.conftest import RELABELLED
from tests.registry.experiments import ENVIRONMENT, experiment


def test_nothing_differs_from_itself(versions: Home, tmp_path: Path) -> None:
    store = versions.store()
    made = experiment(store, "DS-1.0.0")
    told = differences(store, made, made, tmp_path)
    assert told.factors == ()
    assert not told.data.splits.differs


def test_data_differ_batch_by_batch(versions: Home, tmp_path: Path) -> None:
    store = versions.store()
    a, b = (experiment(store, dataset) for dataset in ("DS-1.0.0", "DS-1.0.1"))
    told = differences(store, a, b, tmp_path)
    assert told.factors == (Factor.DATA,)
    [batch] = told.data.batches
    assert (batch.id, batch.added) == ("fix", True)
    assert batch.samples == {"relabelled": len(RELABELLED)}
    assert sum(told.data.changelog.relabelled.values()) == len(RELABELLED)
    assert told.data.moved == {}
    [back] = differences(store, b, a, tmp_path).data.batches
    assert (back.id, back.added, back.samples) == (batch.id, False, batch.samples)


def test_a_configuration_differs_key_by_key(versions: Home, tmp_path: Path) -> None:
    store = versions.store()
    one = TrainingConfig(steps=30)
    other = TrainingConfig(steps=30, ema=0.9, optimizer=Optimizer(learning_rate=0.1))
    a = experiment(store, "DS-1.0.0", "C-01", values=one)
    b = experiment(store, "DS-1.0.0", "C-02", values=other)
    told = differences(store, a, b, tmp_path)
    assert told.factors == (Factor.CONFIG,)
    assert told.config == {
        "ema": Change(before=0.99, after=0.9),
        "optimizer.learning_rate": Change(before=0.003, after=0.1),
    }


def test_lists_of_one_length_are_compared_item_by_item() -> None:
    before = {"widths": [8, 16], "augmentation": [{"Flip": {}}], "gone": 1, "same": [1]}
    after = {"widths": [8, 32], "augmentation": [{"Flip": {}}, {"Affine": {}}], "same": [1]}
    found = changes_between(before, after)
    assert found == {
        "augmentation": Change(before=[{"Flip": {}}], after=[{"Flip": {}}, {"Affine": {}}]),
        "gone": Change(before=1, after=None),
        "widths.1": Change(before=16, after=32),
    }
    assert str(found["gone"]) == "1 → –"


def test_packages_differ_and_a_locks_bytes_do_not(versions: Home, tmp_path: Path) -> None:
    store = versions.store()
    a = experiment(store, "DS-1.0.0", details={"device": "cpu"})
    other = ENVIRONMENT | {"lock": store.objects.put(b"other")}
    b = experiment(store, "DS-1.0.0", environment=other, details={"device": "GPU"})
    told = differences(store, a, b, tmp_path)
    assert told.environment.environments.differs
    assert told.factors == ()
    assert told.environment.hardware == {"device": Change(before="cpu", after="GPU")}

    newer = other | {"python": "3.12.1", "packages": {"numpy": "2.1.0", "scipy": "1.0"}}
    told = differences(store, a, experiment(store, "DS-1.0.0", environment=newer), tmp_path)
    assert told.factors == (Factor.ENVIRONMENT,)
    assert {name: str(change) for name, change in told.environment.changes.items()} == {
        "numpy": "2.0.0 → 2.1.0",
        "python": "3.11.4 → 3.12.1",
        "scipy": "– → 1.0",
    }


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository whose stage imports a helper; something else lies beside."""
    folder = tmp_path / "checkout"
    for name, text in {
        "__init__.py": "",
        "training/__init__.py": "",
        "training/experiment.py": "from defect_assets.training import helper\n",
        "training/helper.py": "RATE = 1\n",
        "cli.py": "TEXT = 1\n",
    }.items():
        path = folder / "defect_assets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    commit_all(folder)
    return folder


def _change(checkout: Path, file: str, text: str) -> str:
    (checkout / "defect_assets" / file).write_text(text)
    commit_all(checkout)
    return git(checkout, "rev-parse", "HEAD").strip()


def test_code_differs_by_the_files_of_the_stage_alone(versions: Home, checkout: Path) -> None:
    store = versions.store()
    first = git(checkout, "rev-parse", "HEAD").strip()
    a = experiment(store, "DS-1.0.0", commit=first)
    other = _change(checkout, "cli.py", "TEXT = 2\n")
    told = differences(store, a, experiment(store, "DS-1.0.0", commit=other), checkout)
    assert told.factors == ()
    assert told.code.commits == Change(before=first, after=other)

    _change(checkout, "training/helper.py", "# Better said.\nRATE = 1\n")
    third = _change(checkout, "training/helper.py", "RATE = 2\n")
    last = _change(checkout, "cli.py", "TEXT = 3\n")
    b = experiment(store, "DS-1.0.0", commit=last, code_version="two")
    for told in (differences(store, a, b, checkout), differences(store, b, a, checkout)):
        assert told.factors == (Factor.CODE,)
        assert told.code.files == ("defect_assets/training/helper.py",)
        assert told.code.touched_by[0].id == third
        assert len(told.code.touched_by) == 2
        assert told.code.unknown == ""


def test_code_that_no_commit_has_is_said_to_be_unknown(versions: Home, checkout: Path) -> None:
    store = versions.store()
    first = git(checkout, "rev-parse", "HEAD").strip()
    a = experiment(store, "DS-1.0.0", commit=first)
    b = experiment(store, "DS-1.0.0", commit="e" * 40, code_version="two")
    told = differences(store, a, b, checkout)
    assert told.factors == (Factor.CODE,)
    assert "git says" in told.code.unknown
    assert told.code.files == ()
    c = experiment(store, "DS-1.0.0", commit=first + "+", code_version="two")
    assert "had changes that no commit has" in differences(store, a, c, checkout).code.unknown
    d = experiment(store, "DS-1.0.0", commit="", code_version="two")
    assert "outside of any repository" in differences(store, a, d, checkout).code.unknown
