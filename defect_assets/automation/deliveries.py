"""New images: deliveries are noticed and taken in, without anyone asking for it."""

import time
from collections.abc import Iterator

import dagster as dg

from defect_assets.assets.environment import python_environment
from defect_assets.assets.raw_images import raw_images
from defect_assets.automation.changes import (
    Change,
    replacing,
    requests_for,
    standings,
    under_way,
    version_in_dagster,
)
from defect_assets.automation.policy import Deliveries, read_policy
from defect_assets.dataset.batch import batch_names
from defect_assets.dataset.delivery import check_name
from defect_assets.errors import UserError
from defect_assets.home import LOCK, Home
from defect_assets.inbox import (
    declare_complete,
    delivered,
    fingerprint,
    is_complete,
    is_touched,
    taken_as,
)
from defect_assets.partitions import batches
from defect_assets.registry.environment import digest_of_environment
from defect_assets.resources import HomeResource
from defect_assets.settings import SettingsError
from defect_assets.store import Store

LOOKED_AT_AGAIN = 200
"""Deliveries that were taken in and are looked at in one tick, whether they changed since."""
SHOWN = 10
"""Deliveries that one message names."""


@dg.sensor(
    target=[python_environment, raw_images],
    minimum_interval_seconds=15,
    description="Takes complete deliveries in the inbox in, a bounded number at a time; reports "
    "those that were renamed or changed since.",
)
def new_images(
    context: dg.SensorEvaluationContext, home: HomeResource
) -> dg.SensorResult | dg.SkipReason:
    """Ask for the ingest of what is new in the inbox.

    A request's key holds a fingerprint of names, sizes and times (of a bucket: sizes and times of
    its objects), not of the content: to read each waiting delivery at each tick would take longer
    than to take it in. The cursor only says where the look at what was taken in goes on.
    """
    place = home.open()
    try:
        policy = read_policy()
        place.description()
        store = place.store()
        # What is taken in says in which environment: so that goes first.
        environment = digest_of_environment(LOCK)
        if version_in_dagster(context.instance, "python_environment") != environment:
            digest = replacing(store, "environment", environment)
            asked, told = requests_for(
                context.instance, [Change("python_environment", "", digest)], policy.attempts
            )
            return dg.SensorResult(
                run_requests=asked, skip_reason=None if asked else "; ".join(told)
            )
        names, known = delivered(place), batch_names(store)
        changed, cursor = _changed(place, store, sorted(known), context.cursor or "")
        tick = _Tick(context, place, policy.deliveries)
        asked = tick.requests(names, known, policy.attempts)
    except UserError as error:
        return dg.SkipReason(str(error))
    reports = [
        *tick.reports,
        *([f"changed since taken in, left as stored: {_listed(changed)}"] if changed else []),
    ]
    for report in reports:
        context.log.warning(report)
    return dg.SensorResult(
        run_requests=asked,
        dynamic_partitions_requests=[
            batches.build_add_request([str(request.partition_key) for request in asked])
        ]
        if asked
        else [],
        cursor=cursor,
        skip_reason=None if asked else "; ".join(reports) or "no new delivery",
    )


class _Tick:
    """One look at what is not taken in."""

    def __init__(self, context: dg.SensorEvaluationContext, home: Home, policy: Deliveries) -> None:
        self._instance = context.instance
        self._home = home
        self._policy = policy
        self.reports: list[str] = []

    def requests(self, names: list[str], known: set[str], attempts: int) -> list[dg.RunRequest]:
        """Return as many requests as there is room for, in the order of the names."""
        busy = set(under_way(self._instance, "raw_images"))
        room = self._policy.at_once - len(busy)
        if room <= 0:
            self.reports.append(f"{len(busy)} deliveries are under way, the others wait")
            return []
        waiting = [name for name in names if name not in known and name not in busy]
        asked: list[dg.RunRequest] = []
        given_up: list[str] = []
        for standing in standings(self._instance, self._changes(waiting)):
            if standing.may_be_asked(attempts):
                asked.append(standing.change.request(standing.attempts + 1))
            elif not standing.under_way:
                given_up.append(standing.told(attempts))
            if len(asked) == room:
                break
        self.reports += given_up[:SHOWN]
        return asked

    def _changes(self, names: list[str]) -> Iterator[Change]:
        """Yield the deliveries that could be taken in, looking at no more than is asked for."""
        if not names:
            return
        # What was renamed since it was taken in still has its fingerprint.
        elsewhere = {
            files: name
            for files, name in taken_as(self._home).items()
            if not (self._home.inbox / name).is_dir()
        }
        for name in names:
            try:
                check_name(name)
            except SettingsError as error:
                self.reports.append(str(error))
                continue
            if not is_complete(self._home, name):
                if not self._is_quiet(name):
                    continue
                declare_complete(self._home, name)
            files, _ = fingerprint(self._home, name)
            if before := elsewhere.get(files):
                self.reports.append(
                    f"{name} is {before}, which was taken in and has been renamed since: "
                    f"name it {before} again, or remove it"
                )
                continue
            yield Change("raw_images", name, files)

    def _is_quiet(self, name: str) -> bool:
        """Tell whether a delivery without its marker is whole, as far as the policy says."""
        minutes = self._policy.quiet_minutes
        if minutes is None:
            return False
        _, newest = fingerprint(self._home, name)
        return newest > 0 and time.time() - newest > minutes * 60


def _changed(home: Home, store: Store, known: list[str], after: str) -> tuple[list[str], str]:
    """Look at some of the deliveries that were taken in, going on after one of them.

    Returns
    -------
    tuple
        Those that are not any more what they were, and the last one that was looked at; an empty
        name where the end was reached.
    """
    some = [name for name in known if name > after][:LOOKED_AT_AGAIN]
    changed = [name for name in some if is_touched(home, store, name)]
    return changed, some[-1] if len(some) == LOOKED_AT_AGAIN else ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
