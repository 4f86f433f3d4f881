"""Each class is where it is needed, and no share jumps."""

import dagster as dg

from defect_assets.assets.dataset import dataset_manifest, dataset_split
from defect_assets.checks.subject import dataset_of
from defect_assets.dataset.balance import drift
from defect_assets.dataset.snapshot import find_snapshot, read_snapshot
from defect_assets.dataset.split import REF, read_split
from defect_assets.resources import HomeResource

DRIFT = 0.1
"""Total variation distance above which a snapshot is another mix than the one before."""


@dg.asset_check(asset=dataset_split)
def classes_are_covered(
    context: dg.AssetCheckExecutionContext, home: HomeResource
) -> dg.AssetCheckResult:
    """Each class that the dataset has is in train, val and test: what is missing in one of them is
    not learned, not tuned for, or not tested."""
    store = home.open().store()
    dataset = dataset_of(context, store)
    digest = store.content(f"{REF}{dataset}")
    if digest is None:
        return dg.AssetCheckResult(passed=True)
    split = read_split(store, digest)
    classes = sorted({name for counts in split.counts.values() for name in counts})
    missing = {
        str(part): [name for name in classes if not counts.get(name)]
        for part, counts in split.counts.items()
    }
    return dg.AssetCheckResult(
        passed=not any(missing.values()),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"dataset": dataset, "missing": dg.MetadataValue.json(missing)},
    )


@dg.asset_check(asset=dataset_manifest)
def class_balance(
    context: dg.AssetCheckExecutionContext, home: HomeResource
) -> dg.AssetCheckResult:
    """The mix of classes is about that of the snapshot before: a jump is a new line, a new camera,
    or deliveries of defects only."""
    store = home.open().store()
    dataset = dataset_of(context, store)
    if dataset is None:
        return dg.AssetCheckResult(passed=True)
    _, snapshot = find_snapshot(store, dataset)
    before = read_snapshot(store, snapshot.parent) if snapshot.parent else None
    if before is None or not before.samples or not snapshot.samples:
        return dg.AssetCheckResult(passed=True, metadata={"dataset": dataset, "parent": "none"})
    distance, grew = drift(before.counts, snapshot.counts)
    return dg.AssetCheckResult(
        passed=distance <= DRIFT,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "dataset": dataset,
            "parent": before.id,
            "drift": round(distance, 4),
            "shares grew by": dg.MetadataValue.json({k: round(v, 4) for k, v in grew.items()}),
        },
    )
