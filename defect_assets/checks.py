"""Checks of assets, shown in the UI."""

import dagster as dg

from defect_assets.assets.dataset import dataset_split
from defect_assets.dataset.split import REF, leaks, read_split
from defect_assets.resources import HomeResource


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
        groups = leaks(store, read_split(store, digest))
        if groups:
            torn[name.removeprefix(REF)] = groups
    return dg.AssetCheckResult(
        passed=not torn,
        metadata={"torn groups": dg.MetadataValue.json(torn)},
    )
