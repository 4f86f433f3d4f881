import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from defect_assets.home import PROJECT
from defect_assets.registry.environment import current_environment, drift

LOCK = PROJECT / "requirements.lock"


def test_the_environment_is_what_is_installed() -> None:
    environment = current_environment(LOCK)
    assert environment.packages["dagster"] == metadata.version("dagster")
    assert environment.torch == torch.__version__
    assert environment.cuda == torch.version.cuda
    assert len(environment.packages) > 100
    assert current_environment(LOCK) == environment


def test_what_ray_brings_for_itself_is_no_part_of_the_environment() -> None:
    pytest.importorskip("ray")
    before = current_environment(LOCK)
    done = subprocess.run(
        [sys.executable, "-c", "import ray; " + _DIGEST], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == before.digest


_DIGEST = (
    "from defect_assets.registry.environment import current_environment; "
    "from defect_assets.home import LOCK; print(current_environment(LOCK).digest)"
)


def test_another_lock_is_another_environment(tmp_path: Path) -> None:
    other = tmp_path / "requirements.lock"
    other.write_text(LOCK.read_text() + "\n# changed\n")
    assert current_environment(other) != current_environment(LOCK)


def test_a_package_that_differs_from_the_lock_is_named(tmp_path: Path) -> None:
    installed = metadata.version("pandas")
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        f"pandas==0.0.1 ; python_full_version < '3.12' \\\n    --hash=sha256:0\n"
        f"numpy=={metadata.version('numpy')} \\\n    --hash=sha256:0\n"
        "no-such-package==1.0 \\\n    --hash=sha256:0\n"
    )
    assert drift(lock) == {"pandas": ("0.0.1", installed)}


def test_the_installed_packages_are_the_locked_ones() -> None:
    assert drift(LOCK) == {}


def _pins(lock: Path) -> set[str]:
    return {
        line.split(" \\")[0].split(" ;")[0]
        for line in lock.read_text().splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    }


def test_tests_training_and_service_are_pinned_to_the_same_versions() -> None:
    main = _pins(LOCK)
    on_gpu = _pins(PROJECT / "bento" / "requirements-cuda.lock")
    assert _pins(PROJECT / "bento" / "requirements-cpu.lock") < on_gpu < main
    assert main < _pins(PROJECT / "requirements-dev.lock")


def test_the_locks_name_no_registry_and_pin_every_hash() -> None:
    for lock in [LOCK, PROJECT / "requirements-dev.lock", *PROJECT.glob("bento/*.lock")]:
        text = lock.read_text()
        assert "://" not in text
        assert "index-url" not in text
        assert text.count("--hash=sha256:") >= len(_pins(lock))
