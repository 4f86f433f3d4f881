"""The whole road on a cluster: Ray for the work, S3 for the store, Postgres for Dagster.

The same deliveries come to the same digests as on one machine, whoever is lost meanwhile.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from defect_assets.home import Home
from defect_assets.store.verify import verify
from tests.end_to_end.conftest import Checkout
from tests.servers.hosts import HERE, Host, hosts
from tests.servers.postgres import postgres_server
from tests.servers.ray import Node, RayCluster
from tests.servers.s3 import Unavailable, moto_server
from tests.small import contents

pytestmark = pytest.mark.slow
pytest.importorskip("ray")

SECONDS = 500


@dataclass
class Plant:
    """A checkout whose home's data are in a bucket, and the cluster that works on them."""

    checkout: Checkout
    cluster: RayCluster
    environment: dict[str, str]
    home: Home

    def start(self, *arguments: str) -> subprocess.Popen:
        """Begin a command."""
        with self.log.open("w") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "defect_assets", *arguments],
                cwd=self.checkout.root,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def run(self, *arguments: str, code: int = 0) -> str:
        """Do a command; return what it prints."""
        process = self.start(*arguments)
        assert process.wait(SECONDS) == code, self.log.read_text()[-5000:]
        return self.log.read_text()

    @property
    def log(self) -> Path:
        return self.checkout.root / "cluster.log"

    def trains_on(self) -> Node | None:
        """Return the node on which a model is being trained, if one is."""
        return next((node for node in self.cluster.workers if node.workers("RayTrain")), None)


def deliver(checkout: Checkout, home: Path) -> None:
    for name, first in (("one", 1), ("two", 17)):
        checkout.cli(
            *("--home", str(home), "import", "synthetic"),
            *("--first", str(first), "--tiles", "16", "--name", name),
        )


@pytest.fixture(scope="module")
def small(copy_checkout: Callable[[], Checkout]) -> Checkout:
    checkout = copy_checkout()
    checkout.configure(steps=300)
    return checkout


@pytest.fixture(scope="module")
def alone(small: Checkout) -> dict[str, str | None]:
    """What the road comes to on one machine."""
    home = small.root / "alone"
    deliver(small, home)
    small.cli("--home", str(home), "repro")
    return contents(Home(home).store())


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with ExitStack() as stack:
        try:
            yield stack.enter_context(postgres_server())
        except Unavailable as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def network() -> Iterator[list[Host | None]]:
    """Two hosts; where the machine allows none, this one is both."""
    with ExitStack() as stack:
        try:
            yield [*stack.enter_context(hosts(2))]
        except Unavailable:
            yield [None, None]


@pytest.fixture
def plant(small: Checkout, network: list[Host | None], database: str) -> Iterator[Plant]:
    """A head that only coordinates, two workers with a processor each, a bucket, a database."""
    home = small.root / f"plant-{time.monotonic_ns()}"
    deliver(small, home)
    here = HERE if network[0] else "127.0.0.1"
    with moto_server(here) as bucket:
        url = bucket.new_store()
        own = bucket.environment() | {"OMP_WAIT_POLICY": "PASSIVE"}
        cluster = RayCluster(code=small.root, host=here, variables=own)
        environment = {
            **small.environment,
            **own,
            **cluster.environment,
            "DEFECT_HOME": str(home),
            "DAGSTER_HOME": str(home / "dagster"),
            "BENTOML_HOME": str(home / "bentoml"),
            "DEFECT_STORE": url,
            "DEFECT_POSTGRES": database,
        }
        try:
            cluster.start(0)
            for host in network:
                cluster.add_worker(on=host)
            yield Plant(small, cluster, environment, Home(home, url, bucket.access()))
        finally:
            cluster.stop()


def test_the_road_comes_to_the_same_digests_though_a_machine_is_lost(
    plant: Plant, alone: dict[str, str | None]
) -> None:
    walk = plant.start("repro")
    deadline = time.monotonic() + SECONDS
    while (node := plant.trains_on()) is None:
        assert walk.poll() is None, plant.log.read_text()[-5000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    node.kill()
    assert walk.wait(SECONDS) == 0, plant.log.read_text()[-5000:]
    plant.cluster.workers.remove(node)
    assert contents(plant.home.store()) == alone
    assert verify(plant.home.store(cached=False)).damages == ()
    assert "All is up to date" in plant.run("repro")
    assert "all is sound" in plant.run("verify")
