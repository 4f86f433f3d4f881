"""Trainings, releases and promotions that begin by themselves, on experiments that are made up."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from defect_assets.assets import environment, release
from defect_assets.automation import experiments, releasing
from defect_assets.automation.changes import Change, standings
from defect_assets.automation.experiments import changed_configs, training_by_policy
from defect_assets.automation.releasing import promotion_by_policy, release_by_gates
from defect_assets.registry.channels import moves, promote, rollback
from defect_assets.registry.configs import values_of
from defect_assets.store import Record, Store
from defect_assets.training.config import TrainingConfig
from definitions import defs
from tests.automation.conftest import Daemon, asked, why
from tests.experiments import (
    LENIENT,
    Made,
    new_home,
    publish_experiment,
    small_dataset,
    split,
    write_gates,
)
from tests.small import cut, deliver, ingest, mask

Policy = Callable[..., None]
POLICY = {"train": {"configs": [{"config": "C-01"}]}, "release": {"channel": "staging"}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed checkout whose gates a model can hardly fail."""
    project = tmp_path / "checkout"
    write_gates(project, **LENIENT)
    for module in (release, releasing):
        monkeypatch.setattr(module, "PROJECT", project)
    return project


@pytest.fixture
def store(daemon: Daemon, project: Path, set_policy: Policy) -> Store:
    """DS-1.0.0, split; nothing is trained."""
    set_policy(**POLICY)
    daemon.home.dataset.unlink()
    new_home(daemon.home.root)
    store = daemon.home.store()
    small_dataset(daemon.home, store)
    return store


def record_config(store: Store, config: str = "C-01", steps: int = 10) -> None:
    content = store.objects.put_json(values_of(TrainingConfig(steps=steps)))
    store.publish(f"configs/{config}", Record(asset="training_config", content=content))


def packed(store: Store, name: str) -> None:
    """Say that a release was packed."""
    store.publish(
        f"bentos/{name}", Record(asset="defect_bento", content=store.objects.put_json({"a": name}))
    )


def test_all_that_is_defined_loads() -> None:
    dg.Definitions.validate_loadable(defs)
    repository = defs.get_repository_def()
    for sensor in repository.sensor_defs:
        assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    for schedule in repository.schedule_defs:
        assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED


class TestTraining:
    def test_a_changed_configuration_is_recorded_once(
        self, daemon: Daemon, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "of-the-assets"
        folder.mkdir()
        monkeypatch.setattr(environment, "CONFIGS", folder)
        (folder / "C-01.yaml").write_text("steps: 30\n")
        assert len(daemon.settle(changed_configs)) == 1
        assert why(daemon.tick(changed_configs)) == "all are recorded as they are"
        (folder / "C-01.yaml").write_text("steps: 40\n")
        assert len(daemon.settle(changed_configs)) == 1
        (folder / "C-01.yaml").write_text("steps: 30\n")  # and back again
        assert len(daemon.settle(changed_configs)) == 1
        (folder / "C-01.yaml").write_text("steps: 40\n")
        assert len(daemon.settle(changed_configs)) == 1
        (folder / "C-01.yaml").write_text("stepz: 40\n")
        assert "stepz" in why(daemon.tick(changed_configs))

    def test_new_data_and_a_changed_configuration_are_trained(
        self, daemon: Daemon, store: Store
    ) -> None:
        assert "is trained" in why(daemon.tick(training_by_policy))  # nothing is recorded yet
        record_config(store)
        assert asked(daemon.tick(training_by_policy)) == ["C-01|DS-1.0.0"]
        publish_experiment(store, Made())
        assert why(daemon.tick(training_by_policy)) == "all that is wanted on DS-1.0.0 is trained"
        record_config(store, steps=20)
        assert asked(daemon.tick(training_by_policy)) == ["C-01|DS-1.0.0"]

    def test_the_policy_says_which_on_what(
        self, daemon: Daemon, store: Store, set_policy: Policy
    ) -> None:
        wanted = [
            {"config": "C-01", "after": ["major"]},
            {"config": "C-02", "after": ["major", "minor"]},
            {"config": "C-03", "after": ["patch"]},
        ]
        set_policy(train={"configs": wanted})
        for config in ("C-01", "C-02", "C-03"):
            record_config(store, config)
        assert asked(daemon.tick(training_by_policy)) == ["C-01|DS-1.0.0", "C-02|DS-1.0.0"]
        deliver(daemon.home, "fix", {}, {"s001": mask(1, 5000)})
        ingest(daemon.home, store, "fix")
        cut(daemon.home, store)
        assert "no split from a run that succeeded" in why(daemon.tick(training_by_policy))
        split(store, "DS-1.0.1")
        assert asked(daemon.tick(training_by_policy)) == ["C-03|DS-1.0.1"]
        small_dataset(daemon.home, store, "more", 200)
        assert asked(daemon.tick(training_by_policy)) == ["C-02|DS-1.1.0"]

    def test_a_day_has_a_budget(self, daemon: Daemon, store: Store, set_policy: Policy) -> None:
        set_policy(train={"configs": [{"config": "C-01"}, {"config": "C-02"}], "a_day": 1})
        record_config(store)
        record_config(store, "C-02")
        [request] = daemon.tick(training_by_policy).run_requests or ()
        assert request.partition_key == "C-01|DS-1.0.0"
        daemon.begin(request)
        told = why(daemon.tick(training_by_policy))
        assert "C-01|DS-1.0.0 is under way" in told
        assert "C-02|DS-1.0.0 waits: 1 trainings were begun" in told

    def test_what_someone_else_is_at_is_left_to_them(self, daemon: Daemon, store: Store) -> None:
        record_config(store)
        [request] = daemon.tick(training_by_policy).run_requests or ()
        by_hand = dg.RunRequest(
            asset_selection=request.asset_selection, partition_key=request.partition_key
        )
        run = daemon.begin(by_hand)
        assert "C-01|DS-1.0.0 is under way" in why(daemon.tick(training_by_policy))
        daemon.instance.report_run_failed(run)
        assert asked(daemon.tick(training_by_policy)) == ["C-01|DS-1.0.0"]

    def test_what_a_person_stopped_stays_stopped(self, daemon: Daemon, store: Store) -> None:
        record_config(store)
        [request] = daemon.tick(training_by_policy).run_requests or ()
        daemon.instance.report_run_canceled(daemon.begin(request))
        assert "it waits for a person" in why(daemon.tick(training_by_policy))

    def test_a_split_that_failed_its_check_is_not_trained_on(
        self, daemon: Daemon, store: Store
    ) -> None:
        record_config(store)
        run = daemon.die(dg.RunRequest(asset_selection=[dg.AssetKey("dataset_split")]))
        content = store.content("splits/DS-1.0.0") or ""
        store.publish(
            "splits/DS-1.0.0", Record(asset="dataset_split", content=content, run_id=run.run_id)
        )
        assert "no split from a run that succeeded" in why(daemon.tick(training_by_policy))


def test_a_failed_blocking_check_is_a_refusal(daemon: Daemon) -> None:
    @dg.asset_check(asset="made", blocking=True)
    def never() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False)

    @dg.asset
    def made() -> None: ...

    change = Change("made", "", "1")
    request = change.request(1)
    dg.materialize(
        [made, never], instance=daemon.instance, tags=dict(request.tags), raise_on_error=False
    )
    [standing] = standings(daemon.instance, [change])
    assert (standing.attempts, bool(standing.refused)) == (1, True)


