"""A run whose process was killed is told to have failed, and gives up its place; others go on."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.test_utils import create_run_for_test
from dagster_aws.s3 import S3Resource

from defect_assets import run_workers
from defect_assets.home import Home
from defect_assets.resources import HomeResource
from defect_assets.run_workers import bury

DEADLY = "deadly"


@dg.asset(pool="gpu")
def model(context: dg.AssetExecutionContext, home: HomeResource) -> None:
    if context.run.tags.get(DEADLY):
        os.kill(os.getpid(), signal.SIGKILL)


def train(folder: Path, deadly: bool = False) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        return dg.materialize(
            [model],
            instance=instance,
            resources={"home": HomeResource(s3=S3Resource())},
            tags={DEADLY: "yes"} if deadly else None,
        )


@pytest.fixture
def instance(home: Home) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        yield instance


def killed_in(home: Home) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=train, args=(home.dagster, True))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def test_the_next_run_ends_the_run_of_the_dead_and_takes_its_place(
    home: Home, instance: dg.DagsterInstance
) -> None:
    killed_in(home)
    [dead] = instance.get_runs()
    assert dead.status == dg.DagsterRunStatus.STARTED
    claimed = instance.event_log_storage.get_concurrency_info("gpu").claimed_slots
    assert [slot.run_id for slot in claimed] == [dead.run_id]

    assert train(home.dagster).success  # it would wait for ever
    ended = instance.get_run_by_id(dead.run_id)
    assert ended is not None
    assert ended.status == dg.DagsterRunStatus.FAILURE
    assert ended.tags["dagster/max_retries"] == "0"  # who came next did the work
    assert instance.event_log_storage.get_concurrency_info("gpu").claimed_slots == []
    messages = [event.message for event in instance.all_logs(dead.run_id)]
    assert any("was killed while it worked on this run" in message for message in messages)


@dg.sensor(target=[model])
def looks(context: dg.SensorEvaluationContext, home: HomeResource) -> dg.SkipReason:
    return dg.SkipReason("all that it does is to look")


def test_after_a_power_failure_a_sensor_ends_it_and_dagster_may_begin_it_again(
    home: Home, instance: dg.DagsterInstance
) -> None:
    killed_in(home)
    [dead] = instance.get_runs()
    resources = {"home": HomeResource(s3=S3Resource())}
    with dg.build_sensor_context(instance=instance, resources=resources) as context:
        looks(context)
    ended = instance.get_run_by_id(dead.run_id)
    assert ended is not None
    assert ended.status == dg.DagsterRunStatus.FAILURE
    assert "dagster/max_retries" not in ended.tags
    assert instance.event_log_storage.get_concurrency_info("gpu").claimed_slots == []


def test_a_place_that_a_failed_run_left_behind_is_taken(
    home: Home, instance: dg.DagsterInstance
) -> None:
    killed_in(home)
    [dead] = instance.get_runs()
    instance.report_run_failed(dead)  # as a code server does that sees its child die
    assert train(home.dagster).success
    assert instance.event_log_storage.get_concurrency_info("gpu").claimed_slots == []


def test_whoever_lives_is_left_alone(home: Home, instance: dg.DagsterInstance) -> None:
    buried: list[list[str]] = []

    @dg.asset
    def other(context: dg.AssetExecutionContext, home: HomeResource) -> None:
        buried.append(bury(context.instance, retried=False))

    killed_in(home)
    resources = {"home": HomeResource(s3=S3Resource())}
    assert dg.materialize([other], instance=instance, resources=resources).success
    assert buried == [[]]  # the dead one when this run began, and never this one
    statuses = sorted(run.status.value for run in instance.get_runs())
    assert statuses == ["FAILURE", "SUCCESS"]


def test_a_run_that_nobody_signed_is_left_alone_for_some_minutes(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.job
    def job() -> None: ...

    run = instance.create_run_for_job(job)
    instance.report_dagster_event(DagsterEvent(DagsterEventType.RUN_START.value, "job"), run.run_id)
    assert bury(instance, retried=True) == []
    left = instance.get_run_by_id(run.run_id)
    assert left is not None
    assert left.status == dg.DagsterRunStatus.STARTED
    monkeypatch.setattr(run_workers, "UNSIGNED", -1)
    assert bury(instance, retried=True) == [run.run_id]


@pytest.mark.parametrize("deployment", ["local", "ray"])
def test_a_job_of_another_machine_is_for_the_daemon_to_bury(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, deployment: str
) -> None:
    monkeypatch.setenv("DEFECT_DEPLOY", deployment)
    launched = RemoteJobOrigin(
        RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin("code", 4000), "repository"), "job"
    )
    days_ago = json.loads(run_workers.signature()) | {"host": "other", "at": time.time() - 2e5}
    tags = {run_workers.WORKER: json.dumps(days_ago)}
    started = [
        create_run_for_test(instance, "job", remote_job_origin=origin, tags=tags)
        for origin in (launched, None)
    ]
    for run in started:
        event = DagsterEvent(DagsterEventType.RUN_START.value, "job")
        instance.report_dagster_event(event, run.run_id)
    job, command = (run.run_id for run in started)
    buried = set(bury(instance, retried=True))
    assert buried == ({command} if deployment == "ray" else {job, command})
