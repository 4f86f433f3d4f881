"""The contract with Dagster's internals: what counts as up to date, and why not."""

from collections.abc import Iterator

import dagster as dg
import pytest

from tests.staleness import why_stale

days = dg.DynamicPartitionsDefinition(name="day")


def definitions(version: str = "1") -> dg.Definitions:
    @dg.asset(partitions_def=days, config_schema={"value": str})
    def images(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion(context.op_config["value"]))

    @dg.asset(partitions_def=days, deps=[images], code_version=version)
    def model() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion("model"))

    return dg.Definitions(assets=[images, model], executor=dg.in_process_executor)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("day", ["mon", "tue"])
        yield instance


def _run(instance: dg.DagsterInstance, asset: str, day: str, value: str | None = None) -> None:
    config = {"ops": {asset: {"config": {"value": value}}}} if value else None
    job = definitions().resolve_implicit_global_asset_job_def()
    job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(asset)],
        partition_key=day,
        run_config=config,
    )


def test_each_partition_is_judged_by_itself(instance: dg.DagsterInstance) -> None:
    defs = definitions()
    assert why_stale(instance, defs, "model", "mon") == "not there yet"
    _run(instance, "images", "mon", "a")
    _run(instance, "model", "mon")
    assert why_stale(instance, defs, "model", "mon") is None
    assert why_stale(instance, defs, "model", "tue") == "not there yet"


def test_new_data_makes_stale_and_the_same_data_does_not(instance: dg.DagsterInstance) -> None:
    _run(instance, "images", "mon", "a")
    _run(instance, "model", "mon")
    _run(instance, "images", "mon", "a")
    assert why_stale(instance, definitions(), "model", "mon") is None
    _run(instance, "images", "mon", "b")
    assert why_stale(instance, definitions(), "model", "mon") == "images changed"
    _run(instance, "images", "mon", "a")
    assert why_stale(instance, definitions(), "model", "mon") is None


def test_new_code_makes_stale(instance: dg.DagsterInstance) -> None:
    _run(instance, "images", "mon", "a")
    _run(instance, "model", "mon")
    assert "code version" in (why_stale(instance, definitions("2"), "model", "mon") or "")
