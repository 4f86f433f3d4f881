"""The gate that compares with what is in production."""

from pathlib import Path

import pytest

from defect_assets.home import Home
from defect_assets.registry.channels import promote
from defect_assets.registry.release.gates import GateResult
from defect_assets.registry.release.releasing import propose
from defect_assets.store import Record, Store
from tests.experiments import (
    Made,
    new_home,
    publish_experiment,
    small_dataset,
    split,
    write_gates,
)
from tests.registry.releasing import publish_release
from tests.small import cut, deliver, ingest, mask


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return new_home(tmp_path / "home")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_gates(tmp_path / "checkout", no_class_worse_than_production=True)
    return tmp_path / "checkout"


@pytest.fixture
def production(store: Store, home: Home, project: Path) -> Made:
    """What is in production: it finds 0.8 of each defect."""
    made = Made(dataset=small_dataset(home, store), found=0.8, threshold=0.4)
    publish_experiment(store, made)
    released = publish_release(store, project, made.dataset)
    promote(store, "production", released.id, "Ann <ann@example.com>", "the first one")
    return made


def compared(store: Store, project: Path, made: Made) -> GateResult:
    publish_experiment(store, made)
    [result] = [
        result
        for result in propose(store, project, made.dataset, made.config).results
        if result.gate == "no class worse than production"
    ]
    return result


def test_the_first_release_is_worse_than_none(store: Store, home: Home, project: Path) -> None:
    result = compared(store, project, Made(dataset=small_dataset(home, store)))
    assert result.passed
    assert result.why == "nothing is in production yet"


def test_the_very_model_is_no_worse(store: Store, project: Path, production: Made) -> None:
    result = compared(store, project, production)
    assert result.passed
    assert "this very model" in result.why


def test_better_passes_and_one_class_that_is_worse_does_not(
    store: Store, project: Path, production: Made
) -> None:
    better = compared(store, project, Made(found=0.95))
    assert better.passed
    assert "compared on 24 images of 12 parts that both tested" in better.why
    worse = compared(store, project, Made(found=0.95, missed={"Hole": 0.75}))
    assert not worse.passed
    assert worse.why.startswith("Hole 0.")
    assert "Crack" not in worse.why
    assert worse.waivable


def test_what_was_relabelled_is_not_held_against_it(
    store: Store, home: Home, project: Path, production: Made
) -> None:
    """All labels of one class were corrected, so that the old scores are of another truth."""
    holes = [n for n in range(120) if n % 3 == 2]
    deliver(home, "fix", {}, {f"s{n:03}": mask(2, 500 + n) for n in holes})
    ingest(home, store, "fix")
    snapshot = cut(home, store)
    assert snapshot is not None
    made = Made(dataset=split(store, snapshot.id), found=0.9)
    result = compared(store, project, made)
    assert result.passed
    assert "compared on 16 images" in result.why
    # Of the holes nothing is paired, so they are held to the interval in production.
    worse = compared(store, project, Made(dataset=made.dataset, found=0.9, missed={"Hole": 0.75}))
    assert not worse.passed
    assert "Hole" in worse.why
    assert "below the interval in production" in worse.why


def test_without_common_images_each_is_taken_on_its_own(
    store: Store, home: Home, project: Path, production: Made
) -> None:
    numbers = {f"s{n:03}": mask(n % 3, 700 + n) for n in range(120) if n % 3}
    free = [f"s{n:03}" for n in range(120) if n % 3 == 0]
    deliver(home, "anew", {}, numbers, remove=free)
    ingest(home, store, "anew")
    snapshot = cut(home, store)
    assert snapshot is not None
    dataset = split(store, snapshot.id)
    good = compared(store, project, Made(dataset=dataset, found=0.9))
    assert good.passed
    assert "no image was tested by both with the same label" in good.why
    assert not compared(store, project, Made(dataset=dataset, found=0.3)).passed


def test_a_class_that_is_told_apart_no_more_is_a_loss(
    store: Store, project: Path, production: Made
) -> None:
    record = store.record("channels/production")
    assert record is not None
    held = store.objects.get_json(record.content)
    held["metrics"]["classes"]["Dent"] = held["metrics"]["classes"]["Hole"]
    content = store.objects.put_json(held)
    store.publish("channels/production", Record(asset="channel", content=content))
    result = compared(store, project, Made(found=0.95))
    assert not result.passed
    assert "Dent is not told apart any more" in result.why
