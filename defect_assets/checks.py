"""Checks of assets, shown in the UI."""

import random

import dagster as dg
import pyarrow as pa

from defect_assets.assets.dataset import dataset_manifest, dataset_split
from defect_assets.dataset import snapshot
from defect_assets.dataset.images import damaged_files
from defect_assets.dataset.leaks import describe, leaks
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.split import REF, read_split
from defect_assets.dataset.version import Version
from defect_assets.resources import HomeResource
from defect_assets.store.columns import column

SAMPLED = 200
"""Samples of the newest dataset that a check reads; defect-assets verify reads all there is."""
SHOWN = 100
"""Near-duplicates that a check lists."""


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
def no_part_in_several_places(
    context: dg.AssetCheckExecutionContext, home: HomeResource
) -> dg.AssetCheckResult:
    """No physical part is in train and in test under another exposure: scores would be leaks.

    Groups, images that are the same, and near-duplicates, in train, val and test and in every fold;
    of the dataset that is being split, or else of the newest one.
    """
    store = home.open().store()
    run = context.op_execution_context
    if run.has_partition_key:
        dataset = run.partition_key
    else:
        known = [Version.parse(name.removeprefix(REF)) for name in store.refs.names(REF)]
        dataset = str(max(known)) if known else ""
    digest = store.content(f"{REF}{dataset}")
    if digest is None:
        return dg.AssetCheckResult(passed=True)
    split = read_split(store, digest)
    torn = leaks(store, split)
    wrong, mend = describe(torn)
    alike = [
        dg.TableRecord({"sample": one, "looks like": other, "similarity": round(similarity, 3)})
        for one, other, similarity in torn.near_duplicates[:SHOWN]
    ]
    columns = [dg.TableColumn(name) for name in ("sample", "looks like")]
    return dg.AssetCheckResult(
        passed=not torn,
        description=f"{dataset} is torn: {wrong}. {mend}" if torn else None,
        metadata={
            "dataset": dataset,
            "torn groups": dg.MetadataValue.json(torn.groups),
            "torn images": dg.MetadataValue.json(torn.images),
            "near-duplicates apart": len(torn.near_duplicates),
            "near-duplicates": dg.MetadataValue.table(
                alike,
                schema=dg.TableSchema([*columns, dg.TableColumn("similarity", type="float")]),
            ),
            "images compared": torn.compared,
        },
    )
