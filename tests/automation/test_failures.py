"""A failed run is told once: to a real server over HTTP."""

from collections.abc import Iterator

import dagster as dg
import pytest
import urllib3

from defect_assets.automation import failures
from defect_assets.automation.failures import failed_runs
from tests.automation.conftest import Daemon
from tests.servers.webhook import Receiver, webhook
from tests.small import deliver


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with webhook() as server:
        monkeypatch.setenv(failures.WEBHOOK, server.url)
        monkeypatch.setenv(failures.UI, "https://dagster.example/")
        yield server


@pytest.fixture
def failed(daemon: Daemon) -> dg.ExecuteInProcessResult:
    deliver(daemon.home, "bad", {"x": b"no image"}, {})
    daemon.instance.add_dynamic_partitions("batch", ["bad"])
    return daemon.run(
        dg.RunRequest(asset_selection=[dg.AssetKey("raw_images")], partition_key="bad")
    )


def tell(daemon: Daemon, result: dg.ExecuteInProcessResult) -> None:
    context = dg.build_run_status_sensor_context(
        sensor_name=failed_runs.name,
        dagster_instance=daemon.instance,
        dagster_run=result.dagster_run,
        dagster_event=result.get_run_failure_event(),
    ).for_run_failure()
    failed_runs(context)


def test_it_says_what_failed_and_why_with_a_link(
    receiver: Receiver, daemon: Daemon, failed: dg.ExecuteInProcessResult
) -> None:
    tell(daemon, failed)
    [message] = receiver.messages
    assert (message["asset"], message["partition"]) == ("raw_images", "bad")
    assert message["link"] == f"https://dagster.example/runs/{failed.run_id}"
    assert "images/x.png: it is not an image" in message["reason"]
    assert message["text"].startswith("raw_images bad failed: the delivery bad is refused whole")


def test_a_receiver_that_is_busy_is_asked_again_and_gets_it_once(
    receiver: Receiver,
    daemon: Daemon,
    failed: dg.ExecuteInProcessResult,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(failures, "PATIENCE", failures.PATIENCE.new(backoff_factor=0.01))
    receiver.answers = [503, 429]
    tell(daemon, failed)
    assert len(receiver.messages) == 1


def test_no_receiver_is_no_reason_to_fail(
    daemon: Daemon, failed: dg.ExecuteInProcessResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(failures.WEBHOOK, "http://127.0.0.1:9/hook")
    monkeypatch.setattr(failures, "PATIENCE", urllib3.Retry(0))
    tell(daemon, failed)
    monkeypatch.delenv(failures.WEBHOOK)
    tell(daemon, failed)
