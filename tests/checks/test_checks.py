"""The checks on real partitions: each says what is wrong, and of which partition."""

import json
import shutil
from pathlib import Path

import dagster as dg
import pytest
import yaml

from defect_assets.checks import scores
from defect_assets.registry.packaging import bento_folder
from defect_assets.registry.release.releases import find_release
from defect_assets.registry.smoke import ask_bento
from tests.assets.test_assets import (
    EXPERIMENT,
    Platform,
    checked,
    configs,  # noqa: F401
    instance,  # noqa: F401
    platform,  # noqa: F401
)
from tests.checkouts import commit_all
from tests.conftest import deliver

# ruff: noqa: F811


def test_an_image_that_is_there_twice_is_a_warning(platform: Platform) -> None:
    folder = deliver(platform.home.inbox, "first", 1, 8)
    images, masks = folder / "images", folder / "masks"
    one, *_ = sorted(images.iterdir())
    shutil.copy(one, images / "copy-exp1.jpg")
    table = folder / "samples.csv"
    header, first, *rows = table.read_text().splitlines()
    sample, *rest = first.split(",")
    copied = ",".join(["copy-exp1", *rest])
    table.write_text("\n".join([header, first, *rows, copied]) + "\n")
    for mask in list(masks.glob(f"{sample}.*")):
        shutil.copy(mask, masks / f"copy-exp1{mask.suffix}")
    assert platform.materialize("raw_images", "first").success
    result = platform.materialize("dataset_manifest", "DS-1.0.0")
    assert result.success
    found = checked(result, "no_duplicates")
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert found.metadata["dataset"].value == "DS-1.0.0"
    assert found.metadata["same image"].value == [["copy-exp1", sample]]
    assert found.metadata["same image, other label"].value == []


def test_a_class_that_a_part_lacks_and_a_new_mix_are_warnings(platform: Platform) -> None:
    deliver(platform.home.inbox, "first", 1, 6)
    assert platform.materialize("raw_images", "first").success
    result = platform.materialize("dataset_manifest", "DS-1.0.0")
    assert checked(result, "class_balance").passed
    assert checked(result, "images_are_intact").metadata["samples read"].value == 18
    result = platform.materialize("dataset_split", "DS-1.0.0")
    assert result.success
    covered = checked(result, "classes_are_covered")
    assert not covered.passed
    assert covered.severity == dg.AssetCheckSeverity.WARN
    assert any(covered.metadata["missing"].value.values())

    # The same parts again, all said to be free of defects: another mix.
    folder = deliver(platform.home.inbox, "second", 100, 40)
    table = folder / "samples.csv"
    header, *rows = table.read_text().splitlines()
    at = header.split(",").index("class")
    free = [row for row in rows if row.split(",")[at] == "Free"]
    kept = {row.split(",")[0] for row in free}
    table.write_text("\n".join([header, *free]) + "\n")
    for file in [*(folder / "images").iterdir(), *(folder / "masks").iterdir()]:
        if file.stem not in kept:
            file.unlink()
    assert platform.materialize("raw_images", "second").success
    result = platform.materialize("dataset_manifest", "DS-1.1.0")
    balance = checked(result, "class_balance")
    assert not balance.passed
    assert balance.metadata["parent"].value == "DS-1.0.0"
    assert balance.metadata["drift"].value > 0.1
    assert balance.metadata["shares grew by"].value["Free"] > 0.1


def test_an_evaluation_is_held_against_the_gates_and_a_bento_is_asked(
    platform: Platform,
    configs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scores, "PROJECT", configs.parent)
    gates = configs / "gates.yaml"
    gates.write_text(yaml.safe_dump({"floors": {"dice": 0.999}, "latency_p95_ms": 0.001}))
    commit_all(configs.parent)
    platform.prepare()
    assert platform.materialize("trained_model", EXPERIMENT).success
    result = platform.materialize("evaluation_report", EXPERIMENT)
    assert result.success
    passed = {name: checked(result, name).passed for name in scores.SPECS}
    assert passed == {
        "metric_floors": False,
        "no_class_worse_than_production": True,
        "latency_budget": False,
    }
    floor = checked(result, "metric_floors")
    assert floor.severity == dg.AssetCheckSeverity.WARN
    assert floor.metadata["experiment"].value == "DS-1.0.0 × C-01"
    assert "at least 0.999 is asked for" in str(floor.metadata["gates"].value)

    gates.write_text(yaml.safe_dump({"no_leaks": True}))
    commit_all(configs.parent)
    assert platform.materialize("model_release", "v0.1.0").success
    result = platform.materialize("defect_bento", "v0.1.0")
    assert result.success
    answered = checked(result, "bento_answers")
    assert answered.passed
    assert answered.metadata["status"].value == 200
    assert answered.metadata["verdict"].value in ("ok", "ng", "uncertain")

    release = find_release(platform.home.store(), "v0.1.0")
    assert release is not None
    broken = ask_bento(platform.home.bentoml, release, b"no image")
    assert not broken.sound
    assert 400 <= broken.status < 500
    service = bento_folder(platform.home.bentoml, release) / "src" / "service.py"
    service.chmod(0o644)
    service.write_text("raise RuntimeError('half of it is missing')")
    dead = ask_bento(platform.home.bentoml, release, b"")
    assert not dead.sound
    assert "half of it is missing" in dead.said
    assert json.loads(dead.model_dump_json())["status"] == 0
