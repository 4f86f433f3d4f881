"""The same work on a real cluster of this machine's processes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from defect_assets.errors import UserError
from defect_assets.registry.channels import in_use
from defect_assets.scoring.predictions import predict
from defect_assets.scoring.released import as_evaluated, as_served
from defect_assets.scoring.score import score
from defect_assets.scoring.sources import BucketSource, FolderSource, SnapshotSource, Source
from defect_assets.store import S3Access, Store
from tests.scoring.conftest import BROKEN, IMAGES, assert_same, fetch, upload
from tests.servers.ray import RayCluster, ray_cluster
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running() -> Iterator[RayCluster]:
    """A head that does no work, and a worker of one processor."""
    import ray

    with ray_cluster(0, 1) as cluster:
        yield cluster
        ray.shutdown()


@pytest.fixture
def cluster(running: RayCluster, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    """The cluster does the work from now on."""
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    return running


def run(
    store: Store,
    source: Source,
    output: object,
    access: S3Access | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    release = in_use(store, None)
    model = as_served(store, release)
    outcome = score(release, model, source, str(output), tell, access, shard_size=2)
    assert (outcome.images, outcome.unread) == (IMAGES + len(BROKEN), len(BROKEN))


@pytest.fixture
def alone(released: Store, images: Path, tmp_path: Path) -> Path:
    """What one process makes of the images."""
    run(released, FolderSource(images), tmp_path / "alone")
    return tmp_path / "alone"


def test_a_cluster_gives_what_one_process_gives(
    released: Store, images: Path, tmp_path: Path, alone: Path, moto: S3Server, cluster: RayCluster
) -> None:
    run(released, FolderSource(images), tmp_path / "cluster")
    assert_same(tmp_path / "cluster", alone)
    place = moto.new_store()
    upload(images, moto, f"{place}/in")
    run(released, BucketSource(f"{place}/in"), f"{place}/out", moto.access())
    assert_same(fetch(moto, f"{place}/out", tmp_path / "fetched"), alone)


def test_what_is_lost_with_an_actor_or_a_machine_is_done_again(
    released: Store, images: Path, tmp_path: Path, alone: Path, cluster: RayCluster
) -> None:
    killed: list[str] = []

    def disturb(done: int, total: int) -> None:
        if not killed and done > total / 4:
            [actor] = cluster.workers[-1].workers("MapWorker")
            actor.kill()
            killed.append("actor")
        elif len(killed) == 1 and done > total / 2:
            cluster.kill_worker()
            cluster.add_worker(1)
            killed.append("machine")

    run(released, FolderSource(images), tmp_path / "disturbed", tell=disturb)
    assert killed == ["actor", "machine"]
    assert_same(tmp_path / "disturbed", alone)


def test_predictions_have_the_digest_that_one_process_gives_them(
    released: Store,
    snapshot: SnapshotSource,
    cluster: RayCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = in_use(released, None)
    model = as_evaluated(released, release)
    there = predict(release.bundle, model, snapshot)
    monkeypatch.setenv("DEFECT_DEPLOY", "local")
    assert predict(release.bundle, model, snapshot) == there


def test_what_stops_the_work_is_told_as_without_a_cluster(
    released: Store,
    images: Path,
    tmp_path: Path,
    alone: Path,
    moto: S3Server,
    cluster: RayCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in moto.environment().items():
        monkeypatch.setenv(name, value)  # here; the cluster's machines have no credentials
    place = moto.new_store()
    upload(images, moto, place)
    with pytest.raises(UserError, match=f"there are no credentials for {place}"):
        run(released, BucketSource(place), tmp_path / "out")
    images.rename(tmp_path / "hidden")
    (alone / "images" / "part-000000.parquet").unlink()
    with pytest.raises(UserError, match="there is no folder .*/images on .*: each machine"):
        run(released, FolderSource(images), alone)
