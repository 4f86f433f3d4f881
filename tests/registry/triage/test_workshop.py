"""Recipes that are really followed, here and with the code of another commit."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from defect_assets.dataset.cut import next_snapshot
from defect_assets.dataset.description import DatasetDescription
from defect_assets.evaluation.metrics import summarize
from defect_assets.evaluation.report import IMAGES, REPORT, Report
from defect_assets.home import Home
from defect_assets.inbox import take_in
from defect_assets.inference.architecture import Architecture
from defect_assets.inference.bundle import SPEC, BundleSpec
from defect_assets.inference.preprocessing import Preprocessing
from defect_assets.registry import code
from defect_assets.registry.comparison.comparing import classes_in
from defect_assets.registry.comparison.differences import STAGE, Factor
from defect_assets.registry.environment import record_environment
from defect_assets.registry.provenance import publish_batch, publish_snapshot
from defect_assets.registry.subjects import Subject, find_subject
from defect_assets.registry.triage.recipes import Recipe, made_by, recipe_of
from defect_assets.registry.triage.triage import SCORE, triage
from defect_assets.registry.triage.trial import STAGE as TRIED
from defect_assets.registry.triage.workshop import CannotFollow, Trained, Workshop
from defect_assets.registry.triage.yardstick import Labels, count, yardstick
from defect_assets.store import Record, Store
from defect_assets.training.config import Optimizer, Sampling, TrainingConfig
from tests.checkouts import commit_all, git
from tests.conftest import PROJECT, deliver
from tests.registry.experiments import split

SMALL = TrainingConfig(
    input=Preprocessing(height=64, width=64),
    architecture=Architecture(widths=(8, 16, 32)),
    optimizer=Optimizer(learning_rate=0.01),
    steps=120,
    ema=0.9,
    sampling=Sampling(batch_size=8),
)


def _nobody(text: str) -> None: ...


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that begins with this very code."""
    folder = tmp_path / "repository"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "defect_assets", folder / "defect_assets", ignore=ignored)
    commit_all(folder)
    return folder


@pytest.fixture
def home(tmp_path: Path, description: DatasetDescription) -> Home:
    home = Home(tmp_path / "home")
    home.hold(description)
    return home


@pytest.fixture
def store(home: Home) -> Store:
    return home.store()


@pytest.fixture
def recipe(home: Home, store: Store, repository: Path) -> Recipe:
    """How a small model of the synthetic line is made, with this code and environment."""

    lock = PROJECT / "requirements.lock"
    deliver(home.inbox, "first", 1, 90)
    publish_batch(store, "first", take_in(home, store, "first")[0], lock)
    snapshot = next_snapshot(store, home.description())
    assert snapshot is not None
    publish_snapshot(store, snapshot, lock)
    model = Record(
        asset="trained_model",
        content="0" * 64,
        parents={
            "dataset_split": split(store, "DS-1.0.0"),
            "training_config": store.objects.put_json(SMALL.model_dump(mode="json")),
            "python_environment": record_environment(store, lock),
        },
        code_version=code.code_version(STAGE),
        commit=git(repository, "rev-parse", "HEAD").strip(),
    )
    made = recipe_of(store, model)
    assert made is not None
    return made


@pytest.fixture
def workshop(home: Home, store: Store, repository: Path) -> Workshop:
    return Workshop(store, home.url, repository, home.fitted, home.triage, home.environments)


def _change(repository: Path, file: str, old: str, new: str) -> tuple[str, str]:
    """Change the code and commit it; return the commit and the version of the stage's code."""
    path = repository / "defect_assets" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    commit_all(repository)
    script = f"from defect_assets.registry.code import code_version; print(code_version({STAGE!r}))"
    version = subprocess.run(
        [sys.executable, "-c", script], cwd=repository, check=True, capture_output=True, text=True
    ).stdout
    return git(repository, "rev-parse", "HEAD").strip(), version.strip()


def test_the_script_checks_the_stage_that_differences_are_told_of() -> None:
    assert TRIED == STAGE


