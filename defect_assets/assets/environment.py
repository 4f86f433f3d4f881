"""What results depend on beside the data: the environment and the configurations."""

import dagster as dg

from defect_assets.assets.publishing import OWNERS, record_of, ref_of, refuse, result_of
from defect_assets.home import CONFIGS, LOCK
from defect_assets.partitions import configs
from defect_assets.registry.configs import digest_of_config, values_of
from defect_assets.registry.environment import (
    current_environment,
    drift,
    record_environment,
)
from defect_assets.registry.stages import STAGES
from defect_assets.resources import HomeResource
from defect_assets.settings import SettingsError, read_settings
from defect_assets.store import Digest
from defect_assets.training.config import TrainingConfig


def config_digest(config: str) -> Digest:
    """Return the data version that ``training_config`` has now."""
    return digest_of_config(read_settings(CONFIGS / f"{config}.yaml", TrainingConfig))


@dg.asset(
    group_name="environment",
    kinds={"python"},
    owners=OWNERS,
    code_version=STAGES["python_environment"].code_version,
)
def python_environment(
    context: dg.AssetExecutionContext, home: HomeResource
) -> dg.MaterializeResult:
    """The frozen environment: Python, PyTorch, CUDA and every locked package.

    All that computes depends on it, so that a changed package makes its results out of date.
    """
    environment = current_environment(LOCK)
    store = home.open().store()
    record = record_of(context, record_environment(store, LOCK), parents={})
    store.publish(ref_of(record), record)
    drifted = drift(LOCK)
    if drifted:
        context.log.warning("installed packages differ from the lock: make venv mends it")
    return result_of(
        record,
        {
            "python": environment.python,
            "torch": environment.torch,
            "cuda": environment.cuda or "none",
            "packages": len(environment.packages),
            "differs from the lock": dg.MetadataValue.json(
                {
                    name: f"{installed}, not {locked}"
                    for name, (locked, installed) in drifted.items()
                }
            ),
        },
    )


@dg.asset(
    group_name="configuration",
    kinds={"yaml"},
    owners=OWNERS,
    partitions_def=configs,
    code_version=STAGES["training_config"].code_version,
)
def training_config(context: dg.AssetExecutionContext, home: HomeResource) -> dg.MaterializeResult:
    """A training configuration, by its id, from ``configs``."""
    try:
        config = read_settings(CONFIGS / f"{context.partition_key}.yaml", TrainingConfig)
    except SettingsError as error:
        raise refuse(error) from error
    store = home.open().store()
    values = values_of(config)
    record = record_of(context, store.objects.put_json(values), parents={})
    store.publish(ref_of(record), record)
    return result_of(
        record,
        {
            "notes": config.notes,
            "steps": config.steps,
            "architecture": config.architecture.encoder or config.architecture.name,
            "config": dg.MetadataValue.json(values),
        },
    )
