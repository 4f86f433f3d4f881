"""Checks of assets, shown in the UI."""

import random

import dagster as dg
import pyarrow as pa

from defect_assets.assets.dataset import dataset_manifest, dataset_split
from defect_assets.dataset import snapshot
from defect_assets.dataset.images import damaged_files
from defect_assets.dataset.leaks import leaks
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.split import REF, read_split
from defect_assets.resources import HomeResource
from defect_assets.store.columns import column

SAMPLED = 200
"""Samples of the newest dataset that a check reads; defect-assets verify reads all there is."""


@dg.asset_check(asset=dataset_manifest)
def images_are_intact(
    context: dg.AssetCheckExecutionContext, home: HomeResource
) -> dg.AssetCheckResult:
    """Images and masks of the newest dataset, some taken at random, have their digests."""
    store = home.open().store(cached=False)
    newest = snapshot.latest_version(store)
    if newest is None:
        return dg.AssetCheckResult(passed=True)
    _, header = snapshot.find_snapshot(store, str(newest))
    samples = samples_of(store, header.batches)
    chosen = random.sample(range(len(samples)), min(SAMPLED, len(samples)))
    damaged = damaged_files(store, samples.take(column(sorted(chosen), pa.int64())))
    return dg.AssetCheckResult(
        passed=not damaged,
        metadata={
            "dataset": str(newest),
            "samples read": len(chosen),
            "damaged": dg.MetadataValue.json(damaged),
        },
    )


@dg.asset_check(asset=dataset_split, blocking=True)
def no_group_in_several_parts(
    context: dg.AssetCheckExecutionContext, home: HomeResource
) -> dg.AssetCheckResult:
    """No physical part is in train and in test under another exposure: scores would be leaks."""
    store = home.open().store()
    torn: dict[str, list[str]] = {}
    # The check has one status for all partitions, so it looks at all of them.
    for name in store.refs.names(REF):
        digest = store.content(name)
        assert digest is not None
        found = leaks(store, read_split(store, digest))
        if found:
            torn[name.removeprefix(REF)] = [
                *found.groups,
                *(s for same in found.images for s in same),
            ]
    return dg.AssetCheckResult(
        passed=not torn,
        metadata={"torn groups": dg.MetadataValue.json(torn)},
    )