def test_code_that_is_in_no_commit_is_not_found(recipe: Recipe, workshop: Workshop) -> None:
    with pytest.raises(CannotFollow, match="in no commit"):
        workshop.train(replace(recipe, code_version="other", commit=""), _nobody)
    with pytest.raises(CannotFollow, match="does not have the commit"):
        workshop.train(replace(recipe, code_version="other", commit="e" * 40), _nobody)


def test_a_commit_whose_code_is_not_the_recorded_one_is_refused(
    recipe: Recipe, workshop: Workshop, repository: Path
) -> None:
    """As of a model that was trained with changes that were not committed."""
    with pytest.raises(CannotFollow, match="changes that were not committed"):
        workshop.train(replace(recipe, code_version="other", commit=recipe.commit + "+"), _nobody)
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_a_configuration_that_this_code_does_not_know_is_told(
    recipe: Recipe, workshop: Workshop, store: Store
) -> None:
    strange = store.objects.put_json(SMALL.model_dump(mode="json") | {"strange": 1})
    with pytest.raises(CannotFollow, match="does not know the configuration: strange"):
        workshop.train(replace(recipe, config=strange), _nobody)


def _publish(
    store: Store, config: str, recipe: Recipe, trained: Trained, workshop: Workshop
) -> Subject:
    """Name a model and its evaluation as the assets do."""
    bundle = store.objects.put_tree(trained.files)
    parents = {
        "dataset_split": recipe.split,
        "training_config": recipe.config,
        "python_environment": recipe.environment,
    }
    store.publish(
        f"experiments/DS-1.0.0/{config}",
        Record(
            asset="trained_model",
            content=bundle,
            parents=parents,
            code_version=recipe.code_version,
            commit=recipe.commit,
        ),
    )
    test = yardstick(store, recipe.split, recipe.split)
    spec = BundleSpec.model_validate_json(trained.files[SPEC])
    found = workshop.look(recipe, bundle, test.images, _nobody)
    [table] = count(store, test, found, spec.class_map)
    report = Report(
        dataset="DS-1.0.0",
        config=config,
        bundle=bundle,
        split=recipe.split,
        postprocessing=spec.postprocessing,
        test=summarize(table, classes_in(table)),
    )
    pages = {
        REPORT: report.model_dump_json().encode(),
        IMAGES: table.to_csv(index=False).encode(),
    }
    content = store.objects.put_tree(pages)
    store.publish(f"reports/DS-1.0.0/{config}", Record(asset="evaluation_report", content=content))
    return find_subject(store, f"DS-1.0.0/{config}")


@pytest.mark.slow
def test_a_fault_in_the_code_is_found_beside_a_harmless_configuration(
    recipe: Recipe, workshop: Workshop, store: Store, repository: Path
) -> None:
    """Of this code a model is trained here; of the faulty one, which drops regions, there."""
    commit, version = _change(
        repository,
        "inference/postprocessing.py",
        "stats[1:, _AREA] >= self.min_area_px",
        "stats[1:, _AREA] >= 10**6 * self.min_area_px",
    )
    assert version != recipe.code_version
    harmless = store.objects.put_json(SMALL.model_dump(mode="json") | {"min_area_px": 17})
    faulty = replace(recipe, config=harmless, code_version=version, commit=commit)
    said: list[str] = []
    good, bad = (
        _publish(store, config, made, workshop.train(made, said.append), workshop)
        for config, made in (("C-01", recipe), ("C-02", faulty))
    )
    assert any(text.startswith("step 120 of 120") for text in said)
    found = triage(store, good, bad, repository, workshop, said.append)
    assert found.differences.factors == (Factor.CONFIG, Factor.CODE)
    assert found.differences.code.files == ("defect_assets/inference/postprocessing.py",)
    dice = found.attributions[Labels.GOOD][SCORE]
    assert dice.good == pytest.approx(found.reported.before)
    assert dice.bad == pytest.approx(found.reported.after)
    assert dice.bad == 0
    assert found.cause is Factor.CODE, found.reason
    assert [c.bad for c in found.combinations if c.trained] == [(Factor.CONFIG,), (Factor.CODE,)]
    assert {replace(recipe, config=harmless).key, faulty.key} <= made_by(store).keys()
    assert len(git(repository, "worktree", "list").splitlines()) == 1
