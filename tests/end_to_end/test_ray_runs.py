"""Real daemon, real webserver, real Ray cluster: what is asked for in the UI becomes a Ray job."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from defect_assets.assets.training_worker import GRACE
from defect_assets.home import Home
from defect_assets.store.verify import verify
from tests.end_to_end.conftest import Checkout, free_port
from tests.servers.ray import RayCluster
from tests.servers.webserver import Webserver

pytestmark = pytest.mark.slow
ray_jobs = pytest.importorskip("ray.job_submission")

STEPS = 1000
POLL = "  poll_interval_seconds: 30"
"""How often the daemon asks for a run's health, as it is shipped."""


class Deployment:
    """Daemon and webserver on a home, and the cluster that their runs go to."""

    def __init__(self, checkout: Checkout, cluster: RayCluster, url: str) -> None:
        self.checkout = checkout
        self.cluster = cluster
        self.home = Home(checkout.home)
        self.webserver = Webserver(url)

    def launch_training(self) -> str:
        """Ask for a training; return the run's id when some of it is saved."""
        run = self.webserver.materialize(
            "trained_model",
            config={"ops": {"trained_model": {"config": {"checkpoint_minutes": 0.02}}}},
            tags={
                "dagster/partition": "C-01|DS-1.0.0",
                "dagster/partition/config": "C-01",
                "dagster/partition/dataset": "DS-1.0.0",
            },
        )
        state = self.home.training("DS-1.0.0", "C-01") / "checkpoint.pt"
        begun = time.time()
        self.wait_for(lambda: state.exists() and state.stat().st_mtime > begun, 240)
        return run

    def wait_for(self, what: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            log = self.checkout.root / "background.log"
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)

    def jobs(self) -> dict[str, Any]:
        """Return the cluster's jobs by their ids."""
        found = ray_jobs.JobSubmissionClient(self.cluster.address).list_jobs()
        return {job.submission_id: job for job in found}

    def processes(self, run: str) -> list[psutil.Process]:
        """Return the processes of a run, which are below the cluster's nodes."""
        assert self.cluster.head is not None
        nodes = [self.cluster.head, *self.cluster.workers]
        found = []
        for process in [process for node in nodes for process in node.processes()]:
            try:
                if run in " ".join(process.cmdline()):
                    found += [process, *process.children(recursive=True)]
            except psutil.Error:
                continue
        return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    cluster = RayCluster()
    with pytest.MonkeyPatch.context() as environment:
        # A job's command is found where the nodes' commands are.
        environment.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        try:
            agent = "--dashboard-agent-listen-port"
            board = ("--include-dashboard=true", f"--dashboard-port={free_port()}")
            cluster.start(1, *board, f"{agent}={free_port()}")
            cluster.add_worker(1, f"{agent}={free_port()}")
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="module")
def deployment(cluster: RayCluster, copy_checkout: Callable[[], Checkout]) -> Iterator[Deployment]:
    checkout = copy_checkout()
    settings = checkout.root / "configs" / "deploy" / "ray" / "dagster.yaml"
    assert POLL in settings.read_text()
    settings.write_text(settings.read_text().replace(POLL, "  poll_interval_seconds: 2"))
    checkout.configure(steps=STEPS)
    checkout.cli("import", "synthetic", "--tiles", "16", "--name", "one")
    checkout.cli("repro", "dataset_split", "training_config")
    with to(cluster) as environment:
        environment.setenv("AWS_SECRET_ACCESS_KEY", "only the nodes may know")
        port = free_port()
        command = [sys.executable, "-m", "defect_assets", "dev", "--port", str(port)]
        with checkout.background(command, f"http://127.0.0.1:{port}/server_info"):
            yield Deployment(checkout, cluster, f"http://127.0.0.1:{port}")


