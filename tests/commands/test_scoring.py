"""Scoring by the command line, with a network that nobody trained."""

import json
from pathlib import Path

import pandas as pd
import pytest

from defect_assets.dataset.synthetic import synthetic_samples
from tests.commands.conftest import Run
from tests.releases import publish_release
from tests.small import home_of


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = home_of(tmp_path_factory.mktemp("scoring") / "home")
    publish_release(home.store(), "v0.1.0", 1)
    publish_release(home.store(), "v0.2.0", 2)
    return home.root


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for sample in synthetic_samples(0, 1, 2):
        (folder / f"{sample.sample}.png").write_bytes(sample.image)
    return folder


def test_a_folder_is_scored_by_the_newest_release(run: Run, images: Path, tmp_path: Path) -> None:
    asked = ("score", "--input", str(images), "--output", str(tmp_path / "out"))
    assert "v0.2.0 looked at 6 images:" in run(*asked).output
    assert "6 images, 6 of them before" in run(*asked).output
    told = json.loads(run(*asked, "--json").stdout)
    assert told["manifest"]["release"] == "v0.2.0"
    assert sum(told["verdicts"].values()) == told["found"] == 6
    assert len(pd.read_parquet(tmp_path / "out" / "images")) == 6
    assert "another model" in run(*asked, "--release", "v0.1.0", code=1).output


def test_an_image_that_nobody_can_read_is_told_by_the_exit_code(
    run: Run, images: Path, tmp_path: Path
) -> None:
    (images / "empty.png").touch()
    said = run("score", "--input", str(images), "--output", str(tmp_path / "out"), code=3).output
    assert "looked at 7 images" in said
    assert "1 could not be read" in said


def test_what_cannot_be_scored_says_what_can(run: Run, images: Path, tmp_path: Path) -> None:
    output = ("--output", str(tmp_path / "out"))
    asked = ("score", "--input", str(images), *output)
    assert "known: v0.1.0, v0.2.0" in run(*asked, "--release", "v9.0.0", code=1).output
    nowhere = run("score", "--input", str(tmp_path / "nowhere"), *output, code=1).output
    assert "there is no folder" in nowhere
    unknown = run("score", "--input", "DS-9.9.9", *output, code=1).output
    assert "there is no dataset DS-9.9.9" in unknown
    empty = home_of(tmp_path / "empty").root
    assert "nothing is released yet" in run("--home", str(empty), *asked, code=1).output
