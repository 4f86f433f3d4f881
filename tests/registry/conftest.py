"""A small home with two versions of the data."""

import shutil
from pathlib import Path

import pytest

from defect_assets.home import Home
from tests.small import cut, deliver, home_of, ingest, mask, plain

SAMPLES = 120
RELABELLED = tuple(n for n in range(0, SAMPLES, 5) if n % 3)
"""Of DS-1.0.0, in DS-1.0.1."""


@pytest.fixture(scope="session")
def _versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = home_of(tmp_path_factory.mktemp("versions") / "home")
    store = home.store()
    plain(home, "first", range(SAMPLES))
    ingest(home, store, "first")
    cut(home, store)
    deliver(home, "fix", {}, {f"s{n:03}": mask(n % 3, 1000 + n) for n in RELABELLED})
    ingest(home, store, "fix")
    cut(home, store)
    return home.root


@pytest.fixture
def versions(_versions: Path, tmp_path: Path) -> Home:
    """A home with DS-1.0.0, and DS-1.0.1 in which the delivery ``fix`` relabelled some samples."""
    shutil.copytree(_versions, tmp_path / "home", copy_function=shutil.copyfile)
    return Home(tmp_path / "home")
