"""Whether an asset's partition is up to date, as Dagster's UI shows it.

`repro` must agree with it.

Dagster has no public way to ask this for a partition from Python, so this touches its internals.
"""

from datetime import UTC, datetime

import dagster as dg
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView, TemporalContext
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus


def why_stale(
    instance: dg.DagsterInstance, defs: dg.Definitions, asset: str, partition: str | None = None
) -> str | None:
    """Return why a partition is not up to date, or None where it is.

    Only direct parents count, so ask again after each materialization on the way down.

    Parameters
    ----------
    instance
        Where materializations are recorded.
    defs
        The definitions as they are now.
    asset
        The asset's name.
    partition
        Its partition's key; None where it has none.
    """
    graph = defs.resolve_asset_graph()
    now = TemporalContext(effective_dt=datetime.now(UTC), last_event_id=None)
    view = AssetGraphView(temporal_context=now, instance=instance, asset_graph=graph)
    # A resolver remembers what it read, so each question gets a fresh one.
    resolver = CachingStaleStatusResolver(instance, graph, view)
    key = dg.AssetKey(asset)
    status = resolver.get_status(key, partition)
    if status == StaleStatus.FRESH:
        return None
    if status == StaleStatus.MISSING:
        return "not there yet"
    causes = [
        f"{cause.dependency.asset_key.to_user_string()} changed"
        if cause.dependency
        else cause.reason
        for cause in resolver.get_stale_causes(key, partition)
    ]
    return ", ".join(dict.fromkeys(causes)) or "out of date"
