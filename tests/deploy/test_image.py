"""The platform's image, built without a container engine. It downloads some gigabytes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from defect_assets.home import CONFIGS
from tests.conftest import PROJECT
from tests.end_to_end.test_container import NEEDED, Builder, builder

__all__ = ["builder"]

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(os.geteuid() != 0, reason="buildah's chroots need root here"),
    pytest.mark.skipif(
        not all(map(shutil.which, NEEDED)), reason=f"apt-get install {' '.join(NEEDED)}"
    ),
]
DOCKERFILE = CONFIGS / "deploy" / "compose" / "Dockerfile"


@pytest.fixture(scope="module")
def container(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> str:
    clone = tmp_path_factory.mktemp("clone") / "defect-assets"
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], check=True)
    (clone / "home").mkdir()
    (clone / "home" / "large").touch()
    recipe = clone / DOCKERFILE.relative_to(PROJECT)
    builder("bud", "--pull-never", "--layers=false", "--file", str(recipe), "-t", "it", str(clone))
    return builder("from", "--pull-never", "localhost/it")


def inside(builder: Builder, container: str, script: str) -> str:
    return builder("run", container, "--", "sh", "-c", script)


def test_nobody_in_it_is_root(builder: Builder, container: str) -> None:
    assert inside(builder, container, "id -un") == "platform"


def test_it_is_a_clean_commit(builder: Builder, container: str) -> None:
    """Else what is trained in it could not be released."""
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert inside(builder, container, "git rev-parse HEAD") == head.stdout.strip()
    assert inside(builder, container, "git status --porcelain") == ""
    assert inside(builder, container, "ls -d home || true") == ""


@pytest.mark.parametrize("shell", ["sh -c", "bash -lc"])  # KubeRay starts its nodes by the latter
def test_the_commands_are_found(builder: Builder, container: str, shell: str) -> None:
    for command in ("defect-assets", "dagster", "dagster-webserver", "dagster-daemon", "ray"):
        found = inside(builder, container, f"{shell} 'command -v {command}'")
        assert Path(found).parent == Path("/opt/venv/bin")


def test_it_works_on_a_home(builder: Builder, container: str) -> None:
    inside(builder, container, "defect-assets prepare")
    inside(builder, container, "defect-assets import synthetic --tiles 4 --name one")
    status = inside(builder, container, "defect-assets ingest && defect-assets status")
    assert "1 new" not in status
    assert "one" in status
