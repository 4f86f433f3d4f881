"""Ray Train gives the model that training here gives; who dies is replaced, who stops goes on."""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from defect_assets.cluster.connection import NoCluster
from defect_assets.cluster.training import TrainingRefused, train_on_ray
from defect_assets.dataset.split import read_split
from defect_assets.home import Home
from defect_assets.store import Store
from defect_assets.training.config import TrainingConfig
from defect_assets.training.hardware import Hardware
from defect_assets.training.task import News, Outcome, TrainingTask, run_task
from tests.experiments import new_home, small_dataset
from tests.servers.ray import RayCluster

pytestmark = pytest.mark.slow

SMALL = TrainingConfig.model_validate(
    {
        "steps": 60,
        "input": {"height": 32, "width": 32},
        "architecture": {"widths": [4, 8]},
        "sampling": {"batch_size": 4},
    }
)


@dataclass
class Line:
    """A split dataset, and trainings on it."""

    home: Home
    store: Store

    def task(self, name: str, steps: int = 60, minutes: float = 2, **hardware: int) -> TrainingTask:
        return TrainingTask(
            store=self.home.url,
            cache=self.home.cache,
            split=read_split(self.store, self.store.content("splits/DS-1.0.0") or ""),
            config=SMALL.model_copy(update={"steps": steps}),
            hardware=Hardware.model_validate({"accelerator": "cpu", **hardware}),
            fitted=self.home.fitted,
            state=self.home.root / "states" / name,
            identity=f"{steps} {hardware}",
            checkpoint_minutes=minutes,
            tensorboard=self.home.tensorboard / name,
        )


@pytest.fixture
def line(tmp_path: Path) -> Line:
    home = new_home(tmp_path / "home")
    store = home.store()
    small_dataset(home, store)
    return Line(home, store)


def ignore(_: News) -> None:
    pass


def go_on() -> bool:
    return False


def dice(store: Store, outcome: Outcome) -> list[float]:
    return [point.val_dice for point in outcome.history]


@pytest.mark.usefixtures("cluster")
def test_one_process_on_the_cluster_gives_the_very_model(line: Line) -> None:
    told: list[News] = []
    there = train_on_ray(line.task("there"), {}, told.append)
    here = run_task(line.task("here"), ignore, go_on)
    assert there.bundle == here.bundle
    assert there.history == here.history
    assert [news.history for news in told][-1] == here.history


@pytest.mark.usefixtures("cluster")
def test_two_processes_give_the_model_of_two_processes_here(line: Line) -> None:
    there = train_on_ray(line.task("there", nodes=2), {}, ignore)
    here = run_task(line.task("here", devices=2), ignore, go_on)
    assert (there.record["processes"], here.record["processes"]) == (2, 2)
    # The same images in the same order; sums over processes may round otherwise.
    assert dice(line.store, there) == pytest.approx(dice(line.store, here), abs=0.01)


def test_a_training_survives_its_workers(line: Line, cluster: RayCluster) -> None:
    undisturbed = run_task(line.task("here", steps=400), ignore, go_on)
    killed = []

    def hear(news: News) -> None:
        if len(killed) < 2 and len(news.history) >= 5 * (len(killed) + 1):
            assert cluster.head is not None
            nodes = [cluster.head, *cluster.workers]
            [worker] = [p for node in nodes for p in node.workers("RayTrainWorker")]
            worker.kill()
            killed.append(worker)

    outcome = train_on_ray(line.task("there", steps=400, minutes=0), {}, hear)
    assert len(killed) == 2
    assert outcome.record["resumed_after_step"] > 0
    assert outcome.bundle == undisturbed.bundle


@pytest.mark.usefixtures("cluster")
def test_no_lost_machine_takes_the_news_along(line: Line) -> None:
    import ray
    from ray._private.state import actors

    places = set()

    def hear(news: News) -> None:
        for actor in actors().values():
            if actor["ActorClassName"] == "Mailbox":
                places.add(actor["Address"]["NodeID"])

    for attempt in range(2):
        train_on_ray(line.task(f"there-{attempt}"), {}, hear)
    assert places == {ray.get_runtime_context().get_node_id()}


@pytest.mark.usefixtures("cluster")
def test_a_training_that_is_interrupted_keeps_its_state(line: Line) -> None:
    def interrupt(news: News) -> None:
        raise KeyboardInterrupt

    task = line.task("there", steps=600)
    with pytest.raises(KeyboardInterrupt):
        train_on_ray(task, {}, interrupt)
    state = task.state / "checkpoint.pt"
    assert state.exists()
    written = state.stat().st_mtime
    time.sleep(2)
    assert state.stat().st_mtime == written  # nobody goes on in secret
    outcome = train_on_ray(task, {}, ignore)
    assert outcome.record["resumed_after_step"] > 0
    assert outcome.bundle == run_task(line.task("here", steps=600), ignore, go_on).bundle


@pytest.mark.usefixtures("cluster")
def test_what_a_person_has_to_mend_is_said(line: Line) -> None:
    task = line.task("there")
    painted = {"paint": {"Scratch": "crack"}, "sampling": {"batch_size": 4, "painted": 0.5}}
    strange = TrainingConfig.model_validate(SMALL.model_dump() | painted)
    with pytest.raises(TrainingRefused, match="paint names Scratch, which the dataset lacks"):
        train_on_ray(task.model_copy(update={"config": strange}), {}, ignore)
    with pytest.raises(NoCluster, match="asks for 3 CPUs, and the cluster has 2: add machines"):
        train_on_ray(line.task("there", nodes=3), {}, ignore)
