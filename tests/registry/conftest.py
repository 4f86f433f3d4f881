"""What the tests of the registry share: small datasets, and a checkout with gates."""

import shutil
from pathlib import Path

import pytest

from defect_assets.home import Home
from defect_assets.store import Store
from tests.experiments import LENIENT, new_home, small_dataset, write_gates
from tests.small import cut, deliver, home_of, ingest, mask, plain

SAMPLES = 120
RELABELLED = tuple(n for n in range(1, SAMPLES, 2) if n % 3)
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


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A committed checkout whose gates a model can hardly fail."""
    write_gates(tmp_path / "checkout", **LENIENT)
    return tmp_path / "checkout"


@pytest.fixture
def dataset(tmp_path: Path, store: Store) -> str:
    """DS-1.0.0, split."""
    return small_dataset(new_home(tmp_path / "home"), store)
