"""What the tests of releases share: a small dataset, split, and a checkout with gates."""

from pathlib import Path

import pytest

from defect_assets.store import Store
from tests.experiments import LENIENT, new_home, small_dataset, write_gates


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A committed checkout whose gates a model can hardly fail."""
    write_gates(tmp_path / "checkout", **LENIENT)
    return tmp_path / "checkout"


@pytest.fixture
def dataset(tmp_path: Path, store: Store) -> str:
    """DS-1.0.0, split."""
    return small_dataset(new_home(tmp_path / "home"), store)