@contextmanager
def to(cluster: RayCluster) -> Iterator[pytest.MonkeyPatch]:
    """Let this process and those that it starts use a cluster."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in cluster.environment.items():
            environment.setenv(name, value)
        yield environment


def test_a_run_is_a_job_of_the_cluster(deployment: Deployment) -> None:
    needs = {"dagster-ray/config": json.dumps({"num_cpus": 1})}
    run = deployment.webserver.materialize("python_environment", tags=needs)
    assert deployment.webserver.end(run) == "SUCCESS"
    job = deployment.jobs()[f"dagster-run-{run}"]
    deployment.wait_for(lambda: deployment.jobs()[f"dagster-run-{run}"].status == "SUCCEEDED", 30)
    passed_on = job.runtime_env["env_vars"]
    assert passed_on["DEFECT_HOME"] == str(deployment.home.root)
    assert "AWS_SECRET_ACCESS_KEY" not in passed_on  # whoever sees the dashboard sees these


def test_batches_are_taken_in_by_jobs_of_their_own(deployment: Deployment) -> None:
    for number in range(2):
        first = str(1000 + 10 * number)
        deployment.checkout.cli(
            *("import", "synthetic", "--tiles", "2", "--first", first, "--name", f"more-{number}")
        )
    run = deployment.webserver.launch("batches_in_parallel")
    assert deployment.webserver.end(run, 300) == "SUCCESS"
    of_run = {"dagster/run-id": run}.items()
    jobs = [job.metadata for job in deployment.jobs().values() if of_run <= job.metadata.items()]
    assert {job["dagster/op"] for job in jobs if "dagster/op" in job} == {
        "portions",
        "take_in_portion[portion_0]",
        "take_in_portion[portion_1]",
        "tell_of_batches",
    }
    store = deployment.home.store()
    assert store.content("batches/more-0")
    assert store.content("batches/more-1")
    assert verify(store).damages == ()


def test_cancelled_in_the_ui_its_job_stops(deployment: Deployment) -> None:
    run = deployment.launch_training()
    working = deployment.processes(run)
    assert working
    asked = time.monotonic()
    deployment.webserver.terminate(run)
    assert deployment.webserver.end(run, 60) == "CANCELED"
    _, alive = psutil.wait_procs(working, GRACE)
    assert not alive
    assert time.monotonic() - asked < GRACE + 15
    deployment.wait_for(lambda: deployment.jobs()[f"dagster-run-{run}"].status == "STOPPED", 60)
    assert deployment.home.store().content("experiments/DS-1.0.0/C-01") is None


def test_a_killed_job_is_noticed_and_done_again(deployment: Deployment) -> None:
    run = deployment.launch_training()
    for process in deployment.processes(run):
        process.send_signal(signal.SIGKILL)
    assert deployment.webserver.end(run, 60) == "FAILURE"
    with dg.DagsterInstance.from_config(str(deployment.home.dagster)) as instance:

        def again() -> list[dg.DagsterRun]:
            return instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run}))

        deployment.wait_for(lambda: bool(again()), 60)
        [second] = again()
    assert deployment.webserver.end(second.run_id, 300) == "SUCCESS"
    store = deployment.home.store()
    record = store.record("experiments/DS-1.0.0/C-01")
    assert record is not None
    assert record.details["resumed_after_step"] > 0
    assert verify(store).damages == ()


def test_a_commands_own_run_is_not_taken_for_dead(deployment: Deployment) -> None:
    """It is none of the cluster's jobs, and lasts longer than the daemon waits."""
    deployment.checkout.cli("repro", "trained_model", "--force", "--allow-unpinned")
    with dg.DagsterInstance.from_config(str(deployment.home.dagster)) as instance:
        runs = [r for r in instance.get_runs() if r.remote_job_origin is None]
        [run] = [r for r in runs if "trained_model" in str(r.asset_selection)]
        failure = dg.DagsterEventType.RUN_FAILURE
        assert [log.message for log in instance.all_logs(run.run_id, of_type=failure)] == []
    assert run.status.value == "SUCCESS"
