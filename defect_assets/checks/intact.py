"""What is stored is what was stored."""

import random

import dagster as dg
import pyarrow as pa

from defect_assets.assets.dataset import dataset_manifest
from defect_assets.checks.subject import dataset_of
from defect_assets.dataset.images import damaged_files
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import find_snapshot
from defect_assets.resources import HomeResource
from defect_assets.store.columns import column

SAMPLED = 200
"""Samples of the dataset that the check reads; defect-assets verify reads all there is."""


@dg.asset_check(asset=dataset_manifest)
def images_are_intact(
    context: dg.AssetCheckExecutionContext, home: HomeResource
) -> dg.AssetCheckResult:
    """Images and masks of a dataset, some taken at random, have their digests."""
    store = home.open().store(cached=False)
    dataset = dataset_of(context, store)
    if dataset is None:
        return dg.AssetCheckResult(passed=True)
    _, header = find_snapshot(store, dataset)
    samples = samples_of(store, header.batches)
    chosen = random.sample(range(len(samples)), min(SAMPLED, len(samples)))
    damaged = damaged_files(store, samples.take(column(sorted(chosen), pa.int64())))
    return dg.AssetCheckResult(
        passed=not damaged,
        metadata={
            "dataset": dataset,
            "samples read": len(chosen),
            "damaged": dg.MetadataValue.json(damaged),
        },
    )
