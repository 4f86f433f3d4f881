import subprocess
import sys
from pathlib import Path

from tests.conftest import PROJECT


def test_no_floor_imports_upwards() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [lint, "--no-cache"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


def test_dg_finds_the_definitions() -> None:
    dg = Path(sys.executable).with_name("dg")
    result = subprocess.run(
        [dg, "list", "defs", "--json"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for asset in ["raw_images", "dataset_manifest", "trained_model", "defect_bento"]:
        assert f'"{asset}"' in result.stdout


def test_workspace_yaml_loads() -> None:
    dagster = Path(sys.executable).with_name("dagster")
    result = subprocess.run(
        [dagster, "definitions", "validate", "--workspace", "workspace.yaml"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
