import ast
import re
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


def test_the_service_imports_what_is_shipped_and_nothing_else() -> None:
    """Of this project the inference code, of others what its requirements name."""
    bento = PROJECT / "bento"
    lines = (bento / "requirements-cpu.in").read_text().splitlines()
    named = {re.split("[ #]", line)[0].replace("-", "_") for line in lines}
    known = {"opencv_python_headless": "cv2", "pillow": "PIL"}
    allowed = {known.get(name, name) for name in named} | {"detector_service"}
    for file in bento.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            for module in modules:
                root = module.split(".")[0]
                if root == "defect_assets":
                    assert module.startswith("defect_assets.inference."), f"{file}: {module}"
                else:
                    assert root in allowed | sys.stdlib_module_names, f"{file}: {module}"


def test_every_benchmark_finds_what_it_measures() -> None:
    """They are run by hand, and must not be found broken then."""
    names = sorted(p.stem for p in (PROJECT / "benchmarks").glob("*.py") if p.stem != "__init__")
    script = "import importlib, sys; [importlib.import_module(m) for m in sys.argv[1:]]"
    modules = [f"benchmarks.{name}" for name in names]
    subprocess.run([sys.executable, "-c", script, *modules], cwd=PROJECT, check=True, timeout=120)
