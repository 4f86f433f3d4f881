"""The same work on a real cluster of this machine's processes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from defect_assets.errors import UserError
from defect_assets.scoring.released import as_served, chosen
from defect_assets.scoring.score import score
from defect_assets.scoring.sources import FolderSource
from defect_assets.store import Store
from tests.scoring.conftest import BROKEN, IMAGES, assert_same
from tests.servers.ray import RayCluster, ray_cluster

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[RayCluster]:
    """A head that does no work, and a worker of one processor; this process is a client of it."""
    import ray

    with ray_cluster(0, 1) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running
        ray.shutdown()


def test_a_cluster_gives_what_one_process_gives(
    released: Store,
    images: Path,
    tmp_path: Path,
    cluster: RayCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = chosen(released, None)
    model = as_served(released, release)

    def run(output: str, tell: Callable[[int, int], None] = lambda done, total: None) -> None:
        place = str(tmp_path / output)
        outcome = score(release, model, FolderSource(images), place, tell, shard_size=2)
        assert outcome.images == IMAGES + len(BROKEN)
        assert outcome.unread == len(BROKEN)

    with monkeypatch.context() as alone:
        alone.setenv("DEFECT_DEPLOY", "local")
        run("alone")
    run("cluster")
    assert_same(tmp_path / "cluster", tmp_path / "alone")

    # An actor dies in the middle, then the whole machine that it was on; another one is there.
    killed: list[str] = []

    def disturb(done: int, total: int) -> None:
        if not killed and done > total / 4:
            [actor] = cluster.workers[-1].workers("MapWorker")
            actor.kill()
            killed.append("actor")
        elif len(killed) == 1 and done > total / 2:
            killed.append("machine")
            cluster.kill_worker()
            cluster.add_worker(1)

    run("disturbed", disturb)
    assert killed == ["actor", "machine"]
    assert_same(tmp_path / "disturbed", tmp_path / "alone")

    # What stops the whole work is told as it is without a cluster.
    images.rename(tmp_path / "hidden")
    (tmp_path / "disturbed" / "images" / "part-000000.parquet").unlink()
    with pytest.raises(UserError, match="is not there any more"):
        run("disturbed")
