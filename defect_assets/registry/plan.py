"""What someone is about to train, and what of it is there already."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from defect_assets.dataset.snapshot import Snapshot, read_snapshot
from defect_assets.dataset.split import REF as SPLITS
from defect_assets.dataset.split import Split, read_split
from defect_assets.registry.configs import REF as CONFIGS
from defect_assets.settings import SettingsError, explain
from defect_assets.store import Store
from defect_assets.training.config import TrainingConfig


@dataclass(frozen=True)
class Plan:
    """What someone is about to train, and where.

    Parameters
    ----------
    project
        The checkout: ``configs``, ``requirements.lock``, ``pyproject.toml`` and the package.
    store
        Where the data are, and the model will be.
    home
        The folder on whose disk the training works.
    dataset, config
        The experiment, e.g. ``DS-1.1.0`` and ``C-01``.
    accelerator
        What is asked for: ``auto``, ``cpu``, ``cuda`` or ``gpu``.
    """

    project: Path
    store: Store
    home: Path
    dataset: str
    config: str
    accelerator: str = "auto"

    @property
    def experiment(self) -> str:
        """The name that the model gets."""
        return f"experiments/{self.dataset}/{self.config}"

    @property
    def config_file(self) -> str:
        """The configuration's file, below the checkout."""
        return f"configs/{self.config}.yaml"

    def read_config(self) -> TrainingConfig | None:
        """Read the configuration that is trained, the one that the store records; or None.

        Raises
        ------
        SettingsError
            If the recorded values are none that this code knows.
        """
        recorded = self.store.content(f"{CONFIGS}{self.config}")
        if recorded is None:
            return None
        try:
            return TrainingConfig.model_validate(self.store.objects.get_json(recorded))
        except ValidationError as error:
            raise SettingsError(f"the store's {self.config}: {explain(error)}") from error

    def read_data(self) -> tuple[Split, Snapshot] | None:
        """Read the split and its snapshot; None where there is no split yet."""
        digest = self.store.content(f"{SPLITS}{self.dataset}")
        if digest is None:
            return None
        split = read_split(self.store, digest)
        return split, read_snapshot(self.store, split.snapshot)
