"""Snapshots that are cut by themselves, on a real instance."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import dagster as dg
from dagster_aws.s3 import S3Resource

from defect_assets.automation.cutting import enough_is_new, nightly_cut
from defect_assets.home import Home
from defect_assets.resources import HomeResource
from tests.automation.conftest import Daemon, asked, why
from tests.small import cut, deliver, ingest, plain

Policy = Callable[..., None]


def take_in(home: Home, name: str, numbers: Iterable[int]) -> None:
    plain(home, name, numbers)
    ingest(home, home.store(), name)


def at_night(daemon: Daemon) -> list[dg.RunRequest] | dg.SkipReason:
    with dg.build_schedule_context(
        instance=daemon.instance,
        scheduled_execution_time=datetime(2026, 11, 21, 2, tzinfo=UTC),
        resources={"home": HomeResource(s3=S3Resource())},
    ) as context:
        found = nightly_cut(context)
    assert isinstance(found, list | dg.SkipReason)
    return found


def test_enough_batches_or_enough_images_make_a_snapshot(
    daemon: Daemon, set_policy: Policy
) -> None:
    set_policy(cut={"batches": 2, "images": 10})
    assert "0 batches with 0 images are new" in why(daemon.tick(enough_is_new))
    take_in(daemon.home, "first", range(4))
    assert "1 batches with 4 images are new" in why(daemon.tick(enough_is_new))
    take_in(daemon.home, "second", range(4, 6))
    [request] = daemon.tick(enough_is_new).run_requests or ()
    assert request.partition_key == "DS-1.0.0"
    assert daemon.run(request).success
    assert daemon.home.store().content("datasets/DS-1.0.0")

    take_in(daemon.home, "large", range(6, 18))
    assert asked(daemon.tick(enough_is_new)) == ["DS-1.1.0"]


def test_what_is_being_taken_in_is_waited_for(daemon: Daemon, set_policy: Policy) -> None:
    set_policy(cut={"batches": 1})
    take_in(daemon.home, "first", range(4))
    other = daemon.begin(
        dg.RunRequest(
            asset_selection=[dg.AssetKey("raw_images")],
            partition_key="second",
            tags={"defect-assets/asset": "raw_images"},
        )
    )
    assert "1 deliveries are being taken in" in why(daemon.tick(enough_is_new))
    daemon.instance.report_run_canceled(other)
    assert asked(daemon.tick(enough_is_new)) == ["DS-1.0.0"]


def test_each_night_takes_the_little_there_is(daemon: Daemon) -> None:
    assert isinstance(at_night(daemon), dg.SkipReason)
    take_in(daemon.home, "first", range(4))
    requests = at_night(daemon)
    assert isinstance(requests, list)
    assert [request.partition_key for request in requests] == ["DS-1.0.0"]
    # The sensor would ask for the same run.
    assert daemon.run(requests[0]).success
    nothing = at_night(daemon)
    assert isinstance(nothing, dg.SkipReason)
    assert nothing.skip_message == "nothing is pending"


def test_a_refused_cut_waits_for_another_change(daemon: Daemon, set_policy: Policy) -> None:
    set_policy(cut={"batches": 1})
    take_in(daemon.home, "first", range(4))
    [request] = daemon.tick(enough_is_new).run_requests or ()
    deliver(daemon.home, "fix", {}, {}, remove=["s003"])
    ingest(daemon.home, daemon.home.store(), "fix")
    description = daemon.home.dataset.read_text()
    daemon.home.dataset.write_text(description.replace("Crack", "Scratch"))
    assert not daemon.run(request).success
    assert "lacks Crack" in why(daemon.tick(enough_is_new))
    daemon.home.dataset.write_text(description)
    [again] = daemon.tick(enough_is_new).run_requests or ()
    assert again.run_key != request.run_key


def test_the_same_refusal_is_not_asked_for_twice(daemon: Daemon, set_policy: Policy) -> None:
    set_policy(cut={"batches": 1})
    take_in(daemon.home, "first", range(4))
    [request] = daemon.tick(enough_is_new).run_requests or ()
    description = daemon.home.dataset.read_text()
    daemon.home.dataset.write_text(description.replace("Crack", "Scratch"))
    assert not daemon.run(request).success
    daemon.home.dataset.write_text(description)
    assert "was refused by run" in why(daemon.tick(enough_is_new))


def test_what_a_command_cut_dagster_is_told_of(daemon: Daemon) -> None:
    take_in(daemon.home, "first", range(4))
    cut(daemon.home, daemon.home.store())
    requests = at_night(daemon)
    assert isinstance(requests, list)
    assert daemon.run(requests[0]).success
    assert isinstance(at_night(daemon), dg.SkipReason)
