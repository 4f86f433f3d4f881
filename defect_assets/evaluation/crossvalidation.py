"""Cross-validation: each part is tested once, by a model that never saw it."""

from collections.abc import Sequence

import pandas as pd
from pydantic import BaseModel, ConfigDict

from defect_assets.evaluation.bootstrap import RESAMPLES, intervals
from defect_assets.evaluation.metrics import Metrics, summarize
from defect_assets.evaluation.trial import TrialResult
from defect_assets.store import Digest, Store

SUMMARY, IMAGES = "crossvalidation.json", "images.csv"
"""The files of a cross-validation: this model, and the counts of each image."""


class Fold(TrialResult):
    """One fold: a model and how good it is on the parts that it did not see."""

    fold: int


class CrossValidation(BaseModel):
    """How good a configuration is on parts that training has not seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    config: str
    split: Digest
    folds: tuple[Fold, ...]
    pooled: Metrics
    """Over the images of all folds, each by the model that did not see its part."""
    intervals: dict[str, tuple[float, float]]
    """95 % intervals of the pooled scores, resampled by part; see
    `defect_assets.evaluation.bootstrap`."""
    resamples: int = RESAMPLES


def read_crossvalidation(store: Store, digest: Digest) -> CrossValidation:
    """Return the cross-validation with a digest."""
    return CrossValidation.model_validate_json(store.objects.get_tree(digest)[SUMMARY])


def pool_folds(
    dataset: str,
    config: str,
    split: Digest,
    folds: Sequence[Fold],
    tables: Sequence[pd.DataFrame],
    class_names: Sequence[str],
) -> tuple[CrossValidation, dict[str, bytes]]:
    """Pool the folds' images; return the result and its files.

    Parameters
    ----------
    dataset, config, split
        Of what.
    folds
        All of them.
    tables
        The counts of each fold's images, in the same order; see
        `defect_assets.evaluation.counts.count_image`.
    class_names
        The classes of defect that the models tell apart.
    """
    table = pd.concat(
        [t.assign(fold=fold.fold) for fold, t in zip(folds, tables, strict=True)]
    ).sort_values("sample", ignore_index=True)
    result = CrossValidation(
        dataset=dataset,
        config=config,
        split=split,
        folds=tuple(folds),
        pooled=summarize(table, class_names),
        intervals=intervals(table, class_names),
    )
    return result, {
        SUMMARY: result.model_dump_json(indent=1).encode(),
        IMAGES: table.to_csv(index=False).encode(),
    }
