"""Lineage says the same as Dagster, which wrote its own down while it materialized."""

import dagster as dg

from defect_assets.registry.lineage.graph import read_graph
from defect_assets.registry.stages import published_as
from defect_assets.store import digest_of
from definitions import defs
from tests.assets.test_assets import EXPERIMENT, Platform, configs, instance, platform
from tests.conftest import deliver

__all__ = ["configs", "instance", "platform"]

ROAD = [
    ("python_environment", None),
    ("raw_images", "first"),
    ("dataset_manifest", "DS-1.0.0"),
    ("dataset_split", "DS-1.0.0"),
    ("training_config", "C-01"),
    ("trained_model", EXPERIMENT),
    ("evaluation_report", EXPERIMENT),
    ("model_release", "v0.1.0"),
]
INPUT = "dagster/input_data_version/"


def test_the_same_answer_as_dagsters(platform: Platform) -> None:
    deliver(platform.home.inbox, "first", 1, 16)
    for asset, partition in ROAD:
        assert platform.materialize(asset, partition).success, asset
    graph = read_graph(platform.home.store())
    assets = {published_as(asset, partition): asset for asset, partition in ROAD}
    compared = 0
    for asset, partition in ROAD:
        tags = _tags(platform.instance, asset, partition)
        node = graph.nodes[tags["dagster/data_version"]]
        assert node.names == (published_as(asset, partition),)
        parents = [graph.nodes[edge.source] for edge in graph.made_of(node.key)]
        ours = {assets[parent.names[0]]: parent.key for parent in parents}
        dagsters = {tag.removeprefix(INPUT): tags[tag] for tag in tags if tag.startswith(INPUT)}
        assert ours.keys() == dagsters.keys()
        for name, version in dagsters.items():
            # Of an asset with partitions, Dagster writes down the hash of the versions of those
            # that were needed: of one, or of none where the arrow is without a partition.
            whole = ours[name]
            assert version in (whole, digest_of(whole.encode()), digest_of(b"")), (asset, name)
            compared += version != digest_of(b"")
    assert compared == 10

    [batch] = graph.of_kind("batch")
    onward = graph.around(batch.key, backward=False).nodes.values()
    came = {assets[name] for node in onward for name in node.names}
    assert came == {"raw_images"} | (_downstream("raw_images") & {asset for asset, _ in ROAD})


def _tags(instance: dg.DagsterInstance, asset: str, partition: str | None) -> dict[str, str]:
    """Return what Dagster wrote down of the last materialization."""
    key, partitions = dg.AssetKey(asset), [partition] if partition else None
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=partitions)
    [record] = instance.fetch_materializations(wanted, limit=1).records
    assert record.asset_materialization is not None
    return dict(record.asset_materialization.tags or {})


def _downstream(asset: str) -> set[str]:
    """Return the assets that Dagster draws arrows to, from one on."""
    graph = defs.resolve_asset_graph()
    found: set[dg.AssetKey] = set()
    pending = [dg.AssetKey(asset)]
    while pending:
        new = graph.get(pending.pop()).child_keys - found
        found |= new
        pending += new
    return {key.to_user_string() for key in found}
