from pathlib import Path

import pytest

from defect_assets.dataset.description import (
    DatasetDescription,
    write_description,
)
from defect_assets.home import CONFIGS, Home, HomeError, known_description
from defect_assets.settings import SettingsError, read_settings


@pytest.mark.parametrize(
    "path", sorted((CONFIGS / "datasets").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_committed_descriptions_are_sound(path: Path) -> None:
    assert read_settings(path, DatasetDescription).name == path.stem


def test_a_description_comes_back_as_it_was(
    tmp_path: Path, description: DatasetDescription
) -> None:
    write_description(description, tmp_path / "dataset.yaml")
    assert read_settings(tmp_path / "dataset.yaml", DatasetDescription) == description


SOUND = "name: x\nclasses: [{id: 1, name: a, color: '#000000'}]"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: x", "classes"),
        ("name: X Y\nclasses: [{id: 1, name: a, color: '#000000'}]", "name"),
        ("name: x\nclasses: [{id: 1, name: a, color: red}]", "color"),
        ("name: x\nclasses: [{id: 2, name: a, color: '#000000'}]", "1, 2, 3"),
        ("name: x\nclases: []", "clases"),
        ("name: x\nclasses: [{id: 1, name: Free, color: '#000000'}]", "must differ"),
        (
            "name: x\nclasses: [{id: 1, name: a, color: '#000000'}]\nsplit: {train: 0.9}",
            "sum to 1",
        ),
        (f"{SOUND}\nsplit: {{folds: 1}}", "folds: .*nothing to train on"),
        (f"{SOUND}\ngroups: {{pattern: '(?P<group>'}}", r"groups\.pattern: .*not a regular"),
        (f"{SOUND}\ngroups: {{pattern: 'part-'}}", r"groups\.pattern: .*one named group"),
        (
            f"{SOUND}\ngroups: {{capture_sequence: {{pattern: '(?P<group>.)'}}}}",
            r"groups\.capture_sequence\.pattern: .*\?P<capture>",
        ),
        (
            f"{SOUND}\ngroups: {{pattern: '(?P<group>.)', capture_sequence: "
            "{pattern: '(?P<capture>.)'}}",
            "take one",
        ),
        (f"{SOUND}\ngroups: {{near_duplicates: {{similarity: 2}}}}", "similarity"),
        ("name: [", "not YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "dataset.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=says):
        read_settings(path, DatasetDescription)


def test_a_home_holds_one_dataset(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.hold(known_description("synthetic-tiles"))
    home.hold(known_description("synthetic-tiles"))
    with pytest.raises(HomeError, match="--home"):
        home.hold(known_description("magnetic-tiles"))


def test_an_unknown_description_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="magnetic-tiles, synthetic-tiles"):
        known_description("bottles")


@pytest.mark.parametrize(
    ("said", "joined"), [("off", None), ("{}", 0.85), ("{similarity: 0.9}", 0.9)]
)
def test_near_duplicates_are_joined_or_not_looked_at(
    tmp_path: Path, said: str, joined: float | None
) -> None:
    path = tmp_path / "dataset.yaml"
    path.write_text(f"{SOUND}\ngroups: {{near_duplicates: {said}}}")
    read = read_settings(path, DatasetDescription)
    assert read.groups.joined_above == joined
    write_description(read, path)
    assert read_settings(path, DatasetDescription) == read
