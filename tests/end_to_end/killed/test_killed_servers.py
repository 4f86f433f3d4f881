"""A training that runs under the real daemon: cancelled in the UI, or its processes killed. Who
comes next goes on from where it stopped, and the model is the one that was never disturbed.
"""

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest
from playwright.sync_api import Page

from defect_assets.assets.training_worker import GRACE
from defect_assets.assets.training_worker import __name__ as WORKER
from defect_assets.home import Home
from defect_assets.store.verify import verify
from tests.end_to_end.conftest import NEEDS_CHROMIUM, Checkout, free_port
from tests.end_to_end.test_unattended import Platform
from tests.servers.dagster import processes

pytestmark = pytest.mark.slow

MODEL = "experiments/DS-1.0.0/C-01"
STEPS = 1500

_REPOSITORY = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
    name location { name } } } } }"""
_LAUNCH = """mutation($run: ExecutionParams!) { launchRun(executionParams: $run) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


@pytest.fixture(scope="module")
def prepared(copy_checkout: Callable[[], Checkout]) -> Checkout:
    """A home with all that comes before the training."""
    checkout = copy_checkout()
    checkout.configure(steps=STEPS)
    checkout.cli("import", "synthetic", "--tiles", "16", "--name", "one")
    checkout.cli("repro", "dataset_split", "training_config")
    return checkout


@pytest.fixture(scope="module")
def undisturbed(prepared: Checkout) -> str:
    """The model's digest where nothing happens."""
    checkout = copied(prepared, "undisturbed")
    checkout.cli("repro", "trained_model")
    digest = Home(checkout.home).store().content(MODEL)
    assert digest
    return digest


@contextmanager
def training(checkout: Checkout) -> Iterator[tuple[Platform, str]]:
    """Start daemon and webserver, and a training; enter the block when some of it is saved."""
    port = free_port()
    command = [sys.executable, "-m", "defect_assets", "dev", "--port", str(port)]
    with checkout.background(command, f"http://127.0.0.1:{port}/server_info"):
        platform = Platform(f"http://127.0.0.1:{port}", Home(checkout.home))
        [repository] = platform.ask(_REPOSITORY)["repositoriesOrError"]["nodes"]
        run = {
            "selector": {
                "repositoryName": repository["name"],
                "repositoryLocationName": repository["location"]["name"],
                "jobName": "__ASSET_JOB",
                "assetSelection": [{"path": ["trained_model"]}],
                "assetCheckSelection": [],
            },
            "mode": "default",
            "runConfigData": {"ops": {"trained_model": {"config": {"checkpoint_minutes": 0.02}}}},
            "executionMetadata": {
                "tags": [
                    {"key": "dagster/partition", "value": "C-01|DS-1.0.0"},
                    {"key": "dagster/partition/config", "value": "C-01"},
                    {"key": "dagster/partition/dataset", "value": "DS-1.0.0"},
                ]
            },
        }
        answer = platform.ask(_LAUNCH, run=run)["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        state = Home(checkout.home).training("DS-1.0.0", "C-01") / "checkpoint.pt"
        log = checkout.root / "background.log"
        wait_for(state.exists, 180, log.read_text)
        yield platform, answer["run"]["runId"]


def wait_for(what: Callable[[], bool], seconds: float, why: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, why()[-3000:]
        time.sleep(0.1)


def running(checkout: Checkout, what: str) -> list[psutil.Process]:
    return [p for p in processes(checkout) if what in " ".join(p.cmdline())]


def goes_on_to(checkout: Checkout, digest: str) -> None:
    """Let the next walk end the work, and compare."""
    store = Home(checkout.home).store()
    assert verify(store).damages == ()
    checkout.cli("repro", "trained_model")
    record = store.record(MODEL)
    assert record is not None
    assert record.content == digest
    assert 0 < record.details["resumed_after_step"] <= STEPS
    assert verify(store).damages == ()


def copied(prepared: Checkout, name: str) -> Checkout:
    """Return the same checkout, with a home of its own in place of the prepared one."""
    checkout = Checkout(prepared.root, name)
    shutil.copytree(prepared.home, checkout.home)
    return checkout


@NEEDS_CHROMIUM
def test_cancelled_by_a_click_it_stops_within_seconds(
    prepared: Checkout, undisturbed: str, page: Page
) -> None:
    checkout = copied(prepared, "cancelled")
    with training(checkout) as (platform, run):
        [worker] = running(checkout, WORKER)
        page.goto(f"{platform.url}/runs/{run}")
        page.get_by_role("button", name="Terminate").click()
        dialog = page.get_by_role("dialog")
        asked = time.monotonic()
        dialog.get_by_role("button", name="Terminate 1 run").click()
        wait_for(lambda: not worker.is_running(), GRACE)
        assert time.monotonic() - asked < GRACE
        page.get_by_text("Canceled").first.wait_for()
        assert Home(checkout.home).store().content(MODEL) is None
    goes_on_to(checkout, undisturbed)


@pytest.mark.parametrize("victim", ["run worker", "training worker", "daemon", "code server"])
def test_killed_it_is_taken_up_again(prepared: Checkout, undisturbed: str, victim: str) -> None:
    checkout = copied(prepared, f"killed-{victim.replace(' ', '-')}")
    with training(checkout):
        [worker] = running(checkout, WORKER)
        parent = worker.parent()
        assert parent is not None
        victims = {
            "run worker": [parent],
            "training worker": [worker],
            "daemon": running(checkout, "dagster._daemon"),
            "code server": running(checkout, "grpc"),
        }[victim]
        assert victims
        for process in victims:
            process.send_signal(signal.SIGKILL)
        if victim == "run worker":
            wait_for(lambda: not worker.is_running(), 5)  # it does not go on alone
    for process in processes(checkout):  # what outlived the servers
        process.kill()
    goes_on_to(checkout, undisturbed)
