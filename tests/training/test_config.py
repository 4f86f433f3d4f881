from pathlib import Path

import pytest

from defect_assets.home import CONFIGS
from defect_assets.settings import SettingsError, read_settings
from defect_assets.training.config import TrainingConfig, config_ids


@pytest.mark.parametrize("config", config_ids(CONFIGS))
def test_the_committed_configurations_are_sound(config: str) -> None:
    assert read_settings(CONFIGS / f"{config}.yaml", TrainingConfig).notes


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "C-01.yaml").write_text("")
    assert read_settings(tmp_path / "C-01.yaml", TrainingConfig) == TrainingConfig()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps: many", "steps"),
        ("stesp: 10", "stesp: Extra inputs"),
        ("input: {height: 100}", r"input\.height"),
        ("loss: {hinge: 1}", r"loss\.hinge"),
        ("loss: {}", "loss"),
        ("loss: {dice: 0}", r"loss\.dice"),
        ("optimizer: {learning_rate: 0}", r"optimizer\.learning_rate"),
        ("optimizer: {name: adamm}", r"optimizer\.name"),
        ("{steps: 10, epochs: 2}", "steps or epochs, not both"),
        ("{min_recall: 0.9, max_false_alarms: 0.1}", "min_recall or max_false_alarms, not both"),
        ("min_recall: 2", "min_recall"),
        ("sampling: {defect_free: 0.6, pasted: 0.5}", "sampling: .*not be more than 1"),
        ("augmentation: [{HorizontalFlop: {}}]", r"augmentation\.0: .*no transform HorizontalFlop"),
        ("augmentation: [{Affine: {rotat: 3}}]", r"augmentation\.0: .*rotat"),
        ("architecture: {name: unet}", "needs an encoder"),
        ("a: [", "not YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "C-01.yaml").write_text(text)
    with pytest.raises(SettingsError, match=says):
        read_settings(tmp_path / "C-01.yaml", TrainingConfig)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"C-99\.yaml"):
        read_settings(tmp_path / "C-99.yaml", TrainingConfig)


def test_only_files_named_as_ids_are_configurations(tmp_path: Path) -> None:
    for name in ["C-02.yaml", "C-01.yaml", "C-xx.yaml", "notes.yaml", "C-03.txt"]:
        (tmp_path / name).touch()
    assert config_ids(tmp_path) == ["C-01", "C-02"]