class TestRelease:
    def test_what_passes_is_released_once_and_promoted(self, daemon: Daemon, store: Store) -> None:
        assert why(daemon.tick(release_by_gates)) == "all that was evaluated is released"
        publish_experiment(store, Made())
        result = daemon.tick(release_by_gates)
        assert asked(result) == ["v0.1.0"]
        assert daemon.run((result.run_requests or ())[0]).success
        assert why(daemon.tick(release_by_gates)) == "all that was evaluated is released"

        assert why(daemon.tick(promotion_by_policy)) == "v0.1.0 is not packed yet"
        packed(store, "v0.1.0")
        assert why(daemon.tick(promotion_by_policy)) == "staging leads to v0.1.0 now"
        [move] = moves(store, "staging")
        assert (move.release, move.by) == ("v0.1.0", "policy")
        assert "v0.1.0 was promoted to staging before" in why(daemon.tick(promotion_by_policy))

    def test_what_its_gates_refuse_is_said_once(
        self, daemon: Daemon, store: Store, project: Path
    ) -> None:
        write_gates(project, floors={"dice": 0.99})
        publish_experiment(store, Made(found=0.5))
        [request] = daemon.tick(release_by_gates).run_requests or ()
        assert not daemon.run(request).success
        assert daemon.instance.get_dynamic_partitions("release") == []
        daemon.cursors.clear()
        assert "was refused by run" in why(daemon.tick(release_by_gates))
        # Other gates, or another model, are another question.
        write_gates(project, **LENIENT)
        assert len(daemon.settle(release_by_gates)) == 1
        assert store.content("releases/v0.1.0")
        assert daemon.instance.get_dynamic_partitions("release") == ["v0.1.0"]

    def test_an_unpinned_model_is_left_alone(self, daemon: Daemon, store: Store) -> None:
        publish_experiment(store, Made(unpinned=("not committed",)))
        assert why(daemon.tick(release_by_gates)) == "all that was evaluated is released"

    def test_what_a_person_rolled_back_stays_so(self, daemon: Daemon, store: Store) -> None:
        for steps in (10, 20):
            publish_experiment(store, Made(steps=steps, threshold=0.5 + steps / 1000))
            daemon.settle(release_by_gates)
        assert list(store.refs.names("releases/")) == ["releases/v0.1.0", "releases/v0.2.0"]
        packed(store, "v0.2.0")
        promote(store, "staging", "v0.1.0", "someone", "by hand")
        assert "staging leads to v0.2.0 now" in why(daemon.tick(promotion_by_policy))
        rollback(store, "staging", "someone", "it was bad")
        assert "was promoted to staging before" in why(daemon.tick(promotion_by_policy))

    def test_where_nothing_is_to_be_released(
        self, daemon: Daemon, store: Store, set_policy: Policy
    ) -> None:
        publish_experiment(store, Made())
        set_policy(train=POLICY["train"])
        assert why(daemon.tick(release_by_gates)) == "the policy releases nothing"
        assert why(daemon.tick(promotion_by_policy)) == "the policy promotes nothing"


def test_experiments_look_at_the_newest_snapshot_only(daemon: Daemon, store: Store) -> None:
    assert experiments.newest_split(daemon.instance, store) == "DS-1.0.0"
