"""The whole road: from the deliveries in the inbox to a bento, doing only what is not done.

Each step asks Dagster whether its partition is up to date and materializes it if it is not, one
run a partition, in this process. Nothing is remembered between calls: what is there decides.
"""

import time
import uuid
from dataclasses import dataclass
from typing import Any, Protocol

import dagster as dg
from dagster._core.events.log import EventLogEntry
from dagster_shared.error import SerializableErrorInfo

from defect_assets.assets.environment import config_digest, environment_digest
from defect_assets.automation.staleness import why_stale
from defect_assets.dataset.batch import named_batches
from defect_assets.dataset.cut import CutRefused, pending
from defect_assets.dataset.delivery import deliveries
from defect_assets.dataset.snapshot import latest_version, versions
from defect_assets.dataset.version import Bump
from defect_assets.evaluation.crossvalidation import CrossValidation, read_crossvalidation
from defect_assets.evaluation.leak_audit import LeakAudit
from defect_assets.home import PROJECT, Home, HomeError
from defect_assets.partitions import batches, datasets, experiment_key, published_as, releases
from defect_assets.registry.packaging import bento_folder
from defect_assets.registry.pinning import why_unpinned
from defect_assets.registry.release.releases import Release, find_release, released_as
from defect_assets.registry.release.releasing import propose
from defect_assets.settings import SettingsError


class Blocked(Exception):
    """The road ends before its end; the message says why and what to do."""


class Narrator(Protocol):
    """Is told what happens on the road."""

    def start(self, asset: str, partition: str | None, why: str) -> None:
        """A materialization begins."""

    def say(self, message: str) -> None:
        """It has something to say."""

    def done(self, asset: str, partition: str | None, seconds: float) -> None:
        """It ended well."""


