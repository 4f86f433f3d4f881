"""The sensor over the inbox, on a real instance: what it asks for, and what it only reports."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from defect_assets.automation.deliveries import new_images
from defect_assets.dataset.delivery import COMPLETE
from defect_assets.home import default_home
from defect_assets.inbox import REASONS, State, arrivals
from tests.automation.conftest import Daemon, asked, why
from tests.servers.s3 import S3Server
from tests.small import deliver, picture, plain

Policy = Callable[..., None]


@pytest.fixture
def ready(daemon: Daemon) -> Daemon:
    """Past the first tick, which asks for the environment."""
    [request] = daemon.tick(new_images).run_requests or ()
    assert request.asset_selection == [dg.AssetKey("python_environment")]
    assert daemon.run(request).success
    return daemon


def test_what_is_complete_is_taken_in_once(ready: Daemon) -> None:
    plain(ready.home, "first", range(4))
    plain(ready.home, "second", range(4, 8))
    (ready.home.inbox / "second" / COMPLETE).unlink()
    assert [key.split("@")[0] for key in ready.settle(new_images)] == ["raw_images/first"]
    (ready.home.inbox / "second" / COMPLETE).touch()
    assert [key.split("@")[0] for key in ready.settle(new_images)] == ["raw_images/second"]
    assert why(ready.tick(new_images)) == "no new delivery"
    record = ready.home.store().record("batches/first")
    assert record is not None
    assert record.parents["python_environment"] == ready.home.store().content("environment")


def test_without_a_marker_a_delivery_is_whole_when_it_was_quiet(
    ready: Daemon, set_policy: Policy
) -> None:
    plain(ready.home, "first", range(4))
    folder = ready.home.inbox / "first"
    (folder / COMPLETE).unlink()
    assert why(ready.tick(new_images)) == "no new delivery"
    set_policy(deliveries={"quiet_minutes": 30})
    assert why(ready.tick(new_images)) == "no new delivery"
    set_policy(deliveries={"quiet_minutes": 1e-4})
    time.sleep(0.1)
    assert asked(ready.tick(new_images)) == ["first"]
    assert (folder / COMPLETE).exists()


def test_a_second_daemon_or_a_lost_cursor_asks_for_the_same_run(ready: Daemon) -> None:
    plain(ready.home, "first", range(4))
    one, other = (ready.tick(new_images).run_requests for _ in range(2))
    assert one
    assert other
    # Dagster makes one run of two requests with one key.
    assert one[0].run_key == other[0].run_key
    ready.begin(one[0])
    ready.cursors.clear()
    assert asked(ready.tick(new_images)) == []


def test_what_died_is_tried_again_a_few_times(ready: Daemon, set_policy: Policy) -> None:
    set_policy(attempts=2)
    plain(ready.home, "first", range(4))
    keys = []
    for _ in range(2):
        [request] = ready.tick(new_images).run_requests or ()
        keys.append(request.run_key)
        ready.die(request)
    assert [key and key[-2:] for key in keys] == ["#1", "#2"]
    assert "raw_images first failed 2 times" in why(ready.tick(new_images))


def test_what_is_refused_is_set_aside_with_its_reasons(ready: Daemon) -> None:
    deliver(ready.home, "bad", {"x": b"no image"}, {})
    plain(ready.home, "good", range(4))
    assert len(ready.settle(new_images)) == 2
    assert not (ready.home.inbox / "bad").exists()
    reasons = json.loads((ready.home.rejected / "bad" / REASONS).read_text())
    assert [reason["file"] for reason in reasons] == ["images/x.png"]
    key = dg.AssetCheckKey(dg.AssetKey("raw_images"), "delivery_is_sound")
    history = ready.instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    found = {
        e.metadata["delivery"].value: e.passed for r in history if (e := r.evaluation) is not None
    }
    assert found == {"bad": False, "good": True}

    # Mended and moved back it is another delivery, and welcome.
    shutil.move(ready.home.rejected / "bad", ready.home.inbox / "bad")
    (ready.home.inbox / "bad" / "images" / "x.png").write_bytes(picture(50))
    assert len(ready.settle(new_images)) == 1
    assert ready.home.store().content("batches/bad")


def test_a_refusal_stands_until_the_delivery_is_another_one(ready: Daemon) -> None:
    deliver(ready.home, "bad", {"x": b"no image"}, {})
    ready.settle(new_images)
    folder = ready.home.rejected / "bad"
    (folder / REASONS).unlink()
    # Moved back as it was it is refused already, without another run.
    folder.rename(ready.home.inbox / "bad")
    assert "raw_images bad was refused by run" in why(ready.tick(new_images))
    (ready.home.inbox / "bad" / COMPLETE).touch()
    assert asked(ready.tick(new_images)) == ["bad"]


def test_what_was_renamed_is_reported(ready: Daemon) -> None:
    plain(ready.home, "first", range(4))
    ready.settle(new_images)
    (ready.home.inbox / "first").rename(ready.home.inbox / "other")
    told = why(ready.tick(new_images))
    assert "other is first, which was taken in and has been renamed since" in told


def test_a_copy_is_taken_in_and_said_to_change_nothing(ready: Daemon) -> None:
    plain(ready.home, "first", range(4))
    ready.settle(new_images)
    shutil.copytree(ready.home.inbox / "first", ready.home.inbox / "copy")
    (ready.home.inbox / "copy" / "batch.yaml").write_text("notes: another day\n")
    assert len(ready.settle(new_images)) == 1
    event = ready.instance.get_latest_materialization_event(dg.AssetKey("raw_images"))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["same samples as"].value == "first"


def test_what_changed_since_is_reported_and_left(ready: Daemon) -> None:
    plain(ready.home, "first", range(4))
    ready.settle(new_images)
    before = ready.home.store().content("batches/first")
    (ready.home.inbox / "first" / "images" / "s001.png").write_bytes(picture(70))
    told = why(ready.tick(new_images))
    assert "changed since taken in, left as stored: first" in told
    assert ready.home.store().content("batches/first") == before


def test_no_name_that_cannot_be_one(ready: Daemon) -> None:
    plain(ready.home, "good", range(4))
    (ready.home.inbox / "good").rename(ready.home.inbox / "what?")
    assert "'what?' cannot be the name of a delivery" in why(ready.tick(new_images))


def test_a_home_without_a_dataset_is_left_alone(daemon: Daemon) -> None:
    daemon.home.dataset.unlink()
    assert "holds no dataset yet" in why(daemon.tick(new_images))


def test_a_faulty_policy_is_said(ready: Daemon, set_policy: Policy) -> None:
    set_policy(deliveries={"at_most": 3})
    assert "deliveries.at_most" in why(ready.tick(new_images))


def test_ten_thousand_wait_their_turn(ready: Daemon, set_policy: Policy) -> None:
    set_policy(deliveries={"at_once": 3})
    inbox = ready.home.inbox
    for number in range(10_000):
        folder = inbox / f"d{number:05}"
        folder.mkdir()
        (folder / COMPLETE).touch()
    start = time.monotonic()
    first = ready.tick(new_images)
    seconds = time.monotonic() - start
    assert asked(first) == ["d00000", "d00001", "d00002"]
    for request in first.run_requests or ():
        ready.begin(request)
    assert "3 deliveries are under way" in why(ready.tick(new_images))
    assert ready.instance.get_dynamic_partitions("batch") == asked(first)
    # A tick has a minute; on this machine it takes a fraction of a second.
    assert seconds < 10, seconds
    print(f"10,000 deliveries: {seconds:.2f} s a tick")


class TestBucket:
    """Deliveries that lie in a bucket."""

    @pytest.fixture(params=["moto", pytest.param("ceph", marks=pytest.mark.slow)])
    def server(self, request: pytest.FixtureRequest) -> S3Server:
        server: S3Server = request.getfixturevalue(request.param)
        return server

    @pytest.fixture
    def bucket(self, server: S3Server, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> str:
        url = server.new_store()
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("DEFECT_INBOX", url)
        daemon.run((daemon.tick(new_images).run_requests or ())[0])
        return url

    @staticmethod
    def upload(server: S3Server, url: str, folder: Path, *, marker: bool = True) -> None:
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        for path in sorted(folder.rglob("*")):
            if path.is_file() and (marker or path.name != COMPLETE):
                key = f"{prefix}/{folder.name}/{path.relative_to(folder).as_posix()}"
                server.client().put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
        shutil.rmtree(folder)

    def test_it_is_fetched_when_it_is_taken_in(
        self, server: S3Server, bucket: str, daemon: Daemon
    ) -> None:
        for name, numbers in (("first", range(4)), ("later", range(4, 8))):
            plain(daemon.home, name, numbers)
            self.upload(server, bucket, daemon.home.inbox / name, marker=name == "first")
        store = daemon.home.store()
        found = {a.name: a.state for a in arrivals(default_home(), store)}
        assert found == {"first": State.NEW, "later": State.INCOMPLETE}
        result = daemon.tick(new_images)
        assert asked(result) == ["first"]
        assert not (daemon.home.inbox / "first").exists()
        assert daemon.run((result.run_requests or ())[0]).success
        assert {p.name for p in daemon.home.inbox.iterdir()} == {"first"}
        assert why(daemon.tick(new_images)) == "no new delivery"

        plain(daemon.home, "first-again", range(4))
        (daemon.home.inbox / "first-again").rename(daemon.home.root / "first")
        (daemon.home.root / "first" / "images" / "s001.png").write_bytes(picture(70))
        self.upload(server, bucket, daemon.home.root / "first")
        assert "changed since taken in, left as stored: first" in why(daemon.tick(new_images))

    def test_what_was_refused_is_fetched_again_once_it_is_mended(
        self, server: S3Server, bucket: str, daemon: Daemon
    ) -> None:
        deliver(daemon.home, "bad", {"x": b"no image"}, {})
        self.upload(server, bucket, daemon.home.inbox / "bad")
        assert len(daemon.settle(new_images)) == 1
        assert (daemon.home.rejected / "bad" / REASONS).exists()
        deliver(daemon.home, "bad", {"x": picture(1)}, {})
        self.upload(server, bucket, daemon.home.inbox / "bad")
        assert len(daemon.settle(new_images)) == 1
        assert daemon.home.store().content("batches/bad")
