"""Trainings that begin by themselves, as far as the policy goes.

Only the newest snapshot is trained on, and only new data or a changed configuration begin a
training: code and environment change by a person's hand, and the person decides with `defect-assets
repro` whether it is worth the hours.
"""

from collections.abc import Iterator

import dagster as dg

from defect_assets.assets.environment import config_digest, training_config
from defect_assets.assets.experiment import trained_model
from defect_assets.automation.changes import (
    Change,
    begun_today,
    came_out_well,
    replacing,
    requests_for,
    version_in_dagster,
)
from defect_assets.automation.policy import Policy, Rise, Train, read_policy
from defect_assets.dataset.snapshot import find_snapshot, latest_version
from defect_assets.dataset.split import REF as SPLITS
from defect_assets.dataset.version import Bump, Version
from defect_assets.errors import UserError
from defect_assets.partitions import experiment_key
from defect_assets.resources import HomeResource
from defect_assets.store import Store


@dg.sensor(
    target=[training_config],
    minimum_interval_seconds=15,
    description="Records the policy's configurations where they changed.",
)
def changed_configs(
    context: dg.SensorEvaluationContext, home: HomeResource
) -> dg.SensorResult | dg.SkipReason:
    """Ask for the configurations of the policy that are not recorded as they are now."""
    store = home.open().store()
    try:
        policy = read_policy()
        changes = [
            Change(
                "training_config",
                wanted.config,
                replacing(store, f"configs/{wanted.config}", values),
            )
            for wanted in policy.train.configs
            if (values := config_digest(wanted.config))
            != version_in_dagster(context.instance, "training_config", wanted.config)
        ]
    except UserError as error:
        return dg.SkipReason(str(error))
    asked, told = requests_for(context.instance, changes, policy.attempts)
    why = "; ".join(told) or "all are recorded as they are"
    return dg.SensorResult(run_requests=asked, skip_reason=None if asked else why)


@dg.sensor(
    target=[trained_model],
    minimum_interval_seconds=15,
    description="Trains what the policy says on the newest snapshot, within its budget.",
)
def training_by_policy(
    context: dg.SensorEvaluationContext, home: HomeResource
) -> dg.SensorResult | dg.SkipReason:
    """Ask for the trainings that the policy wants and that were not done."""
    store = home.open().store()
    try:
        policy = read_policy()
        dataset = newest_split(context.instance, store)
        if dataset is None:
            return dg.SkipReason(
                "the newest snapshot has no split from a run that succeeded, its checks included"
            )
        configs = wanted_configs(store, dataset, policy.train)
        changes = list(_changes(store, dataset, configs))
    except UserError as error:
        return dg.SkipReason(str(error))
    if not configs:
        return dg.SkipReason(f"the policy wants no training on {dataset}")
    if not changes:
        return dg.SkipReason(f"all that is wanted on {dataset} is trained")
    return _within_budget(context.instance, changes, policy)


def newest_split(instance: dg.DagsterInstance, store: Store) -> str | None:
    """Return the newest snapshot, if it is split and the split passed its checks."""
    newest = latest_version(store)
    record = store.record(f"{SPLITS}{newest}") if newest else None
    if record is None or not came_out_well(instance, record.run_id):
        return None
    return str(newest)


def wanted_configs(store: Store, dataset: str, policy: Train) -> list[str]:
    """Return the configurations that the policy wants on a snapshot, in its order."""
    rise = risen(store, dataset)
    return [wanted.config for wanted in policy.configs if rise in wanted.after]


def risen(store: Store, dataset: str) -> Rise:
    """Return which number of a snapshot's version rose since the one before."""
    _, snapshot = find_snapshot(store, dataset)
    if snapshot.parent_id is None:
        return "major"
    parent, version = Version.parse(snapshot.parent_id), Version.parse(dataset)
    names: dict[Bump, Rise] = {
        Bump.MAJOR: "major",
        Bump.MINOR: "minor",
        Bump.PATCH: "patch",
    }
    return names[next(bump for bump in Bump if parent.bumped(bump) == version)]


def _changes(store: Store, dataset: str, configs: list[str]) -> Iterator[Change]:
    """Yield the experiments whose model is not made of the split and the recorded configuration."""
    split = store.content(f"{SPLITS}{dataset}")
    assert split is not None
    for config in configs:
        values = store.content(f"configs/{config}")
        if values is None:  # `changed_configs` records it
            continue
        name = f"experiments/{dataset}/{config}"
        model = store.record(name)
        made_of = {"dataset_split": split, "training_config": values}
        if model is None or not made_of.items() <= model.parents.items():
            key = str(experiment_key(dataset, config))
            yield Change("trained_model", key, replacing(store, name, made_of))


def _within_budget(
    instance: dg.DagsterInstance, changes: list[Change], policy: Policy
) -> dg.SensorResult:
    asked, told = requests_for(instance, changes, policy.attempts)
    room = max(0, policy.train.a_day - begun_today(instance, "trained_model"))
    told += [
        f"trained_model {request.partition_key} waits: {policy.train.a_day} trainings were begun "
        "in the last 24 hours"
        for request in asked[room:]
    ]
    asked = asked[:room]
    return dg.SensorResult(run_requests=asked, skip_reason=None if asked else "; ".join(told))
