"""What production says of a snapshot, as an asset."""

from collections.abc import Iterator

import dagster as dg
import pytest

from defect_assets.home import PROJECT, Home
from defect_assets.registry.channels import promote
from defect_assets.registry.freshness import Outlook, State, judge
from defect_assets.registry.lineage.lineage import lineage
from defect_assets.registry.stages import STAGES
from defect_assets.scoring.predictions import read_predictions
from definitions import defs
from tests.assets.test_assets import Platform, failure
from tests.conftest import deliver
from tests.releases import publish_release
from tests.staleness import why_stale


@pytest.fixture
def platform(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.setenv("DEFECT_HOME", str(home.root))
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        yield Platform(home, instance)


def test_production_looks_at_a_snapshot(platform: Platform) -> None:
    name, dataset = "production_predictions", "DS-1.0.0"
    deliver(platform.home.inbox, "first", 1, 4)
    for asset, partition in [
        ("python_environment", None),
        ("raw_images", "first"),
        ("dataset_manifest", dataset),
    ]:
        assert platform.materialize(asset, partition).success
    store = platform.home.store()
    publish_release(store, "v0.1.0", 85)
    refused = failure(platform.materialize(name, dataset))
    assert "nothing is in production yet" in refused.description

    promote(store, "production", "v0.1.0", "me", "it is good")
    assert platform.materialize(name, dataset).success
    record = store.record("predictions/DS-1.0.0")
    assert record is not None
    assert record.details["release"] == "v0.1.0"
    assert platform.version(name, dataset) == record.content
    assert why_stale(platform.instance, defs, name, dataset) is None
    assert sum(read_predictions(store, record.content).verdicts.values()) == 12

    found = lineage(store, "v0.1.0", False, True).forward
    assert found is not None
    assert "predictions DS-1.0.0" in {node.title for node in found.nodes.values()}

    # The same again is the same; another release in production makes it stale.
    assert platform.materialize(name, dataset).success
    assert store.content("predictions/DS-1.0.0") == record.content
    assert _state(platform) is State.FRESH
    publish_release(store, "v0.2.0", 60)
    assert _state(platform) is State.FRESH
    promote(store, "production", "v0.2.0", "me", "it is better")
    assert _state(platform) is State.STALE
    assert platform.materialize(name, dataset).success
    assert store.content("predictions/DS-1.0.0") != record.content
    assert _state(platform) is State.FRESH


def _state(platform: Platform) -> State:
    outlook = Outlook(platform.home.store())
    return judge(outlook, STAGES["production_predictions"], "DS-1.0.0", PROJECT).state
