"""What a run made counts when its blocking checks passed, not when nothing is known of them."""

import dagster as dg
import pytest

from defect_assets.automation.materializing import Materializer
from defect_assets.checks import leaks
from definitions import defs
from tests.assets.test_assets import (
    Platform,
    Silent,
    configs,  # noqa: F401
    instance,  # noqa: F401
    platform,  # noqa: F401
)
from tests.conftest import deliver


def test_a_run_that_ended_before_its_check_made_nothing_to_rely_on(
    platform: Platform,  # noqa: F811
    instance: dg.DagsterInstance,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def power_failure(*_: object) -> None:
        raise RuntimeError("the power failed")

    deliver(platform.home.inbox, "first", 1, 8)
    platform.materialize("raw_images", "first")
    platform.materialize("dataset_manifest", "DS-1.0.0")
    with monkeypatch.context() as patch:
        patch.setattr(leaks, "leaks", power_failure)
        assert not platform.materialize("dataset_split", "DS-1.0.0").success
    store, maker = platform.home.store(), Materializer(defs, instance, Silent())
    record = store.record("splits/DS-1.0.0")
    assert record is not None  # it was published before its check
    assert not maker.passed(record)

    assert platform.materialize("dataset_split", "DS-1.0.0").success
    record = store.record("splits/DS-1.0.0")
    assert record is not None
    assert maker.passed(record)
