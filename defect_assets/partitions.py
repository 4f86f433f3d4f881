"""How the assets are partitioned."""

from collections.abc import Iterable

import dagster as dg

from defect_assets.home import CONFIGS
from defect_assets.registry.stages import Axis
from defect_assets.training.config import config_ids

batches = dg.DynamicPartitionsDefinition(name="batch")
"""One per delivery in the inbox, by its name."""

datasets = dg.DynamicPartitionsDefinition(name="dataset")
"""One per snapshot: DS-1.0.0, DS-1.1.0 …"""

configs = dg.StaticPartitionsDefinition(config_ids(CONFIGS))
"""One per file in configs: C-01, C-02 …"""

experiments = dg.MultiPartitionsDefinition({"config": configs, "dataset": datasets})
"""The experiment table: a column changes only the data, a row only the configuration."""

releases = dg.DynamicPartitionsDefinition(name="release")
"""One per release: v0.1.0 …"""


def experiment_key(dataset: str, config: str) -> dg.MultiPartitionKey:
    """Return the partition of an experiment."""
    return dg.MultiPartitionKey({"config": config, "dataset": dataset})


def dagster_key(axis: Axis, partition: str) -> str:
    """Return a partition as Dagster wants it."""
    if axis is not Axis.EXPERIMENT:
        return partition
    config, dataset = partition.split("|")
    return experiment_key(dataset, config)


def register(instance: dg.DagsterInstance, axis: Axis, keys: Iterable[str]) -> None:
    """Make partitions known to Dagster; those of configurations are, by their files."""
    if axis not in _DYNAMIC:
        return
    known = set(instance.get_dynamic_partitions(axis))
    new = [key for key in keys if key not in known]
    for start in range(0, len(new), _AT_ONCE):
        instance.add_dynamic_partitions(axis, new[start : start + _AT_ONCE])


_DYNAMIC = (Axis.BATCH, Axis.DATASET, Axis.RELEASE)
_AT_ONCE = 10_000
"""Dagster's database takes no more than 30,000 or so in one go."""


def experiment_of(context: dg.AssetExecutionContext) -> tuple[str, str]:
    """Return the dataset and the config of the experiment that is being materialized."""
    key = context.partition_key
    assert isinstance(key, dg.MultiPartitionKey)
    return key.keys_by_dimension["dataset"], key.keys_by_dimension["config"]
