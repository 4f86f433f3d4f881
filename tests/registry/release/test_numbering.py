"""The number of a release: what changed decides, and a person may only raise it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.dataset.version import Bump, Version
from defect_assets.home import Home
from defect_assets.inference.architecture import Architecture
from defect_assets.inference.preprocessing import Preprocessing
from defect_assets.registry.release.candidates import ReleaseRefused
from defect_assets.registry.release.numbering import Numbering, next_version
from defect_assets.registry.release.releasing import propose
from defect_assets.store import Record, Store
from tests.experiments import Made, new_home, publish_experiment, small_dataset, split
from tests.registry.releasing import publish_release
from tests.small import cut, deliver, ingest, mask

numbers = st.integers(0, 20)
versions = st.builds(Version, st.just("v"), numbers, numbers, numbers)
bumps = st.sampled_from(Bump)


@given(previous=versions, asked=bumps, given_=st.one_of(st.none(), bumps, versions))
def test_a_number_is_never_lower_than_the_rule_says(
    previous: Version, asked: Bump, given_: Bump | Version | None
) -> None:
    wanted = previous.bumped(given_) if isinstance(given_, Bump) else given_
    if wanted is not None and wanted not in [previous.bumped(b) for b in Bump if b >= asked]:
        with pytest.raises(ReleaseRefused, match=f"{previous.bumped(asked)}; it can be raised"):
            next_version(previous, asked, given_)
        return
    version = next_version(previous, asked, given_)
    assert version == (wanted or previous.bumped(asked))
    assert version >= previous.bumped(asked) > previous


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return new_home(tmp_path / "home")


@pytest.fixture
def first(store: Store, home: Home, project: Path) -> Made:
    """The experiment that is released as v0.1.0."""
    made = Made(dataset=small_dataset(home, store))
    publish_experiment(store, made)
    assert publish_release(store, project).id == "v0.1.0"
    return made


def numbered(store: Store, project: Path, made: Made) -> Numbering:
    publish_experiment(store, made)
    return propose(store, project, made.dataset, made.config).numbering


@pytest.mark.parametrize(
    ("bundle", "because"),
    [
        ({"architecture": Architecture(widths=(8, 16, 24))}, "the architecture changed"),
        ({"class_map": {1: "Dent", 2: "Hole"}}, "the classes changed"),
        ({"format": 2}, "the bundle's format changed"),
    ],
)
def test_another_architecture_or_other_answers_are_major(
    store: Store, project: Path, first: Made, bundle: dict[str, object], because: str
) -> None:
    made = numbered(store, project, Made(bundle=bundle))
    assert (made.version, made.bump, made.because) == ("v1.0.0", "major", because)


@pytest.mark.parametrize(
    "bundle",
    [
        {"preprocessing": Preprocessing(height=96, width=64)},
        {"architecture": Architecture(widths=(8, 16, 16), encoder_weights=None), "flips": True},
    ],
)
def test_what_shows_only_in_the_scores_is_not_major(
    store: Store, project: Path, first: Made, bundle: dict[str, object]
) -> None:
    made = numbered(store, project, Made(steps=20, bundle=bundle))
    assert (made.version, made.because) == ("v0.2.0", "the configuration changed")


def test_corrected_labels_are_other_data(
    store: Store, home: Home, project: Path, first: Made
) -> None:
    deliver(home, "fix", {}, {"s001": mask(1, 999)})
    ingest(home, store, "fix")
    snapshot = cut(home, store)
    assert snapshot is not None
    assert snapshot.id == "DS-1.0.1"
    made = numbered(store, project, Made(dataset=split(store, snapshot.id), threshold=0.6))
    assert (made.version, made.bump, made.because) == ("v0.2.0", "minor", "the data changed")
    assert "Data: 1 sample relabelled (Crack 1)." in made.changed
    assert "Data: + fix: 1 relabelled" in made.changed


def test_other_hyper_parameters_are_minor(store: Store, project: Path, first: Made) -> None:
    made = numbered(store, project, Made(steps=20, threshold=0.6))
    assert (made.version, made.bump) == ("v0.2.0", "minor")
    assert made.changed == ("Configuration: steps 10 → 20",)


def test_other_code_and_a_new_evaluation_are_patches(
    store: Store, project: Path, first: Made
) -> None:
    made = numbered(store, project, Made(code="code-2", threshold=0.6))
    assert (made.version, made.bump) == ("v0.1.1", "patch")
    assert made.because == "neither data nor configuration changed"
    assert any(line.startswith("Code: ") for line in made.changed)
    again = numbered(store, project, Made(found=0.8))
    assert (again.version, again.changed) == ("v0.1.1", ())


def test_a_person_raises_a_number_and_cannot_lower_it(
    store: Store, project: Path, first: Made
) -> None:
    publish_experiment(store, Made(steps=20))
    raised = propose(store, project, "DS-1.0.0", "C-01", Bump.MAJOR).numbering
    assert (raised.version, raised.bump) == ("v1.0.0", "major")
    assert "(minor by rule, raised by a person)" in raised.because
    with pytest.raises(
        ReleaseRefused, match=r"v0\.1\.1 cannot be released: since v0\.1\.0 the configuration"
    ):
        propose(store, project, "DS-1.0.0", "C-01", Bump.PATCH)
    with pytest.raises(ReleaseRefused, match=r"the next version is v0\.2\.0"):
        propose(store, project, "DS-1.0.0", "C-01", Version.parse("v7.0.0"))


def test_what_nobody_can_look_up_counts_as_changed(
    store: Store, project: Path, first: Made
) -> None:
    record = store.record("releases/v0.1.0")
    assert record is not None
    held = store.objects.get_json(record.content) | {"id": "v0.3.0", "dataset": "DS-9.0.0"}
    content = store.objects.put_json(held)
    store.publish_once("releases/v0.3.0", Record(asset="model_release", content=content))
    made = numbered(store, project, Made(code="code-2"))
    assert (made.version, made.because) == ("v0.4.0", "nobody knows what it was made of")
    assert "pull from the store in which it was made" in made.changed[0]
