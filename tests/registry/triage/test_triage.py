"""The logic of triage, with models that nobody trained: what they find follows of their recipe."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.dataset.images import read_images
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import find_snapshot
from defect_assets.home import Home
from defect_assets.inference.postprocessing import Analysis
from defect_assets.registry.comparison.differences import Factor
from defect_assets.registry.subjects import Subject, find_subject
from defect_assets.registry.triage.recipes import Recipe
from defect_assets.registry.triage.triage import (
    SCORE,
    Triage,
    TriageImpossible,
    orders,
    shares,
    triage,
)
from defect_assets.registry.triage.workshop import CannotFollow, Trained
from defect_assets.registry.triage.yardstick import Labels
from defect_assets.store import Digest, Store
from defect_assets.store.collect import collect
from defect_assets.store.reservations import Reserved, reserve
from defect_assets.training.config import TrainingConfig
from tests.registry.conftest import RELABELLED
from tests.registry.experiments import ENVIRONMENT, analysis, bundle_of, experiment, half, released
from tests.small import SIDE

DATA, CONFIG, CODE, ENV = Factor
COLUMNS = {DATA: 3, CONFIG: 1, CODE: 2, ENV: 1}
"""How many columns of each image a model no longer sees, by what is as in the bad one."""
NEWER = ENVIRONMENT | {"packages": {"numpy": "2.1.0"}}


class Made:
    """Follows recipes without work: what a model misses, it misses by its recipe."""

    def __init__(self, store: Store, good: Subject, blind: dict[Factor, int]) -> None:
        self.store, self.blind = store, blind
        self.good = good.model
        self.trained: list[tuple[Factor, ...]] = []
        self.looked = 0
        self.fails: dict[Factor, str] = {}
        self.after: int | None = None
        """How many are trained before it is interrupted."""
        _, snapshot = find_snapshot(store, "DS-1.0.0")
        rows = samples_of(store, snapshot.batches)
        images = read_images(store, rows, snapshot.description)
        self.masks = {
            digest: image.mask
            for digest, image in zip(rows["image"].to_pylist(), images, strict=True)
        }

    def swapped(self, recipe: Recipe) -> tuple[Factor, ...]:
        parents = self.good.parents
        differ = {
            DATA: recipe.split != parents["dataset_split"],
            CONFIG: recipe.config != parents["training_config"],
            CODE: recipe.code_version != self.good.code_version,
            ENV: recipe.environment != parents["python_environment"],
        }
        return tuple(factor for factor in Factor if differ[factor])

    def train(self, recipe: Recipe, say: Callable[[str], None]) -> Trained:
        swapped = self.swapped(recipe)
        for factor in swapped:
            if factor in self.fails:
                raise CannotFollow(self.fails[factor])
        if self.after is not None and len(self.trained) == self.after:
            raise KeyboardInterrupt
        self.trained.append(swapped)
        say("step 1 of 1")
        return Trained(bundle_of(recipe.key.encode()), {"seconds": 1.0})

    def look(
        self, recipe: Recipe, bundle: Digest, images: Sequence[Digest], say: Callable[[str], None]
    ) -> Iterator[Analysis]:
        self.looked += 1
        hidden = sum(self.blind.get(factor, 0) for factor in self.swapped(recipe))
        for digest in images:
            found = self.masks[digest].copy()
            found[:, SIDE - hidden :] = 0
            yield analysis(found)


def _pair(store: Store, *factors: Factor, **good: Any) -> tuple[Subject, Subject]:
    """Return two models that differ in some factors."""
    bad: dict[str, Any] = dict(good)
    if CONFIG in factors:
        bad["values"] = TrainingConfig(steps=31)
    if CODE in factors:
        bad |= {"code_version": "two", "commit": "b" * 40}
    if ENV in factors:
        bad["environment"] = NEWER
    one = experiment(store, "DS-1.0.0", "C-01", weights=b"good", commit="a" * 40, **good)
    dataset = "DS-1.0.1" if DATA in factors else "DS-1.0.0"
    return one, experiment(store, dataset, "C-02", weights=b"bad", **{"commit": "a" * 40, **bad})


def _look(home: Home, *factors: Factor, blind: dict[Factor, int] = COLUMNS) -> tuple[Triage, Made]:
    store = home.store()
    good, bad = _pair(store, *factors)
    made = Made(store, good, blind)
    return triage(store, good, bad, home.root, made), made


def _shares(found: Triage, labels: Labels = Labels.GOOD, score: str = SCORE) -> dict[Factor, float]:
    attribution = found.attributions[labels][score]
    return {factor: share.share or 0.0 for factor, share in attribution.shares.items()}


@pytest.mark.parametrize(
    ("factors", "trainings"),
    [
        ((DATA,), 0),
        ((CONFIG,), 0),
        ((DATA, CONFIG), 2),
        ((CODE, ENV), 2),
        ((DATA, CONFIG, CODE), 6),
        ((DATA, CONFIG, CODE, ENV), 6),
    ],
)
def test_each_combination_that_is_needed_is_trained_once(
    versions: Home, factors: tuple[Factor, ...], trainings: int
) -> None:
    found, made = _look(versions, *factors)
    assert len(made.trained) == len(set(made.trained)) == trainings
    assert found.differences.factors == factors
    dice = found.attributions[Labels.GOOD][SCORE]
    assert sum(_shares(found).values()) == pytest.approx(dice.change)
    assert found.orders[0] == found.orders[1]
    again = triage(
        versions.store(),
        *_pair(versions.store(), *factors),
        versions.root,
        made,
    )
    assert len(made.trained) == trainings
    assert again.attributions == found.attributions


@pytest.mark.parametrize("guilty", list(Factor))
def test_the_guilty_factor_is_named(versions: Home, guilty: Factor) -> None:
    others = [factor for factor in Factor if factor is not guilty][:2]
    found, _ = _look(
        versions, *sorted([guilty, *others], key=list(Factor).index), blind={guilty: 3}
    )
    assert found.cause is guilty
    assert f"{guilty} 100%" in found.reason
    for factor, share in found.attributions[Labels.GOOD][SCORE].shares.items():
        expected = found.attributions[Labels.GOOD][SCORE].change if factor is guilty else 0
        assert share.share == pytest.approx(expected)
        assert share.alone == share.undone == pytest.approx(expected)


def test_shares_follow_the_damage(versions: Home) -> None:
    found, _ = _look(versions, DATA, CONFIG)
    one = _shares(found)
    assert one[DATA] < one[CONFIG] < 0
    assert found.cause is DATA
    for labels in Labels:
        assert sum(_shares(found, labels).values()) == pytest.approx(
            found.attributions[labels][SCORE].change
        )
    assert {factor: s < 0 for factor, s in _shares(found, score="region_recall").items()}


def test_damaged_labels_are_named_though_the_test_is_damaged_alike(versions: Home) -> None:
    """By its own labels the bad model is right; by those of the good one it is not."""
    store = versions.store()
    good, bad = _pair(store, DATA, CONFIG)
    _, snapshot = find_snapshot(store, "DS-1.0.1")
    rows = samples_of(store, snapshot.batches)
    images = read_images(store, rows, snapshot.description)
    labels = dict(zip(rows["image"].to_pylist(), (i.mask for i in images), strict=True))

    class Learned(Made):
        def look(self, recipe: Recipe, *others: Any) -> Iterator[Analysis]:
            masks = labels if DATA in self.swapped(recipe) else self.masks
            yield from (analysis(masks[digest]) for digest in others[1])

    found = triage(store, good, bad, versions.root, Learned(store, good, {}))
    assert (found.attributions[Labels.GOOD][SCORE].change or 0) < 0
    assert (found.attributions[Labels.BAD][SCORE].change or 0) > 0
    assert found.attributions[Labels.UNCHANGED][SCORE].change == 0
    assert found.cause is DATA
    [suspect] = found.suspects
    assert suspect.batch.id == "fix"
    assert set(suspect.samples) == {f"s{n:03}" for n in RELABELLED}
    assert 0 < suspect.learned < len(RELABELLED)
    assert suspect.area == pytest.approx(1, abs=0.3)
    assert suspect.overlap is not None
    assert suspect.overlap < 0.8


def test_another_test_alone_is_said_to_be_one(versions: Home) -> None:
    """What was reported fell, but both models do the same on the same test."""
    store = versions.store()
    good, bad = _pair(store, DATA, CONFIG)
    bad = experiment(store, "DS-1.0.1", "C-02", half, b"bad", TrainingConfig(steps=31))
    found = triage(store, good, bad, versions.root, Made(store, good, {}))
    assert found.cause is DATA
    assert "the test itself is another one" in found.reason
    assert (found.reported.before or 0) > (found.reported.after or 0)


def test_no_evidence_names_no_cause(versions: Home) -> None:
    found, _ = _look(versions, CONFIG, CODE, blind={})
    assert found.cause is None
    assert "no evidence" in found.reason


def test_what_is_interrupted_goes_on(versions: Home) -> None:
    store = versions.store()
    good, bad = _pair(store, DATA, CONFIG, CODE)
    made = Made(store, good, COLUMNS)
    made.after = 4
    with pytest.raises(KeyboardInterrupt):
        triage(store, good, bad, versions.root, made)
    collect(store, grace_hours=0)  # what was trained is kept
    made.after = None
    found = triage(store, good, bad, versions.root, made)
    assert len(made.trained) == len(set(made.trained)) == 6
    assert [c.trained for c in found.combinations].count(True) == 2
    looked = made.looked
    triage(store, good, bad, versions.root, made)
    assert made.looked == looked


def test_an_experiment_that_is_there_is_not_trained_again(versions: Home) -> None:
    store = versions.store()
    good, bad = _pair(store, DATA, CONFIG)
    experiment(store, "DS-1.0.1", "C-01", weights=b"there")
    made = Made(store, good, COLUMNS)
    found = triage(store, good, bad, versions.root, made)
    assert made.trained == [(CONFIG,)]
    [reused] = [c for c in found.combinations if c.bad == (DATA,)]
    assert store.objects.get_tree(reused.model or "")["model.safetensors"] == b"there"


def test_what_cannot_be_trained_is_told_and_the_rest_told_apart(versions: Home) -> None:
    store = versions.store()
    good, bad = _pair(store, DATA, CONFIG, CODE)
    made = Made(store, good, COLUMNS)
    made.fails[CODE] = "its code is in no commit"
    found = triage(store, good, bad, versions.root, made)
    assert found.orders == (2, 6)
    assert sum(_shares(found).values()) == pytest.approx(
        found.attributions[Labels.GOOD][SCORE].change
    )
    code = found.attributions[Labels.GOOD][SCORE].shares[CODE]
    assert code.alone is None
    assert code.undone == pytest.approx(code.share)
    assert {c.why_not for c in found.combinations if CODE in c.bad[-1:] and c.model is None} == {
        "its code is in no commit"
    }


def test_if_nothing_can_be_trained_there_is_no_answer(versions: Home) -> None:
    store = versions.store()
    good, bad = _pair(store, DATA, CONFIG)
    made = Made(store, good, COLUMNS)
    made.fails = dict.fromkeys(Factor, "no disk")
    with pytest.raises(TriageImpossible, match="config as in the bad one: no disk"):
        triage(store, good, bad, versions.root, made)


def test_who_trains_the_same_is_not_disturbed(versions: Home) -> None:
    store = versions.store()
    good, bad = _pair(store, DATA, CONFIG)
    made = Made(store, good, COLUMNS)
    triage(store, good, bad, versions.root, made)
    names = list(store.refs.names("triages/models/"))
    assert len(names) == 2
    for name in names:
        store.backend.delete(f"refs/{name}")
    with reserve(store.backend, names[0], "other"), pytest.raises(Reserved, match="is making"):
        triage(store, good, bad, versions.root, made)


def test_nothing_that_differs_is_nothing_to_take_apart(versions: Home) -> None:
    store = versions.store()
    good = experiment(store, "DS-1.0.0", details={"device": "cpu"})
    bad = experiment(store, "DS-1.0.0", "C-02", weights=b"b", details={"device": "GPU"})
    with pytest.raises(TriageImpossible, match="the machine \\(device: cpu → GPU\\)"):
        triage(store, good, bad, versions.root, Made(store, good, {}))
    old = experiment(store, "DS-1.0.1", parents={})
    with pytest.raises(TriageImpossible, match="does not say what it was made of"):
        triage(store, good, old, versions.root, Made(store, good, {}))


def test_released_and_named_by_version(versions: Home, tmp_path: Path) -> None:
    store = versions.store()
    good, bad = _pair(store, DATA)
    released(store, good, "v0.1.0")
    released(store, bad, "v0.2.0")
    found = triage(
        store,
        find_subject(store, "v0.1.0"),
        find_subject(store, "v0.2.0"),
        tmp_path,
        Made(store, good, COLUMNS),
    )
    assert (found.good, found.bad, found.cause) == ("v0.1.0", "v0.2.0", DATA)
    assert Triage.model_validate_json(found.model_dump_json()) == found


values = st.floats(-1, 1)


@given(st.data(), st.sampled_from([1, 2, 3, 4]))
def test_shares_sum_to_the_change_and_give_nothing_to_who_does_nothing(
    data: st.DataObject, count: int
) -> None:
    factors = tuple(Factor)[:count]
    idle = data.draw(st.sampled_from(factors))
    every = [frozenset(some) for n in range(count + 1) for some in combinations(factors, n)]
    value = {swapped: data.draw(values) for swapped in every}
    whole = frozenset(factors)
    found = shares(value, orders(factors))
    assert sum(found.values()) == pytest.approx(value[whole] - value[frozenset()], abs=1e-9)
    without = {swapped: value[swapped - {idle}] for swapped in every}
    assert shares(without, orders(factors))[idle] == 0


@given(st.lists(values, min_size=8, max_size=8))
def test_of_three_factors_the_share_is_shapleys(drawn: list[float]) -> None:
    """By his formula: over coalitions, weighted by how many orders begin with them."""
    a, b, c = DATA, CONFIG, CODE
    sets = [(), (a,), (b,), (c,), (a, b), (a, c), (b, c), (a, b, c)]
    v = dict(zip(map(frozenset, sets), drawn, strict=True))
    expected = (
        (v[frozenset({a})] - v[frozenset()]) / 3
        + (v[frozenset({a, b})] - v[frozenset({b})]) / 6
        + (v[frozenset({a, c})] - v[frozenset({c})]) / 6
        + (v[frozenset({a, b, c})] - v[frozenset({b, c})]) / 3
    )
    assert shares(v, orders((a, b, c)))[a] == pytest.approx(expected, abs=1e-9)
