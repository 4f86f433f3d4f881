"""What the tests share: empty stores and homes, small deliveries, and the real tiles."""

import os
import tempfile

# BentoML writes into its home when it is imported, and Dagster reads its own: neither may be the
# user's. Set before anything imports them.
_SCRATCH = tempfile.mkdtemp(prefix="defect-assets-tests-")
os.environ["BENTOML_HOME"] = f"{_SCRATCH}/bentoml"
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
os.environ["DEFECT_HOME"] = f"{_SCRATCH}/home"
os.environ.pop("DAGSTER_HOME", None)

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from defect_assets.dataset.delivery import write_delivery
from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.grouping import GroupRules
from defect_assets.dataset.synthetic import synthetic_samples
from defect_assets.home import Home, known_description
from defect_assets.store import Store, open_store
from tests.servers.s3 import S3Server, Unavailable, ceph_server, moto_server

# A timed-out example says more of the machine than of the code.
settings.register_profile("default", deadline=None, max_examples=50)
settings.load_profile("default")

PROJECT = Path(__file__).resolve().parents[1]
TILES = PROJECT.parent / "shared" / "data" / "magnetic-tiles"
TILE_GROUPS = TILES.with_name("magnetic-tiles-groups.csv")


@pytest.fixture(autouse=True)
def bentoml_that_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """BentoML asks once a process where its home is, and another test may have come first."""
    if "bentoml" in sys.modules:
        from bentoml._internal.configuration.containers import BentoMLContainer
        from simple_di import sentinel
        from simple_di.providers import SingletonFactory

        for name, kept in vars(type(BentoMLContainer)).items():
            if isinstance(kept, SingletonFactory) and name.endswith(("_home", "_dir", "_store")):
                monkeypatch.setattr(kept, "_cache", sentinel)


def pytest_sessionfinish() -> None:
    shutil.rmtree(_SCRATCH, ignore_errors=True)


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """An S3 server that is quick to start, and behaves."""
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server as there are in factories."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(ceph_server(tmp_path_factory.mktemp("ceph")))
        except Unavailable as error:
            pytest.skip(str(error))
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def description() -> DatasetDescription:
    """The synthetic tile line's, but that nothing is said of groups."""
    return known_description("synthetic-tiles").model_copy(update={"groups": GroupRules()})


@pytest.fixture
def home(tmp_path: Path, description: DatasetDescription) -> Home:
    """An empty home of the synthetic tile line."""
    home = Home(tmp_path / "home")
    home.hold(description)
    home.prepare()
    return home


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return tmp_path / "inbox"


@pytest.fixture
def delivery(inbox: Path) -> Path:
    """A sound delivery of twelve tiles."""
    return deliver(inbox, "first", 1, 12)


def deliver(inbox: Path, name: str, first: int, tiles: int) -> Path:
    return write_delivery(inbox, name, synthetic_samples(0, first, tiles), f"tiles from {first}")


@pytest.fixture
def magnetic_tiles() -> Path:
    """The real images, where they are at hand."""
    if not TILES.is_dir():
        pytest.skip("the real tiles are not beside this checkout")
    return TILES
