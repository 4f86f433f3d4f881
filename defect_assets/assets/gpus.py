"""How much of a GPU an asset has use for on a cluster, by a tag of its own."""

import dagster as dg

TAG = "defect-assets/gpus"


def asks_for(gpus: float) -> dict[str, str]:
    """Return the tags of an asset whose tasks each use so much of a GPU, where there is any."""
    return {TAG: f"{gpus:g}"}


def gpus_of(context: dg.AssetExecutionContext) -> float:
    """Return what the tag of an asset says."""
    return float(context.op_execution_context.op.tags.get(TAG, 0))
