from pathlib import Path

import pytest

from defect_assets.registry import reasons
from defect_assets.registry.reasons import (
    batch_is_new,
    batches_are_new,
    code_changed,
    config_changed,
    content_changed,
    environment_changed,
)
from defect_assets.registry.stages import STAGES
from defect_assets.store import Record, digest_of
from tests.checkouts import commit_all, git

SPLIT = STAGES["dataset_split"]


def test_a_configuration_is_told_by_its_values() -> None:
    before = {"learning_rate": 0.001, "steps": 30, "augmentation": [{"Flip": {"p": 0.5}}] * 3}
    assert (
        config_changed("C-01", before, before | {"learning_rate": 0.0005})
        == "configuration C-01 changed: learning_rate 0.001 → 0.0005"
    )
    after = {"learning_rate": 0.001, "steps": 40, "augmentation": []}
    assert (
        config_changed("C-01", before, after)
        == "configuration C-01 changed: augmentation, steps 30 → 40"
    )


def test_an_environment_is_told_by_its_packages() -> None:
    before = {"torch": "2.4", "lock": "a", "packages": {"numpy": "2.0", "scipy": "1.0"}}
    after = {"torch": "2.5", "lock": "b", "packages": {"numpy": "2.0", "scipy": "1.0"}}
    assert environment_changed(before, after) == "environment changed: torch 2.4 → 2.5"
    assert environment_changed(before, before | {"lock": "b"}) == "environment changed: the lock"
    many = {"packages": {f"p{n}": "2" for n in range(9)}}
    said = environment_changed({"packages": dict.fromkeys(many["packages"], "1")}, many)
    assert said == ("environment changed: p0 1 → 2, p1 1 → 2, p2 1 → 2, p3 1 → 2 and 5 more")


def test_code_is_told_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(reasons.__file__).parents[1]
    (tmp_path / "defect_assets" / "dataset").mkdir(parents=True)
    (tmp_path / "defect_assets" / "__init__.py").touch()
    for name in reasons.sources(*SPLIT.modules):
        copy = tmp_path / "defect_assets" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text((package / name).read_text())
    split = tmp_path / "defect_assets" / "dataset" / "split.py"
    split.write_text(split.read_text() + "\n# a comment\nANOTHER = 1\n")
    commit_all(tmp_path)
    then = git(tmp_path, "rev-parse", "HEAD").strip()
    monkeypatch.setattr(reasons, "commit", lambda: "f" * 40)
    record = Record(asset="dataset_split", content=digest_of(b""), commit=then)
    assert code_changed(SPLIT, record, tmp_path) == (
        f"code of dataset_split changed: commit {then[:7]} → fffffff, "
        "defect_assets/dataset/split.py"
    )
    unknown = record.model_copy(update={"commit": then + "+"})
    assert code_changed(SPLIT, unknown, tmp_path).endswith(f"commit {then[:7]}+ → fffffff")
    nowhere = record.model_copy(update={"commit": "e" * 40})
    assert code_changed(SPLIT, nowhere, tmp_path).endswith("commit eeeeeee → fffffff")


def test_data_are_told_by_their_names() -> None:
    assert batch_is_new("week-45", 40) == "batch week-45 is new: 40 images"
    assert batch_is_new("week-45", 1) == "batch week-45 is new: 1 image"
    assert batch_is_new("week-45", None) == "batch week-45 is new"
    assert batches_are_new(["a"]) == "batch a is new"
    assert batches_are_new("abcdef") == "6 batches are new: a, b, c, d and 2 more"
    one, other = digest_of(b"1"), digest_of(b"2")
    assert content_changed("dataset_split", one, other).startswith("dataset_split changed: ")
    assert content_changed("dataset_split", None, other) == "it was made without dataset_split"
