"""Nothing is in a dataset twice."""

import dagster as dg

from defect_assets.assets.dataset import dataset_manifest
from defect_assets.checks.subject import dataset_of
from defect_assets.dataset.duplicates import find_duplicates
from defect_assets.dataset.snapshot import find_snapshot
from defect_assets.resources import HomeResource

SHOWN = 100
"""Images that the check lists of each kind."""


@dg.asset_check(asset=dataset_manifest)
def no_duplicates(
    context: dg.AssetCheckExecutionContext, home: HomeResource
) -> dg.AssetCheckResult:
    """No image is there twice, bit by bit, or as another part that looks the same.

    A warning: to count an image twice is a pity. That it would be trained on and tested on is what
    `no_part_in_several_places` forbids.
    """
    store = home.open().store()
    dataset = dataset_of(context, store)
    if dataset is None:
        return dg.AssetCheckResult(passed=True)
    _, snapshot = find_snapshot(store, dataset)
    found = find_duplicates(store, snapshot)
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "dataset": dataset,
            "same image": dg.MetadataValue.json(found.same[:SHOWN]),
            "same image, other label": dg.MetadataValue.json(found.contradicting[:SHOWN]),
            "looks the same": dg.MetadataValue.json(found.near[:SHOWN]),
            "images compared": found.compared,
        },
    )
