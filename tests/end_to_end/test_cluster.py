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
from tests.servers.faults import Fault, FaultyProxy
from tests.servers.hosts import HERE, Host, hosts
from tests.servers.postgres import Postgres, postgres
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
    bucket: FaultyProxy
    """What stands between all of them and the bucket."""

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

    def wait_for_training(self, walk: subprocess.Popen) -> Node:
        """Wait until a model is being trained; return the node on which it is."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for node in self.cluster.workers:
                if node.workers("RayTrainWorker"):
                    return node
            assert walk.poll() is None, self.log.read_text()[-5000:]
            time.sleep(0.1)
        raise TimeoutError(self.log.read_text()[-5000:])

    def check(self, alone: dict[str, str | None]) -> None:
        """Make sure that all is there, sound, and as on one machine."""
        assert contents(self.home.store()) == alone
        assert verify(self.home.store(cached=False)).damages == ()
        assert "All is up to date" in self.run("repro")


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
def database() -> Iterator[Postgres]:
    with ExitStack() as stack:
        try:
            yield stack.enter_context(postgres())
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
def plant(small: Checkout, network: list[Host | None], database: Postgres) -> Iterator[Plant]:
    """A head that only coordinates, two workers with a processor each, a bucket, a database."""
    home = small.root / f"plant-{time.monotonic_ns()}"
    deliver(small, home)
    here = HERE if network[0] else "127.0.0.1"
    with moto_server(here) as server, FaultyProxy(server.endpoint, host=here) as bucket:
        url = server.new_store()
        own = server.environment() | {"AWS_ENDPOINT_URL": bucket.endpoint}
        cluster = RayCluster(code=small.root, host=here, variables=own)
        environment = {
            **small.environment,
            **own,
            **cluster.environment,
            "DEFECT_HOME": str(home),
            "DAGSTER_HOME": str(home / "dagster"),
            "BENTOML_HOME": str(home / "bentoml"),
            "DEFECT_STORE": url,
            "DEFECT_POSTGRES": database.url,
        }
        try:
            cluster.start(0)
            for host in network:
                cluster.add_worker(on=host)
            yield Plant(small, cluster, environment, Home(home, url, server.access()), bucket)
        finally:
            cluster.stop()


def test_the_road_comes_to_the_same_digests_though_a_machine_is_lost(
    plant: Plant, alone: dict[str, str | None]
) -> None:
    walk = plant.start("repro")
    node = plant.wait_for_training(walk)
    node.kill()
    plant.cluster.workers.remove(node)
    assert walk.wait(SECONDS) == 0, plant.log.read_text()[-5000:]
    plant.check(alone)
    assert "all is sound" in plant.run("verify")


def test_a_head_that_dies_fails_the_run_and_repro_ends_the_work(
    plant: Plant, alone: dict[str, str | None]
) -> None:
    walk = plant.start("repro")
    plant.wait_for_training(walk)
    plant.cluster.kill_head()
    assert walk.wait(SECONDS) != 0
    for node in plant.cluster.workers:  # who lost their head for good
        node.kill()
    plant.cluster.workers.clear()
    plant.cluster.start(0)
    plant.cluster.add_worker()
    plant.run("repro")
    plant.check(alone)


def test_a_bucket_that_refuses_and_a_database_that_restarts_are_waited_for(
    plant: Plant, alone: dict[str, str | None], database: Postgres
) -> None:
    plant.bucket.fail(Fault.SLOW_DOWN, probability=0.2)
    walk = plant.start("repro")
    plant.wait_for_training(walk)
    plant.bucket.fail(Fault.RESET)
    database.restart(5)
    time.sleep(55)
    plant.bucket.heal()
    if walk.wait(SECONDS):  # it met one of them at a moment that it does not bear, and says so
        assert "Traceback" not in plant.log.read_text()
        plant.run("repro")
    plant.check(alone)
