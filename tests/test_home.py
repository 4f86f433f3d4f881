"""Dagster's instance is made of the pieces that the deployment's variables name."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from defect_assets.cluster.connection import NoCluster
from defect_assets.home import Home


def instance_of(home: Home) -> dict[str, Any]:
    home.prepare()
    return dict(yaml.safe_load((home.dagster / "dagster.yaml").read_text()))


def test_one_machine_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEFECT_DEPLOY", raising=False)
    home = Home(tmp_path)
    written = instance_of(home)
    assert written["concurrency"]["pools"]["default_limit"] == 1
    assert not {"run_launcher", "storage"} & written.keys()
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        assert type(instance.run_launcher).__name__ == "DefaultRunLauncher"


def test_two_variables_move_runs_to_ray_and_what_is_known_to_postgres(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    alone = instance_of(Home(tmp_path))
    monkeypatch.setenv("DEFECT_DEPLOY", "ray")
    monkeypatch.setenv("DEFECT_POSTGRES", "postgresql://someone:hunter2@somewhere/dagster")
    home = Home(tmp_path)
    written = instance_of(home)
    assert written["run_launcher"]["class"] == "ClusterRunLauncher"
    assert written["storage"] == {"postgres": {"postgres_url": {"env": "DEFECT_POSTGRES"}}}
    assert "hunter2" not in (home.dagster / "dagster.yaml").read_text()
    for shared in ("telemetry", "nux", "run_retries"):
        assert written[shared] == alone[shared]
    passed_on = written["run_launcher"]["config"]["ray"]["env_vars"]
    assert {"DEFECT_HOME", "DEFECT_DEPLOY", "DAGSTER_HOME"} <= set(passed_on)
    # Ray shows them to whoever sees its dashboard.
    assert not {"DEFECT_POSTGRES", "AWS_SECRET_ACCESS_KEY"} & set(passed_on)


def test_what_others_may_be_reading_is_not_written_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    before = (home.dagster / "dagster.yaml").stat().st_mtime_ns
    home.prepare()
    assert (home.dagster / "dagster.yaml").stat().st_mtime_ns == before


def test_another_deployment_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFECT_DEPLOY", "mainframe")
    with pytest.raises(NoCluster, match="it is local or ray"):
        Home(tmp_path).prepare()
