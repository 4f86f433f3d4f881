"""A model is trained in a process of its own: the same model, stopped and taken up again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from defect_assets.assets.training_worker import GRACE
from defect_assets.dataset.split import read_split
from defect_assets.home import PROJECT
from defect_assets.training.config import TrainingConfig
from defect_assets.training.experiment import train_on_split
from tests.assets.test_assets import (
    CONFIG,
    EXPERIMENT,
    Platform,
    configs,  # noqa: F401
    instance,  # noqa: F401
    platform,  # noqa: F401
)
from tests.checkouts import commit_all

NAME = "experiments/DS-1.0.0/C-01"
LONG = CONFIG | {"steps": 600}

ALONE = """
import sys

import dagster as dg

from defect_assets.partitions import experiment_key
from definitions import defs

with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey("trained_model")],
        partition_key=experiment_key("DS-1.0.0", "C-01"),
        run_config={
            "ops": {
                "trained_model": {"config": {"checkpoint_minutes": 0.01, "allow_unpinned": True}}
            }
        },
        raise_on_error=False,
    )
raise SystemExit(0 if result.success else 1)
"""
"""What the run of a training does, in a process that can be killed."""


def test_the_process_gives_the_model_that_training_here_gives(platform: Platform) -> None:  # noqa: F811
    store = platform.prepare()
    assert platform.materialize("trained_model", EXPERIMENT).success
    split = read_split(store, store.content("splits/DS-1.0.0") or "")
    values = store.objects.get_json(store.content("configs/C-01") or "")
    here = train_on_split(
        store, split, TrainingConfig.model_validate(values), platform.home.root / "elsewhere"
    )
    assert store.content(NAME) == store.objects.put_tree(here.files)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_training_that_is_stopped_goes_on_from_there(
    platform: Platform,  # noqa: F811
    configs: Path,  # noqa: F811
    number: signal.Signals,
) -> None:
    (configs / "C-01.yaml").write_text(yaml.safe_dump(LONG))
    commit_all(configs.parent)
    store = platform.prepare()
    process = subprocess.Popen(
        [sys.executable, "-c", ALONE, str(platform.home.dagster)],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        cwd=PROJECT,
    )
    state = platform.home.training("DS-1.0.0", "C-01") / "checkpoint.pt"
    _wait_for(lambda: state.exists() or process.poll() is not None, 120)
    children = psutil.Process(process.pid).children()
    [worker] = [c for c in children if "defect_assets.assets.training_worker" in c.cmdline()]
    before = time.monotonic()
    process.send_signal(number)
    assert process.wait(30) != 0
    _wait_for(lambda: not worker.is_running(), 5)
    assert time.monotonic() - before < GRACE
    assert store.content(NAME) is None

    assert platform.materialize("trained_model", EXPERIMENT).success
    record = store.record(NAME)
    assert record is not None
    assert 0 < record.details["resumed_after_step"] < LONG["steps"]
    assert not state.exists()
    history = json.loads(store.objects.get_tree(record.content)["history.json"])
    assert [point["step"] for point in history][-1] == LONG["steps"]


def test_a_worker_that_is_killed_fails_its_run_and_says_so(
    platform: Platform,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    platform.prepare()
    monkeypatch.setattr("defect_assets.assets.training_worker.__name__", "no_such_module")
    result = platform.materialize("trained_model", EXPERIMENT)
    [event] = [e for e in result.all_events if e.is_step_failure]
    assert "its exit status is 1" in str(event.step_failure_data.error)
    assert platform.home.store().content(NAME) is None


def _wait_for(what: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)
