"""What is done by the clock, on a real instance."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster_aws.s3 import S3Resource
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.automation.upkeep import (
    garbage_report,
    nightly_verification,
    reevaluation,
    verification,
)
from defect_assets.registry.channels import promote
from defect_assets.registry.reevaluation import Reevaluation
from defect_assets.resources import HomeResource
from defect_assets.store import Store
from defect_assets.store.inventory import immutable_entries
from defect_assets.store.verify import Portion, verify
from tests.automation.conftest import Daemon
from tests.experiments import (
    LENIENT,
    Made,
    new_home,
    publish_experiment,
    small_dataset,
    write_gates,
)
from tests.registry.releasing import publish_release
from tests.small import damage


@pytest.fixture
def store(daemon: Daemon) -> Store:
    daemon.home.dataset.unlink()
    new_home(daemon.home.root)
    store = daemon.home.store()
    small_dataset(daemon.home, store)
    return store


def do(
    daemon: Daemon, job: dg.JobDefinition, config: dict | None = None
) -> dg.ExecuteInProcessResult:
    return job.execute_in_process(
        run_config=config or {},
        instance=daemon.instance,
        resources={"home": HomeResource(s3=S3Resource())},
        raise_on_error=False,
    )


def output(result: dg.ExecuteInProcessResult) -> dict:
    [event] = [e for e in result.all_events if e.is_successful_output]
    return {k: v.value for k, v in event.step_output_data.metadata.items()}


def why_failed(result: dg.ExecuteInProcessResult) -> str:
    [event] = [e for e in result.all_events if e.is_step_failure]
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return data.description or ""


@given(st.text(min_size=1), st.integers(1, 40))
def test_each_key_is_in_one_portion(key: str, of: int) -> None:
    assert sum(key in Portion(number, of) for number in range(of)) == 1


def test_all_of_the_store_is_read_in_as_many_nights_as_the_policy_says(
    daemon: Daemon, store: Store
) -> None:
    read = 0
    shares = set()
    for day in range(14):
        night = datetime(2026, 12, 25, 3, tzinfo=UTC) + timedelta(days=day)
        with dg.build_schedule_context(scheduled_execution_time=night) as context:
            request = nightly_verification(context)
        assert isinstance(request, dg.RunRequest)
        share = request.run_config["ops"]["verify_portion"]["config"]
        shares.add((share["number"], share["of"]))
        read += verify(store, portion=Portion(**share)).keys - len(list(store.refs.names()))
    assert len(shares) == 14
    assert read == len(immutable_entries(store.backend))


def test_damage_is_found_in_its_night_and_named(daemon: Daemon, store: Store) -> None:
    folder = Path(daemon.home.url)
    key = store.content("splits/DS-1.0.0") or ""
    path = folder / "objects" / key[:2] / key[2:]
    assert do(daemon, verification).success
    damage(path)
    share = next(n for n in range(3) if f"objects/{key[:2]}/{key[2:]}" in Portion(n, 3))
    config = {"ops": {"verify_portion": {"config": {"number": share, "of": 3}}}}
    told = why_failed(do(daemon, verification, config))
    assert "missing or damaged" in told
    assert "splits/DS-1.0.0" in told


def test_the_report_of_garbage_removes_nothing(daemon: Daemon, store: Store) -> None:
    before = set(immutable_entries(store.backend))
    found = output(do(daemon, garbage_report))
    assert found["kept"] > 0
    assert set(immutable_entries(store.backend)) == before


class TestReevaluation:
    def test_nothing_in_production_is_nothing_to_test(self, daemon: Daemon, store: Store) -> None:
        assert do(daemon, reevaluation).success
        assert list(store.refs.names("reevaluations/")) == []

    def test_production_is_tested_on_the_newest_snapshot(
        self, daemon: Daemon, store: Store, tmp_path: Path
    ) -> None:
        write_gates(tmp_path / "checkout", **LENIENT)
        publish_experiment(store, Made())
        publish_release(store, tmp_path / "checkout")
        promote(store, "production", "v0.1.0", "someone", "a test")
        small_dataset(daemon.home, store, "more", 200)
        found = output(do(daemon, reevaluation))
        assert (found["release"], found["dataset"]) == ("v0.1.0", "DS-1.1.0")
        record = store.record("reevaluations/v0.1.0/DS-1.1.0")
        assert record is not None
        made = Reevaluation.model_validate(store.objects.get_json(record.content))
        assert made.test.images == found["images"] > 0
        # An untrained network is worse than what was made up of it.
        assert (made.test.dice or 0) < found["Dice when released"]
        # The store holds all that it mentions.
        assert verify(store).damages == ()
