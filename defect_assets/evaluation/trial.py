"""A trial: one model, and how good it is on the parts that were kept from it."""

import io

import pandas as pd
from pydantic import BaseModel, ConfigDict

from defect_assets.evaluation.metrics import Metrics
from defect_assets.store import Digest, Store


class TrialResult(BaseModel):
    """What a trial came to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Digest
    """The model."""
    images: Digest
    """The counts of each image of its test part, as CSV."""
    threshold: float
    """Chosen on the trial's own validation part."""
    test: Metrics

    def read_table(self, store: Store) -> pd.DataFrame:
        """Return the counts of each image; see `defect_assets.evaluation.counts.count_image`."""
        return pd.read_csv(
            io.BytesIO(store.objects.get(self.images)),
            dtype={"sample": str, "group": str, "exposure": str},
        )
