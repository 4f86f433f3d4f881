"""What a check looks at: the partition of the run that it is a step of, or else the newest."""

import dagster as dg

from defect_assets.dataset.snapshot import latest_version
from defect_assets.registry.release.candidates import ReleaseRefused, last_evaluated
from defect_assets.registry.release.releases import releases
from defect_assets.store import Store


def dataset_of(context: dg.AssetCheckExecutionContext, store: Store) -> str | None:
    """Return the dataset to look at, or None where there is none."""
    if key := _partition(context):
        return str(key)
    newest = latest_version(store)
    return str(newest) if newest else None


def experiment_of(context: dg.AssetCheckExecutionContext, store: Store) -> tuple[str, str] | None:
    """Return the dataset and the config of the experiment to look at, or None."""
    key = _partition(context)
    if isinstance(key, dg.MultiPartitionKey):
        return key.keys_by_dimension["dataset"], key.keys_by_dimension["config"]
    try:
        return last_evaluated(store)
    except ReleaseRefused:
        return None


def release_of(context: dg.AssetCheckExecutionContext, store: Store) -> str | None:
    """Return the release to look at, or None where there is none."""
    if key := _partition(context):
        return str(key)
    known = releases(store)
    return known[-1].id if known else None


def _partition(context: dg.AssetCheckExecutionContext) -> str | None:
    run = context.op_execution_context
    return run.partition_key if run.has_partition_key else None
