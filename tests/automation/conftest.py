"""A home of tiny images with a Dagster instance, and what the daemon does: ticks and runs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster_aws.s3 import S3Resource

from defect_assets.automation import policy
from defect_assets.home import Home
from defect_assets.resources import HomeResource
from definitions import defs
from tests.small import home_of


@dataclass
class Daemon:
    """Does what Dagster's daemon does for sensors, step by step."""

    home: Home
    instance: dg.DagsterInstance
    cursors: dict[str, str | None] = field(default_factory=dict)

    def tick(self, sensor: dg.SensorDefinition) -> dg.SensorResult:
        """Evaluate a sensor once, and take down what it asks for; nothing is run."""
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(sensor.name),
            resources={"home": HomeResource(s3=S3Resource())},
        ) as context:
            result = sensor(context)
        if isinstance(result, dg.SkipReason):
            result = dg.SensorResult(skip_reason=result)
        assert isinstance(result, dg.SensorResult)
        self.cursors[sensor.name] = result.cursor
        for request in result.dynamic_partitions_requests or ():
            self.instance.add_dynamic_partitions(
                request.partitions_def_name, list(request.partition_keys)
            )
        return result

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Run what was asked for, unless the same was before."""
        return defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=list(request.asset_selection or ()),
            partition_key=request.partition_key,
            run_config=dict(request.run_config),
            tags={**request.tags, "dagster/run_key": request.run_key or ""},
            raise_on_error=False,
        )

    def begin(self, request: dg.RunRequest) -> dg.DagsterRun:
        """Leave what was asked for as a run that is under way."""
        return self._record(request, dg.DagsterRunStatus.STARTED)

    def die(self, request: dg.RunRequest) -> dg.DagsterRun:
        """Leave what was asked for as a run whose process was killed."""
        return self._record(request, dg.DagsterRunStatus.FAILURE)

    def _record(self, request: dg.RunRequest, status: dg.DagsterRunStatus) -> dg.DagsterRun:
        tags = dict(request.tags)
        if request.partition_key:
            tags["dagster/partition"] = request.partition_key
        return self.instance.create_run_for_job(
            defs.resolve_implicit_global_asset_job_def(),
            status=status,
            tags=tags,
            asset_selection=frozenset(request.asset_selection or ()),
        )

    def settle(self, sensor: dg.SensorDefinition) -> list[str]:
        """Tick and run until nothing is asked for; return the run keys."""
        keys: list[str] = []
        while requests := self.tick(sensor).run_requests:
            for request in requests:
                keys.append(request.run_key or "")
                self.run(request)
        return keys


def why(result: dg.SensorResult) -> str:
    """Return what a tick says for doing nothing."""
    assert not result.run_requests
    skip = result.skip_reason
    return skip if isinstance(skip, str) else (skip.skip_message or "" if skip else "")


def asked(result: dg.SensorResult) -> list[str]:
    """Return the partitions that a tick asks for."""
    return [str(request.partition_key) for request in result.run_requests or ()]


@pytest.fixture
def place(tmp_path: Path) -> Home:
    home = home_of(tmp_path / "home")
    home.prepare()
    return home


@pytest.fixture
def instance(place: Home) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(place.dagster)) as instance:
        yield instance


@pytest.fixture
def daemon(place: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    monkeypatch.setenv("DEFECT_HOME", str(place.root))
    monkeypatch.delenv("DEFECT_STORE", raising=False)
    return Daemon(place, instance)


@pytest.fixture
def set_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write another policy, of which the rest is as it is by default."""

    def write(**values: Any) -> None:
        folder = tmp_path / "configs"
        folder.mkdir(exist_ok=True)
        (folder / policy.FILE).write_text(yaml.safe_dump(values))
        monkeypatch.setattr(policy, "CONFIGS", folder)

    return write
