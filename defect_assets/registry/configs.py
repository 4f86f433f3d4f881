"""A training configuration's identity: the values that decide the training."""

from typing import Any

from defect_assets.store import Digest, canonical_json, digest_of
from defect_assets.training.config import TrainingConfig

REF = "configs/"


def values_of(config: TrainingConfig) -> dict[str, Any]:
    """Return what decides the training: all but the notes."""
    return config.model_dump(mode="json", exclude={"notes"})


def digest_of_config(config: TrainingConfig) -> Digest:
    """Return the data version of ``training_config`` for a configuration."""
    return digest_of(canonical_json(values_of(config)))