@dataclass
class Road:
    """A walk along the road.

    Parameters
    ----------
    home
        Where everything lies.
    defs
        The platform's definitions.
    instance
        Dagster's instance, in the home.
    narrator
        Is told what happens.
    """

    home: Home
    defs: dg.Definitions
    instance: dg.DagsterInstance
    narrator: Narrator
    allow_unpinned: bool = False
    """Whether to train what preflight would refuse as unpinned; it is not released."""
    materialized: int = 0
    """How many partitions were materialized."""

    def take_in(self) -> None:
        """Ingest the deliveries in the inbox.

        Raises
        ------
        Blocked
            If some are refused, after the others were taken in.
        """
        self._observe("python_environment", None, environment_digest())
        # What was taken in by another command, or came with a clone, Dagster learns of here.
        stored = [name for name, _ in named_batches(self.home.store())]
        names = list(dict.fromkeys([*stored, *deliveries(self.home.inbox)]))
        self._register(batches, names)
        refused = []
        for name in names:
            try:
                self._refresh("raw_images", name)
            except Blocked as blocked:  # one bad delivery is no reason to leave the others
                refused.append(str(blocked))
        if refused:
            raise Blocked("\n".join(refused))

    def cut(self) -> str:
        """Cut a snapshot where something is pending; return the newest one's id.

        Raises
        ------
        Blocked
            If there is none and nothing to cut it from.
        """
        store = self.home.store()
        try:
            waiting = pending(store, self.home.description())
        except (CutRefused, HomeError, SettingsError) as error:
            raise Blocked(str(error)) from error
        newest = waiting.version if waiting else latest_version(store)
        if newest is None:
            raise Blocked(
                f"there is nothing to go on: no complete delivery in {self.home.inbox}; "
                "import one, e.g. defect-assets import synthetic"
            )
        for version in [*versions(store), newest]:
            self._register(datasets, [str(version)])
            self._refresh("dataset_manifest", str(version))
        return str(newest)

    def experiment(self, dataset: str, config: str) -> None:
        """Train a configuration on a snapshot and evaluate it."""
        key = self._ready(dataset, config)
        run = {"allow_unpinned": self.allow_unpinned}
        self._refresh("trained_model", key, {"ops": {"trained_model": {"config": run}}})
        self._refresh("evaluation_report", key)

    def cross_validate(self, dataset: str, config: str, at_once: int) -> CrossValidation:
        """Train a configuration on each fold of a snapshot; return what came of it."""
        key = self._ready(dataset, config)
        run = {"allow_unpinned": self.allow_unpinned, "at_once": at_once}
        self._refresh("cross_validation", key, {"ops": {"cross_validation": {"config": run}}})
        store = self.home.store()
        return read_crossvalidation(
            store, store.content(published_as("cross_validation", key)) or ""
        )

    def audit_leak(self, dataset: str, config: str) -> LeakAudit:
        """Train and test a configuration on a random split, too; return both sides."""
        self.experiment(dataset, config)
        key = experiment_key(dataset, config)
        run = {"allow_unpinned": self.allow_unpinned}
        self._refresh("leak_audit", key, {"ops": {"leak_audit": {"config": run}}})
        store = self.home.store()
        found = store.content(published_as("leak_audit", key)) or ""
        return LeakAudit.model_validate(store.objects.get_json(found))

    def _ready(self, dataset: str, config: str) -> str:
        """Split a snapshot and record a configuration; return the experiment's partition."""
        try:
            self._observe("training_config", config, config_digest(config))
        except SettingsError as error:
            raise Blocked(str(error)) from error
        self._refresh("dataset_split", dataset)
        return experiment_key(dataset, config)

    def why_unpinned(self, dataset: str, config: str) -> list[str]:
        """Return why an experiment's model cannot be released; none: it is pinned."""
        return why_unpinned(self.home.store().record(f"experiments/{dataset}/{config}"))

    def release(
        self,
        dataset: str,
        config: str,
        override: str = "",
        bump: Bump | None = None,
        notes: str = "",
    ) -> Release:
        """Release an experiment, unless this very model is released already, and pack it.

        Parameters
        ----------
        dataset, config
            The experiment.
        override
            Why to release it though gates fail; empty: not to.
        bump
            The number to raise; by default what the rule says.
        notes
            What people should know of the release.

        Raises
        ------
        GatesFailed
            If it does not pass its gates.
        ReleaseRefused, SettingsError
            If there is nothing to release, or nothing to go by.
        """
        store = self.home.store()
        past = released_as(store, dataset, config)
        run = {"dataset": dataset, "config": config, "override": override, "notes": notes}
        if past is None:
            # Before Dagster is told of a version that there will not be.
            proposal = propose(store, PROJECT, dataset, config, bump, notes)
            proposal.admit(override, PROJECT)
        name = past.id if past else proposal.release.id
        self._register(releases, [name])
        self._refresh("model_release", name, {"ops": {"model_release": {"config": run}}})
        released = find_release(store, name)
        assert released is not None
        if bento_folder(self.home.bentoml, released).is_dir():
            self._refresh("defect_bento", name)
        else:
            self._materialize("defect_bento", name, "not in BentoML's store")
        return released

    def _register(self, definition: dg.DynamicPartitionsDefinition, keys: list[str]) -> None:
        assert definition.name is not None
        known = set(self.instance.get_dynamic_partitions(definition.name))
        self.instance.add_dynamic_partitions(definition.name, [k for k in keys if k not in known])

    def _observe(self, asset: str, partition: str | None, digest: str) -> None:
        """Materialize what nothing in Dagster depends on, by comparing it with what is there."""
        event = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(
                asset_key=dg.AssetKey(asset),
                asset_partitions=[partition] if partition else None,
            ),
            limit=1,
        ).records
        materialization = event[0].asset_materialization if event else None
        tags = (materialization.tags or {}) if materialization else {}
        if materialization and tags.get("dagster/data_version") != digest:
            self._materialize(asset, partition, "it changed")
        else:
            self._refresh(asset, partition)

    def _refresh(
        self, asset: str, partition: str | None, run_config: dict[str, Any] | None = None
    ) -> None:
        why = why_stale(self.instance, self.defs, asset, partition)
        if why is None:
            record = self.home.store().record(published_as(asset, partition))
            if record is None:
                why = "no longer in the store"
            elif why_unpinned(record) and not self.allow_unpinned:
                why = "it was trained unpinned"
        if why is None and asset == "dataset_split" and self._is_torn(partition):
            why = "its check failed"
        if why:
            self._materialize(asset, partition, why, run_config)

    def _is_torn(self, dataset: str | None) -> bool:
        """Tell whether a split was made, but failed its check."""
        key = dg.AssetCheckKey(dg.AssetKey("dataset_split"), "no_part_in_several_places")
        events = self.instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
        for record in events:  # the newest first
            evaluation = record.evaluation
            said = evaluation.metadata.get("dataset") if evaluation else None
            if evaluation and said and said.value == dataset:
                return not evaluation.passed
        return False

    def _materialize(
        self,
        asset: str,
        partition: str | None,
        why: str,
        run_config: dict[str, Any] | None = None,
    ) -> None:
        run_id = str(uuid.uuid4())
        self.instance.add_event_listener(run_id, self._hear)
        self.narrator.start(asset, partition, why)
        start = time.monotonic()
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        result = self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(asset)],
            partition_key=partition,
            run_config={**quiet, **(run_config or {})},
            run_id=run_id,
            raise_on_error=False,
        )
        if not result.success:
            raise Blocked(_why_failed(result))
        self.materialized += 1
        self.narrator.done(asset, partition, time.monotonic() - start)

    def _hear(self, event: EventLogEntry) -> None:
        # What an asset logs has no event of Dagster's own.
        if event.dagster_event is None and event.user_message:
            self.narrator.say(event.user_message)


def _why_failed(result: dg.ExecuteInProcessResult) -> str:
    for check in result.get_asset_check_evaluations():
        if not check.passed and check.description:
            return check.description
    for event in result.all_events:
        if event.is_job_failure and _interrupted(event.job_failure_data.error):
            raise KeyboardInterrupt
        if event.is_step_failure:
            failure = event.step_failure_data
            if _interrupted(failure.error):
                raise KeyboardInterrupt
            if failure.user_failure_data and failure.user_failure_data.description:
                return failure.user_failure_data.description
            if failure.error:
                cause = failure.error.cause or failure.error
                return cause.message.strip()
    return f"run {result.run_id} failed: look at it in the UI"


def _interrupted(error: SerializableErrorInfo | None) -> bool:
    return error is not None and error.cls_name == "DagsterExecutionInterruptedError"
