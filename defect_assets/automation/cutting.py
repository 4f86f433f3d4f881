"""Snapshots that are cut by themselves: when enough is new, and each night."""

import dagster as dg

from defect_assets.assets.dataset import dataset_manifest
from defect_assets.automation.changes import Change, requests_for, under_way, version_in_dagster
from defect_assets.automation.policy import Cut, cron, read_policy
from defect_assets.dataset.batch import read_batch
from defect_assets.dataset.cut import pending
from defect_assets.dataset.snapshot import REF, latest_version, newest_snapshot, unpinned
from defect_assets.errors import UserError
from defect_assets.home import Home
from defect_assets.partitions import datasets
from defect_assets.resources import HomeResource
from defect_assets.store import Store, canonical_json, digest_of


@dg.sensor(
    target=[dataset_manifest],
    minimum_interval_seconds=15,
    description="Cuts the next snapshot as soon as enough batches or images are new.",
)
def enough_is_new(
    context: dg.SensorEvaluationContext, home: HomeResource
) -> dg.SensorResult | dg.SkipReason:
    """Ask for the next snapshot where enough was taken in since the newest one."""
    place = home.open()
    try:
        policy = read_policy()
        store = place.store()
        if reason := _too_little(store, policy.cut):
            return dg.SkipReason(reason)
        if busy := under_way(context.instance, "raw_images"):
            return dg.SkipReason(f"{len(busy)} deliveries are being taken in; they belong to it")
        asked = _asked(context.instance, place, store, policy.attempts)
    except UserError as error:
        return dg.SkipReason(str(error))
    if isinstance(asked, dg.SkipReason):
        return asked
    return dg.SensorResult(
        run_requests=asked,
        dynamic_partitions_requests=[datasets.build_add_request(_versions(asked))],
    )


@dg.schedule(
    target=[dataset_manifest],
    cron_schedule=cron(read_policy().cut.nightly),
    execution_timezone="UTC",
    description="Cuts the next snapshot each night, however little is new.",
)
def nightly_cut(
    context: dg.ScheduleEvaluationContext, home: HomeResource
) -> list[dg.RunRequest] | dg.SkipReason:
    """Ask for the next snapshot where anything is pending."""
    place = home.open()
    try:
        policy = read_policy()
        asked = _asked(context.instance, place, place.store(), policy.attempts)
    except UserError as error:
        return dg.SkipReason(str(error))
    if isinstance(asked, dg.SkipReason):
        return asked
    assert datasets.name is not None
    context.instance.add_dynamic_partitions(datasets.name, _versions(asked))
    return asked


def next_cut(instance: dg.DagsterInstance, home: Home, store: Store) -> Change | None:
    """Return the snapshot that would be cut now, or the newest one where Dagster lacks it.

    Raises
    ------
    CutRefused, HomeError, SettingsError
        If none can be cut.
    """
    newest = latest_version(store)
    if newest:
        # Cut by a command, or come with a clone.
        digest = store.content(f"{REF}{newest}") or ""
        if version_in_dagster(instance, "dataset_manifest", str(newest)) != digest:
            return Change("dataset_manifest", str(newest), digest)
    description = home.description()
    waiting = pending(store, description)
    if waiting is None:
        return None
    of = [[pin.digest for pin in waiting.batches], description.model_dump(mode="json")]
    return Change("dataset_manifest", str(waiting.version), digest_of(canonical_json(of)))


def _asked(
    instance: dg.DagsterInstance, home: Home, store: Store, attempts: int
) -> list[dg.RunRequest] | dg.SkipReason:
    """Return the request for the next snapshot, or why there is none."""
    change = next_cut(instance, home, store)
    if change is None:
        return dg.SkipReason("nothing is pending")
    asked, told = requests_for(instance, [change], attempts)
    return asked or dg.SkipReason("; ".join(told))


def _versions(asked: list[dg.RunRequest]) -> list[str]:
    return [str(request.partition_key) for request in asked]


def _too_little(store: Store, policy: Cut) -> str:
    """Say how much is new where that is too little; nothing where it is enough."""
    new = unpinned(store, newest_snapshot(store))
    if len(new) >= policy.batches:
        return ""
    images = sum(sum(read_batch(store, pin.digest).counts.values()) for pin in new)
    if images >= policy.images:
        return ""
    return (
        f"{len(new)} batches with {images} images are new; cut at {policy.batches} batches or "
        f"{policy.images} images, and each night"
    )
