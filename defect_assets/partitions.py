"""How the assets are partitioned."""

import dagster as dg

from defect_assets.home import CONFIGS
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


def published_as(asset: str, partition: str | None) -> str:
    """Return the name in the store under which an asset's partition is published."""
    of_experiments = {
        "trained_model": "experiments",
        "evaluation_report": "reports",
        "cross_validation": "crossvalidations",
        "leak_audit": "leakaudits",
    }
    if asset in of_experiments:
        assert partition is not None
        config, dataset = partition.split("|")
        return f"{of_experiments[asset]}/{dataset}/{config}"
    names = {
        "python_environment": "environment",
        "training_config": f"configs/{partition}",
        "raw_images": f"batches/{partition}",
        "dataset_manifest": f"datasets/{partition}",
        "dataset_split": f"splits/{partition}",
        "model_release": f"releases/{partition}",
        "defect_bento": f"bentos/{partition}",
    }
    return names[asset]


def experiment_of(context: dg.AssetExecutionContext) -> tuple[str, str]:
    """Return the dataset and the config of the experiment that is being materialized."""
    key = context.partition_key
    assert isinstance(key, dg.MultiPartitionKey)
    return key.keys_by_dimension["dataset"], key.keys_by_dimension["config"]
