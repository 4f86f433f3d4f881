"""What follows from new data, as Dagster's own evaluation of the conditions tells it."""

from collections.abc import Iterator

import dagster as dg
import pytest

from definitions import defs

FOLLOWERS = dg.AssetSelection.assets("dataset_split", "evaluation_report", "defect_bento")
EXPERIMENT = "C-01|DS-1.0.0"


class Follower:
    """Evaluates the conditions as the daemon does, tick by tick."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self._cursor = None

    def tick(self) -> dict[str, set[str]]:
        """Return what is asked for, by asset."""
        result = dg.evaluate_automation_conditions(
            defs, self.instance, asset_selection=FOLLOWERS, cursor=self._cursor
        )
        self._cursor = result.cursor
        asked = {}
        for name in ("dataset_split", "evaluation_report", "defect_bento"):
            if found := result.get_requested_partitions(dg.AssetKey(name)):
                asked[name] = {str(partition) for partition in found}
        return asked

    def made(self, asset: str, partition: str | None, version: str) -> None:
        """Say that a partition was materialized, with a content."""
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(
                asset, partition=partition, tags={"dagster/data_version": version}
            )
        )

    def check(self, asset: str, name: str, *, passed: bool) -> None:
        """Say how a blocking check came out."""
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(asset), check_name=name, passed=passed, blocking=True
            )
        )


@pytest.fixture
def follower() -> Iterator[Follower]:
    with dg.DagsterInstance.ephemeral() as instance:
        follower = Follower(instance)
        follower.made("python_environment", None, "1")
        assert follower.tick() == {}
        instance.add_dynamic_partitions("dataset", ["DS-1.0.0"])
        assert follower.tick() == {}
        yield follower


def test_a_snapshot_is_split_once(follower: Follower) -> None:
    follower.made("dataset_manifest", "DS-1.0.0", "1")
    assert follower.tick() == {"dataset_split": {"DS-1.0.0"}}
    assert follower.tick() == {}
    follower.made("dataset_split", "DS-1.0.0", "1")
    assert follower.tick() == {}


def test_the_same_content_again_asks_for_nothing(follower: Follower) -> None:
    follower.made("dataset_manifest", "DS-1.0.0", "1")
    follower.tick()
    follower.made("dataset_split", "DS-1.0.0", "1")
    follower.made("dataset_manifest", "DS-1.0.0", "1")
    assert follower.tick() == {}
    follower.made("dataset_manifest", "DS-1.0.0", "2")
    assert follower.tick() == {"dataset_split": {"DS-1.0.0"}}


def test_a_changed_environment_recomputes_no_past(follower: Follower) -> None:
    follower.made("dataset_manifest", "DS-1.0.0", "1")
    follower.tick()
    follower.made("dataset_split", "DS-1.0.0", "1")
    follower.made("python_environment", None, "2")
    assert follower.tick() == {}


def test_a_model_is_evaluated_when_its_content_is_new(follower: Follower) -> None:
    follower.made("dataset_manifest", "DS-1.0.0", "1")
    follower.made("dataset_split", "DS-1.0.0", "1")
    follower.check("dataset_split", "no_part_in_several_places", passed=True)
    follower.tick()
    follower.made("trained_model", EXPERIMENT, "1")
    assert follower.tick() == {"evaluation_report": {EXPERIMENT}}
    follower.made("evaluation_report", EXPERIMENT, "1")
    follower.made("trained_model", EXPERIMENT, "1")
    assert follower.tick() == {}
    follower.made("trained_model", EXPERIMENT, "2")
    assert follower.tick() == {"evaluation_report": {EXPERIMENT}}


def test_nothing_follows_a_failed_blocking_check(follower: Follower) -> None:
    follower.made("dataset_manifest", "DS-1.0.0", "1")
    follower.made("dataset_split", "DS-1.0.0", "1")
    follower.check("dataset_split", "no_part_in_several_places", passed=False)
    follower.made("trained_model", EXPERIMENT, "1")
    assert "evaluation_report" not in follower.tick()


def test_a_release_is_packed_when_it_is_there(follower: Follower) -> None:
    follower.instance.add_dynamic_partitions("release", ["v0.1.0"])
    assert follower.tick() == {}
    follower.made("model_release", "v0.1.0", "1")
    assert follower.tick() == {"defect_bento": {"v0.1.0"}}
    assert follower.tick() == {}
