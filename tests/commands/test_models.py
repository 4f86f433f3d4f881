"""Models side by side by the command line, on experiments that nobody trained."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from defect_assets.home import Home
from defect_assets.registry.triage import workshop
from defect_assets.registry.triage.workshop import Trained
from defect_assets.training.config import TrainingConfig
from tests.commands.conftest import Run
from tests.registry.experiments import analysis, bundle_of, experiment, half, released
from tests.small import SIDE, cut, deliver, home_of, ingest, mask, plain


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = home_of(tmp_path_factory.mktemp("models") / "home")
    store = home.store()
    plain(home, "first", range(120))
    ingest(home, store, "first")
    cut(home, store)
    deliver(home, "fix", {}, {f"s{n:03}": mask(n % 3, 1000 + n) for n in range(1, 120, 3)})
    ingest(home, store, "fix")
    cut(home, store)
    good = experiment(store, "DS-1.0.0", "C-01", commit="a" * 40)
    released(store, good, "v0.1.0", "production")
    other = TrainingConfig(steps=31)
    bad = experiment(store, "DS-1.0.1", "C-02", half, b"bad", other, commit="b" * 40)
    released(store, bad, "v0.2.0")
    return home.root


def test_two_models_are_compared(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "compare.html"
    text = run("compare", "production", "DS-1.0.1/C-02", "--html", str(page)).output
    assert "production → DS-1.0.1 × C-02" in text
    assert "40 samples relabelled (Crack 40)" in text
    assert "+ fix: 40 relabelled" in text
    assert "steps: 30 → 31" in text
    assert "what trains is the same in both" in text
    assert "2 things changed at once (data, config)" in text
    assert "had another label" in text
    assert "production → DS-1.0.1 × C-02" in page.read_text()

    told = json.loads(run("compare", "v0.1.0", "v0.2.0", "--json").stdout)
    assert told["differences"]["config"] == {"steps": {"before": 30, "after": 31}}
    assert told["comparison"]["scores"]["dice"]["before"] == 1
    assert told["comparison"]["scores"]["dice"]["after"] < 1
    same = run("compare", "v0.1.0", "production").output
    assert "nothing differs" in same


def test_what_cannot_be_compared_says_what_can(run: Run) -> None:
    said = run("compare", "v0.1.0", "v0.9.0", code=1).output
    assert "known: production, v0.1.0, v0.2.0, DS-1.0.0/C-01, DS-1.0.1/C-02" in said


def test_all_are_on_the_leaderboard(run: Run) -> None:
    text = run("leaderboard").output
    assert text.index("DS-1.0.1 × C-02 ★") < text.index("DS-1.0.0 × C-01 ★")
    assert "Only rows with the same number under test" in text
    told = json.loads(run("leaderboard", "--json").stdout)
    assert [s["releases"] for s in told["standings"]] == [["v0.2.0"], ["v0.1.0"]]


def test_an_empty_leaderboard_says_so(run: Run, tmp_path: Path) -> None:
    home_of(tmp_path / "empty")
    assert (
        "nothing was evaluated yet" in run("--home", str(tmp_path / "empty"), "leaderboard").output
    )


class Idle:
    """Follows recipes without work; a model of the bad data sees half of each image."""

    def __init__(self, store: Any, *places: object) -> None:
        self._good = store.record("experiments/DS-1.0.0/C-01").parents["dataset_split"]

    def train(self, recipe: Any, say: Callable[[str], None]) -> Trained:
        say("step 1 of 1")
        return Trained(bundle_of(recipe.key.encode()), {})

    def look(self, recipe: Any, bundle: str, images: Any, say: Any) -> Iterator[Any]:
        import numpy as np

        width = SIDE if recipe.split == self._good else SIDE // 2
        for _ in images:
            found = np.zeros((SIDE, SIDE), np.uint8)
            found[:, :width] = 1
            yield analysis(found)


def test_a_cause_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workshop, "Workshop", Idle)
    text = run("triage", "v0.1.0", "v0.2.0").output
    assert "training 1 of 2: data as in the bad one" in text
    assert "data of v0.2.0, the rest of v0.1.0: trained in 0 s" in text
    assert "\ndata: it carries most of the change on the same test (data 100%, config 0%)" in text
    assert "+ fix: 40 relabelled; " in text
    assert "s001" in text
    assert "defect-assets diff DS-1.0.0 DS-1.0.1" in text
    told = json.loads(run("triage", "v0.1.0", "v0.2.0", "--json").stdout)
    assert told["cause"] == "data"
    assert not any(combination["trained"] for combination in told["combinations"])
    assert "nothing" not in run("triage", "v0.1.0", "v0.2.0").output.split("data: it carries")[0]
    said = run("triage", "v0.1.0", "production", code=1).output
    assert "of the same data, configuration, code and environment" in said


def test_a_home_without_a_model_is_told_so(run: Run, tmp_path: Path) -> None:
    home = Home(tmp_path / "empty")
    home_of(home.root)
    said = run("--home", str(home.root), "triage", "v0.1.0", "v0.2.0", code=1).output
    assert "nothing was evaluated yet" in said
