"""Asking for runs: each change is asked for once, and a few times more where that fails.

What was asked for stands on the runs themselves, as a tag: so a lost cursor, a restart or a second
daemon loses nothing. What failed for a reason that a person must mend (`dagster.Failure`, or a
blocking check) is not asked for again; only another change is.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus, RunRecord, RunsFilter
from dagster._core.errors import DagsterAssetCheckFailedError
from dagster_shared.error import SerializableErrorInfo

from defect_assets.store import Digest, Store, canonical_json, digest_of

ASSET = "defect-assets/asset"
"""The tag of a run that was asked for by itself: what it makes."""
CHANGE = "defect-assets/change"
"""The tag that says for which change it was."""
UNDER_WAY = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.MANAGED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
_AT_ONCE = 50
"""Changes that are looked up by one query."""


@dataclass(frozen=True)
class Change:
    """Something that an asset's partition is not yet made of."""

    asset: str
    partition: str
    """Empty where the asset has none."""
    digest: str
    """Of what it would be made of."""
    config: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The asset's run configuration."""
    subject: str = ""
    """What it is about, where the partition's name does not say it but follows from it."""

    @property
    def name(self) -> str:
        """What the runs that were asked for it are known by."""
        return f"{self.asset}/{self.subject or self.partition}@{self.digest}"

    def request(self, attempt: int) -> dg.RunRequest:
        """Return the request for one run of it; of the same attempt Dagster makes one run only."""
        return dg.RunRequest(
            run_key=f"{self.name}#{attempt}",
            asset_selection=[dg.AssetKey(self.asset)],
            partition_key=self.partition or None,
            run_config={"ops": {self.asset: {"config": dict(self.config)}}} if self.config else {},
            # Dagster would begin what died again, too, so that it ran twice.
            tags={ASSET: self.asset, CHANGE: self.name, "dagster/max_retries": "0"},
        )


def replacing(store: Store, name: str, made_of: Any) -> Digest:
    """Return a change's digest: of what a name's next result is made of, and of the one before.

    So that what is changed, changed back and changed again is three changes.

    Parameters
    ----------
    store
        Where the name is.
    name
        E.g. ``configs/C-01``.
    made_of
        What JSON can say.
    """
    return digest_of(canonical_json([made_of, store.refs.get(name)]))


@dataclass(frozen=True)
class Standing:
    """What became of a change until now."""

    change: Change
    attempts: int = 0
    under_way: bool = False
    done: bool = False
    refused: str = ""
    """The run that said no, or that a person stopped."""

    def may_be_asked(self, attempts: int) -> bool:
        """Tell whether to ask for it, again if need be."""
        settled = self.under_way or self.done or self.refused
        return not settled and self.attempts < attempts

    def told(self, attempts: int) -> str:
        """Say why it is not asked for."""
        name = f"{self.change.asset} {self.change.subject or self.change.partition}".strip()
        if self.refused:
            return f"{name} was refused by run {self.refused[:8]}; it waits for a person"
        if self.under_way:
            return f"{name} is under way"
        if self.done:
            return f"{name} was made of this already"
        return f"{name} failed {attempts} times; it waits for a person"


def standings(instance: dg.DagsterInstance, changes: Iterable[Change]) -> Iterator[Standing]:
    """Yield what became of some changes, in their order, as lazily as they come.

    Under way is also what someone else began: a person in the UI, or `defect-assets repro`.
    """
    waiting = iter(changes)
    while some := list(islice(waiting, _AT_ONCE)):
        records = instance.get_run_records(
            RunsFilter(tags={CHANGE: [change.name for change in some]})
        )
        at_work = _at_work(instance)
        by_change: dict[str, list[RunRecord]] = {}
        for record in records:
            by_change.setdefault(record.dagster_run.tags[CHANGE], []).append(record)
        for change in some:
            standing = _standing(instance, change, by_change.get(change.name, []))
            busy = any(
                asset == change.asset and change.partition in ("", partition)
                for asset, partition in at_work
            )
            yield replace(standing, under_way=standing.under_way or busy)


def requests_for(
    instance: dg.DagsterInstance, changes: Sequence[Change], attempts: int
) -> tuple[list[dg.RunRequest], list[str]]:
    """Return what to ask for, and why the rest is not."""
    asked, told = [], []
    for standing in standings(instance, changes):
        if standing.may_be_asked(attempts):
            asked.append(standing.change.request(standing.attempts + 1))
        else:
            told.append(standing.told(attempts))
    return asked, told


def under_way(instance: dg.DagsterInstance, asset: str) -> list[str]:
    """Return the partitions of an asset that were asked for by itself and are not done."""
    runs = instance.get_runs(RunsFilter(tags={ASSET: asset}, statuses=UNDER_WAY))
    return [run.tags.get("dagster/partition", "") for run in runs]


def begun_today(instance: dg.DagsterInstance, asset: str) -> int:
    """Return how many runs of an asset were asked for by itself in the last 24 hours."""
    since = datetime.now(UTC) - timedelta(days=1)
    return instance.get_runs_count(RunsFilter(tags={ASSET: asset}, created_after=since))


def version_in_dagster(
    instance: dg.DagsterInstance, asset: str, partition: str | None = None
) -> str | None:
    """Return the data version of what was materialized last, or None."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=dg.AssetKey(asset), asset_partitions=[partition] if partition else None
        ),
        limit=1,
    ).records
    materialization = records[0].asset_materialization if records else None
    return (materialization.tags or {}).get("dagster/data_version") if materialization else None


def came_out_well(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Tell whether nothing is known against a run: all of it succeeded, blocking checks included.

    A run that died after a result was published, but before it was checked, counts as failed. Of
    what no run of Dagster made nothing is known.
    """
    run = instance.get_run_by_id(run_id) if run_id else None
    return run is None or run.status is DagsterRunStatus.SUCCESS


def _at_work(instance: dg.DagsterInstance) -> set[tuple[str, str]]:
    """Return the assets that runs are making, whoever began them, and of which partitions."""
    return {
        (key.to_user_string(), run.tags.get("dagster/partition", ""))
        for run in instance.get_runs(RunsFilter(statuses=UNDER_WAY))
        for key in run.asset_selection or ()
    }


def _standing(instance: dg.DagsterInstance, change: Change, records: list[RunRecord]) -> Standing:
    runs = [record.dagster_run for record in records]
    said_no = [
        run.run_id
        for run in runs
        if run.status is DagsterRunStatus.CANCELED
        or (run.status is DagsterRunStatus.FAILURE and _is_refusal(instance, run.run_id))
    ]
    return Standing(
        change,
        attempts=len(runs),
        under_way=any(run.status in UNDER_WAY for run in runs),
        done=any(run.status is DagsterRunStatus.SUCCESS for run in runs),
        refused=said_no[0] if said_no else "",
    )


def _is_refusal(instance: dg.DagsterInstance, run_id: str) -> bool:
    for entry in instance.all_logs(run_id, of_type=DagsterEventType.STEP_FAILURE):
        failure = entry.get_dagster_event().step_failure_data
        # `dagster.Failure` comes with what its user says.
        if failure.user_failure_data or _is_of_a_check(failure.error):
            return True
    return False


def _is_of_a_check(error: SerializableErrorInfo | None) -> bool:
    return error is not None and error.cls_name == DagsterAssetCheckFailedError.__name__
