"""Nothing is in several places of a split that must be in one."""

import dagster as dg

from defect_assets.assets.dataset import dataset_split
from defect_assets.checks.subject import dataset_of
from defect_assets.dataset.leaks import describe, leaks
from defect_assets.dataset.split import REF, read_split
from defect_assets.resources import HomeResource

SHOWN = 100
"""Near-duplicates that a check lists."""


@dg.asset_check(asset=dataset_split, blocking=True)
def no_part_in_several_places(
    context: dg.AssetCheckExecutionContext, home: HomeResource
) -> dg.AssetCheckResult:
    """No physical part is in train and in test under another exposure: scores would be leaks.

    Groups, images that are the same, and near-duplicates, in train, val and test and in every fold;
    of the dataset that is being split, or else of the newest one.
    """
    store = home.open().store()
    dataset = dataset_of(context, store)
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
