"""A release is made again by the code of its commit, whatever the checkout is like by now."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
import yaml
from typer.testing import CliRunner

from defect_assets import home as homes
from defect_assets.cli import app
from defect_assets.dataset.cut import next_snapshot
from defect_assets.dataset.grouping import GroupRules
from defect_assets.dataset.split import read_split
from defect_assets.home import Home, known_description
from defect_assets.inbox import take_in
from defect_assets.inference.bundle import check_bundle
from defect_assets.registry.code import code_version
from defect_assets.registry.configs import values_of
from defect_assets.registry.environment import record_environment
from defect_assets.registry.provenance import publish_batch, publish_snapshot
from defect_assets.registry.reproduce.reproduce import NotReproducible, Place, reproduce
from defect_assets.registry.reproduce.reproduction import Reproduction
from defect_assets.registry.reproduce.worktrees import UnknownCommit
from defect_assets.registry.subjects import Subject
from defect_assets.store import Record, Store
from defect_assets.training.config import TrainingConfig
from tests.checkouts import commit_all, git
from tests.conftest import PROJECT, deliver
from tests.registry.experiments import experiment, released
from tests.small import contents

pytestmark = pytest.mark.slow

CONFIG = {
    "architecture": {"widths": [8, 16, 16]},
    "input": {"height": 64, "width": 64},
    "steps": 30,
    "sampling": {"batch_size": 4},
    "seed": 1,
}


@dataclass(frozen=True)
class Made:
    """A home with a trained release, and the checkout that it was trained by."""

    home: Home
    project: Path
    model: Record
    evaluation: Record

    @property
    def store(self) -> Store:
        return self.home.store()

    @property
    def place(self) -> Place:
        return Place(
            store=self.store,
            url=self.home.url,
            cache=self.home.root / "cache",
            project=self.project,
            environments=self.home.environments,
            scratch=self.home.reproductions,
        )

    def release(self, version: str, **changes: object) -> None:
        """Release the model as if its record said something else."""
        record = self.model.model_copy(update=changes)
        self.store.publish("experiments/DS-1.0.0/C-01", record)
        subject = Subject("x", "DS-1.0.0", "C-01", record, self.evaluation)
        released(self.store, subject, version)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("reproduce")
    project = root / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "defect_assets", project / "defect_assets", ignore=ignored)
    shutil.copy(PROJECT / "requirements.lock", project)
    (project / "configs").mkdir()
    config = TrainingConfig.model_validate(CONFIG)
    (project / "configs" / "C-01.yaml").write_text(yaml.safe_dump(CONFIG))
    commit_all(project)

    home = Home(root / "home")
    home.hold(known_description("synthetic-tiles").model_copy(update={"groups": GroupRules()}))
    deliver(home.inbox, "first", 1, 16)
    store, lock = home.store(), project / "requirements.lock"
    publish_batch(store, "first", take_in(home, store, "first")[0], lock)
    snapshot = next_snapshot(store, home.description())
    assert snapshot is not None
    publish_snapshot(store, snapshot, lock)
    made_up = experiment(store, "DS-1.0.0", values=config)
    parents = {
        "dataset_split": store.content("splits/DS-1.0.0") or "",
        "training_config": store.objects.put_json(values_of(config)),
        "python_environment": record_environment(store, lock),
    }
    bundle, details = train(store, parents["dataset_split"], config, root / "fitted")
    model = Record(
        asset="trained_model",
        partition="C-01|DS-1.0.0",
        content=store.objects.put_tree(bundle),
        parents=parents,
        code_version=code_version("training.experiment"),
        commit=git(project, "rev-parse", "HEAD").strip(),
        details=details,
    )
    made = Made(home, project, model, made_up.evaluation)
    made.release("v0.1.0")
    # The checkout goes on, to something that cannot train at all.
    (project / "defect_assets" / "training" / "experiment.py").write_text("raise SystemError\n")
    commit_all(project)
    return made


def train(store: Store, split: str, config: TrainingConfig, fitted: Path) -> tuple[dict, dict]:
    from defect_assets.training.experiment import train_on_split

    model = train_on_split(store, read_split(store, split), config, fitted)
    return model.files, model.record


@pytest.fixture
def made(trained: Made, tmp_path: Path) -> Made:
    """A home of its own, of the same checkout."""
    shutil.copytree(trained.home.root, tmp_path / "home")
    return replace(trained, home=Home(tmp_path / "home"))


@contextmanager
def nothing_else_changes(made: Made) -> Iterator[None]:
    """Make sure that names, objects and the repository stay as they are, whatever happens."""
    before = state(made)
    try:
        yield
    finally:
        assert state(made) == before


def state(made: Made) -> list:
    root = made.home.root / "store"
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return [
        {name for name in files if not name.startswith("leases/")},
        contents(made.store),
        git(made.project, "worktree", "list"),
        git(made.project, "status", "--porcelain"),
    ]


def unequal(found: Reproduction) -> list[str]:
    return [pair.what for pair in found.compared if not pair.equal]


def make_again(made: Made, version: str, tolerance: float = 0.02) -> tuple[Reproduction, list[str]]:
    said: list[str] = []
    with nothing_else_changes(made):
        return reproduce(made.place, version, tolerance, said.append), said


def test_a_release_is_made_again_to_the_last_bit(made: Made) -> None:
    found, said = make_again(made, "v0.1.0")
    assert found.reproduced, found
    assert found.same_bundle
    assert unequal(found) == []
    assert {"commit", "configuration", "split, divided anew", "environment", "weights"} <= {
        pair.what for pair in found.compared
    }
    assert "the present environment is the recorded one" in said
    assert any("step 30 of 30" in line for line in said)
    assert not (made.home.reproductions / "v0.1.0").exists()


def test_what_was_not_equal_is_named(made: Made) -> None:
    """As if the record of the configuration had been tampered with."""
    other = values_of(TrainingConfig.model_validate(CONFIG | {"steps": 20}))
    config = made.store.objects.put_json(other)
    made.release("v0.2.0", parents={**made.model.parents, "training_config": config})
    found, _ = make_again(made, "v0.2.0", tolerance=1)
    assert not found.reproduced
    assert found.same_machine
    assert unequal(found)[:2] == ["configuration", "weights"]
    assert "bundle" in unequal(found)
    assert "not equal: configuration, weights" in found.verdict
    # The other bundle is kept, to be looked at, and nothing else.
    kept = made.home.reproductions / "v0.2.0"
    assert [path.name for path in kept.iterdir()] == ["model"]
    check_bundle(kept / "model", found.compared[-1].found)


def test_on_another_machine_scores_decide(made: Made) -> None:
    other = values_of(TrainingConfig.model_validate(CONFIG | {"steps": 20}))
    config = made.store.objects.put_json(other)
    made.release(
        "v0.2.0",
        parents={**made.model.parents, "training_config": config},
        details={**made.model.details, "processor": "abacus"},
    )
    found, _ = make_again(made, "v0.2.0", tolerance=1)
    assert not found.same_machine
    assert found.reproduced
    assert "processor" in unequal(found)
    assert set(found.scores) == {"dice", "iou", "macro_dice", "region_recall", "image_auroc"}
    assert found.scores["dice"][0] is not None
    strict = found.model_copy(update={"tolerance": 0, "scores": {"dice": (0.5, 0.6)}})
    assert not strict.reproduced


def test_an_interrupted_attempt_leaves_no_process_and_no_worktree(made: Made) -> None:
    def interrupt(message: str) -> None:
        if message.startswith("step"):
            raise KeyboardInterrupt

    with nothing_else_changes(made), pytest.raises(KeyboardInterrupt):
        reproduce(made.place, "v0.1.0", say=interrupt)
    left = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert not [command for command in left if "retraining.py" in command]
    found, _ = make_again(made, "v0.1.0")
    assert found.same_bundle


def test_code_that_is_too_old_is_named(made: Made) -> None:
    file = made.project / "defect_assets" / "training" / "experiment.py"
    file.write_text("def train_on_folder(): ...\n")
    commit_all(made.project)
    made.release("v0.2.0", commit=git(made.project, "rev-parse", "HEAD").strip())
    with (
        nothing_else_changes(made),
        pytest.raises(NotReproducible, match=r"lacks something(.|\n)*train_on_split"),
    ):
        reproduce(made.place, "v0.2.0")


def test_code_that_fails_says_why(made: Made) -> None:
    file = made.project / "defect_assets" / "training" / "experiment.py"
    file.write_text("raise SystemError('out of luck')\n")
    commit_all(made.project)
    made.release("v0.2.0", commit=git(made.project, "rev-parse", "HEAD").strip())
    with nothing_else_changes(made), pytest.raises(NotReproducible, match="out of luck"):
        reproduce(made.place, "v0.2.0")


def test_what_cannot_be_looked_up_is_refused(made: Made) -> None:
    with pytest.raises(NotReproducible, match=r"no release v9\.9\.9; known: v0\.1\.0"):
        reproduce(made.place, "v9.9.9")
    made.release("v0.2.0", commit=made.model.commit + "+")
    with pytest.raises(NotReproducible, match="not committed"):
        reproduce(made.place, "v0.2.0")
    made.release("v0.3.0", details={"unpinned": ["no seed"]}, parents={})
    with pytest.raises(NotReproducible, match="no seed; its record names no dataset_split"):
        reproduce(made.place, "v0.3.0")
    made.release("v0.4.0", commit="0" * 40)
    with pytest.raises(UnknownCommit, match="git fetch"):
        reproduce(made.place, "v0.4.0")


def test_the_command_prints_what_was_equal_and_fails_where_it_is_not(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFECT_HOME", str(made.home.root))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(homes, "PROJECT", made.project)
    runner = CliRunner()
    result = runner.invoke(app, ["reproduce", "v0.1.0"])
    assert result.exit_code == 0, result.output
    assert "v0.1.0 is reproduced: the bundle is the same" in result.output
    assert f"=  weights              {found_weights(made)[:12]}" in result.output
    unknown = runner.invoke(app, ["reproduce", "v9.9.9"])
    assert unknown.exit_code == 1
    assert "there is no release v9.9.9" in unknown.output


def found_weights(made: Made) -> str:
    weights: str = made.store.objects.get_json(made.model.content)["model.safetensors"]
    return weights
