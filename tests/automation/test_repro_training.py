"""What repro trains, and what it need not, with real trainings of a moment."""

from pathlib import Path

import pytest
import yaml

from defect_assets.automation.materializing import Materializer
from defect_assets.automation.road import Rehearsal, Road, Walked
from defect_assets.automation.scope import scope_of
from defect_assets.automation.telling import tell
from defect_assets.registry.freshness import State
from definitions import defs
from tests.assets.test_assets import (  # noqa: F401
    CONFIG,
    Platform,
    Silent,
    configs,
    instance,
    platform,
)
from tests.checkouts import commit_all
from tests.conftest import deliver
from tests.staleness import why_stale

pytestmark = pytest.mark.slow

EVALUATED = scope_of(["evaluation_report"], force=False)


def walk(platform: Platform, *ids: str) -> tuple[Road, Walked]:  # noqa: F811
    """Bring evaluations up to date, as the command does."""
    tell(platform.instance, platform.home)
    road = Road(platform.home, Materializer(defs, platform.instance, Silent()), scope=EVALUATED)
    walked = road.repro(ids)
    tell(platform.instance, platform.home)
    return road, walked


def stages(road: Road) -> list[str]:
    return [verdict.stage for verdict in road.stale]


def test_what_comes_out_the_same_is_not_evaluated_again(platform: Platform) -> None:  # noqa: F811
    deliver(platform.home.inbox, "first", 1, 16)
    road, _ = walk(platform, "C-01")
    assert stages(road)[-2:] == ["trained_model", "evaluation_report"]
    for verdict in road.seen:
        assert why_stale(platform.instance, defs, verdict.stage, verdict.partition) is None
    assert stages(walk(platform, "C-01")[0]) == []

    # As though it had been trained by older code, which came to the same weights.
    store = platform.home.store()
    record = store.record("experiments/DS-1.0.0/C-01")
    assert record is not None
    store.publish("experiments/DS-1.0.0/C-01", record.model_copy(update={"code_version": "older"}))
    planned = Road(platform.home, Rehearsal(), scope=EVALUATED)
    planned.repro(["C-01"])
    assert [(v.stage, v.state) for v in planned.stale] == [
        ("trained_model", State.STALE),
        ("evaluation_report", State.PERHAPS),
    ]
    assert "code of trained_model changed" in str(planned.stale[0])
    assert str(planned.stale[1]) == "if the content of trained_model changes"
    tell(platform.instance, platform.home)
    assert why_stale(platform.instance, defs, "trained_model", "C-01|DS-1.0.0") is not None
    assert stages(walk(platform, "C-01")[0]) == ["trained_model"]
    assert store.content("experiments/DS-1.0.0/C-01") == record.content
    for verdict in road.seen:
        assert why_stale(platform.instance, defs, verdict.stage, verdict.partition) is None


def test_what_fails_does_not_keep_another_configuration_from_being_trained(
    platform: Platform,  # noqa: F811
    configs: Path,  # noqa: F811
) -> None:
    deliver(platform.home.inbox, "first", 1, 16)
    (configs / "C-02.yaml").write_text(yaml.safe_dump(CONFIG | {"steps": 20}))
    (configs / "C-01.yaml").write_text(yaml.safe_dump(CONFIG | {"paint": {"Scratch": "crack"}}))
    commit_all(configs.parent)
    _, walked = walk(platform, "C-01", "C-02")
    [failure] = walked.failures
    assert failure.startswith("DS-1.0.0 × C-01: ")
    assert platform.home.store().content("reports/DS-1.0.0/C-02")
    assert platform.home.store().content("experiments/DS-1.0.0/C-01") is None

    settings = {"optimizer": {"learning_rate": 0.0005}, "steps": 20}
    (configs / "C-02.yaml").write_text(yaml.safe_dump(CONFIG | settings))
    planned = Road(platform.home, Rehearsal(), scope=EVALUATED)
    planned.repro(["C-02"])
    changed = "configuration C-02 changed: optimizer.learning_rate 0.003 → 0.0005"
    assert [(v.stage, str(v)) for v in planned.stale][:2] == [
        ("training_config", changed),
        ("trained_model", changed),
    ]
