import shutil
from pathlib import Path

import pytest

from defect_assets.registry import code


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this package, which the code version is computed of."""
    copy = tmp_path / "defect_assets"
    shutil.copytree(Path(code.__file__).parents[1], copy)
    monkeypatch.setattr(code, "_PACKAGE", copy)
    code._essence.cache_clear()
    return copy


def _version(*modules: str) -> str:
    code._essence.cache_clear()
    return code.code_version(*modules)


def test_explanations_do_not_count(package: Path) -> None:
    before = _version("training.loop")
    loop = package / "training" / "loop.py"
    loop.write_text("# A comment.\n" + loop.read_text().replace("Train a network.", "Learn."))
    assert _version("training.loop") == before


def test_code_counts(package: Path) -> None:
    before = _version("training.loop")
    loop = package / "training" / "loop.py"
    loop.write_text(loop.read_text().replace("POINTS = 20", "POINTS = 10"))
    assert _version("training.loop") != before


def test_what_is_imported_counts_and_nothing_else(package: Path) -> None:
    before = {m: _version(m) for m in ("training.loop", "dataset.batch", "evaluation.evaluate")}
    model = package / "inference" / "model.py"
    model.write_text(model.read_text() + "\nNEW = 1\n")
    assert _version("training.loop") != before["training.loop"]
    assert _version("evaluation.evaluate") != before["evaluation.evaluate"]
    assert _version("dataset.batch") == before["dataset.batch"]


def test_how_a_model_is_served_makes_no_training_or_evaluation_out_of_date(package: Path) -> None:
    before = {m: _version(m) for m in ("training.experiment", "inference.runtimes.choice")}
    for name in ("openvino", "choice"):
        served = package / "inference" / "runtimes" / f"{name}.py"
        served.write_text(served.read_text() + "\nNEW = 1\n")
    assert _version("training.experiment") == before["training.experiment"]
    assert _version("inference.runtimes.choice") != before["inference.runtimes.choice"]


def test_files_beside_the_package_count(tmp_path: Path) -> None:
    service = tmp_path / "service.py"
    service.write_text("one")
    before = code.code_version("registry.packaging", files=[service])
    service.write_text("two")
    assert code.code_version("registry.packaging", files=[service]) != before


def test_the_commit_says_whether_files_were_changed() -> None:
    commit = code.commit()
    assert commit == "" or len(commit.rstrip("+")) == 40
