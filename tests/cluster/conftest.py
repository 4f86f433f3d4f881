"""A real cluster of two nodes, for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.servers.ray import RayCluster, ray_cluster


@pytest.fixture(scope="package")
def running() -> Iterator[RayCluster]:
    pytest.importorskip("ray")
    with ray_cluster(1, 1) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: RayCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayCluster]:
    """The cluster, as this process reaches it."""
    import ray

    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    yield running
    ray.shutdown()
