"""Releases that are made by themselves of what passes its gates, and promoted to a channel."""

from collections.abc import Iterator
from dataclasses import replace

import dagster as dg

from defect_assets.assets.release import model_release
from defect_assets.automation.changes import Change, came_out_well, requests_for, standings
from defect_assets.automation.experiments import newest_split, wanted_configs
from defect_assets.automation.policy import Policy, read_policy
from defect_assets.errors import UserError
from defect_assets.home import PROJECT
from defect_assets.partitions import releases
from defect_assets.registry import channels
from defect_assets.registry.pinning import why_unpinned
from defect_assets.registry.release import releases as registry
from defect_assets.registry.release.candidates import Candidate, ReleaseRefused, find_candidate
from defect_assets.registry.release.gates import FILE as GATES
from defect_assets.registry.release.gates import Gates
from defect_assets.registry.release.numbering import number
from defect_assets.registry.stages import published_as
from defect_assets.resources import HomeResource
from defect_assets.settings import read_settings
from defect_assets.store import Store, canonical_json, digest_of

BY = "policy"
"""Who moves a channel where nobody does."""


@dg.sensor(
    target=[model_release],
    minimum_interval_seconds=15,
    description="Releases what the policy trained, if it passes its gates. A refusal is a failed "
    "run with the list of the gates, and is not tried again.",
)
def release_by_gates(
    context: dg.SensorEvaluationContext, home: HomeResource
) -> dg.SensorResult | dg.SkipReason:
    """Ask for the release of an evaluated model of the newest snapshot.

    The gates are asked by the run, not here: so what they say stands where one looks for it, and is
    told once. One model at a time, since the next one's number follows from it.
    """
    store = home.open().store()
    told: list[str] = []
    try:
        policy = read_policy()
        if policy.release is None:
            return dg.SkipReason("the policy releases nothing")
        for standing in standings(context.instance, _changes(context.instance, store, policy)):
            if not standing.may_be_asked(policy.attempts):
                told.append(standing.told(policy.attempts))
                if standing.under_way:
                    break
                continue
            dataset, config = standing.change.subject.split("/")
            numbering = number(store, PROJECT, find_candidate(store, dataset, config))
            change = replace(standing.change, partition=numbering.version)
            return dg.SensorResult(
                run_requests=requests_for(context.instance, [change], policy.attempts)[0],
                dynamic_partitions_requests=[releases.build_add_request([change.partition])],
            )
    except UserError as error:
        return dg.SkipReason(str(error))
    return dg.SkipReason("; ".join(told) or "all that was evaluated is released")


@dg.sensor(
    target=[model_release],
    minimum_interval_seconds=15,
    description="Lets the policy's channel lead to the newest release, once it is packed.",
)
def promotion_by_policy(context: dg.SensorEvaluationContext, home: HomeResource) -> dg.SkipReason:
    """Promote the newest release to the policy's channel, unless it ever was there.

    So what a person rolled back stays so. A release that was let through its gates by a person
    waits for one, too. To move a name takes no run: the channel's history says who did it, and why.
    """
    store = home.open().store()
    try:
        policy = read_policy()
        channel = policy.release.channel if policy.release else None
        if channel is None:
            return dg.SkipReason("the policy promotes nothing")
        past = registry.releases(store)
        if not past:
            return dg.SkipReason("nothing is released yet")
        newest = past[-1].id
        if newest in {move.release for move in channels.moves(store, channel)}:
            return dg.SkipReason(f"{newest} was promoted to {channel} before")
        if channels.overridden(store, newest):
            return dg.SkipReason(f"{newest} failed gates that a person overrode; it waits for one")
        bento = store.record(published_as("defect_bento", newest))
        if bento is None or not came_out_well(context.instance, bento.run_id):
            return dg.SkipReason(f"{newest} is not packed yet")
        channels.promote(
            store, channel, newest, BY, f"{past[-1].dataset} × {past[-1].config} passed its gates"
        )
    except UserError as error:
        return dg.SkipReason(str(error))
    context.log.info(f"{channel} leads to {newest} now")
    return dg.SkipReason(f"{channel} leads to {newest} now")


def _changes(instance: dg.DagsterInstance, store: Store, policy: Policy) -> Iterator[Change]:
    """Yield the evaluated models that could be released, as the policy lists them."""
    dataset = newest_split(instance, store)
    if dataset is None:
        return
    gates = read_settings(PROJECT / GATES, Gates).model_dump(mode="json")
    for config in wanted_configs(store, dataset, policy.train):
        candidate = _candidate(instance, store, dataset, config)
        if candidate is None or registry.released_as(store, dataset, config):
            continue
        made_of = [candidate.model.content, candidate.evaluation.content, gates]
        yield Change(
            "model_release",
            partition="",  # not known before its number is asked for
            digest=digest_of(canonical_json(made_of)),
            config={"dataset": dataset, "config": config},
            subject=f"{dataset}/{config}",
        )


def _candidate(
    instance: dg.DagsterInstance, store: Store, dataset: str, config: str
) -> Candidate | None:
    """Return an experiment, if it is pinned, evaluated, and passed its blocking checks."""
    try:
        candidate = find_candidate(store, dataset, config)
    except ReleaseRefused:
        return None
    runs = (candidate.model.run_id, candidate.evaluation.run_id)
    if why_unpinned(candidate.model) or not all(came_out_well(instance, run) for run in runs):
        return None
    return candidate
