"""Making what is not up to date, by Dagster: one run a partition, in this process."""

import time
import uuid
from dataclasses import dataclass
from typing import Any, Protocol

import dagster as dg
from dagster._core.events.log import EventLogEntry
from dagster_shared.error import SerializableErrorInfo

from defect_assets.automation.road import Blocked
from defect_assets.partitions import dagster_key, register
from defect_assets.registry.freshness import Verdict
from defect_assets.registry.stages import STAGES
from defect_assets.store import Record


class Narrator(Protocol):
    """Is told what happens on the road."""

    def start(self, asset: str, partition: str | None, why: str) -> None:
        """A materialization begins."""

    def say(self, message: str) -> None:
        """It has something to say."""

    def done(self, asset: str, partition: str | None, seconds: float) -> None:
        """It ended well."""


@dataclass
class Materializer:
    """Materializes partitions.

    Parameters
    ----------
    defs
        The platform's definitions.
    instance
        Dagster's instance, in the home.
    narrator
        Is told what happens.
    """

    defs: dg.Definitions
    instance: dg.DagsterInstance
    narrator: Narrator

    def make(self, verdict: Verdict, run_config: dict[str, Any]) -> bool:
        stage, partition = STAGES[verdict.stage], verdict.partition
        if partition is not None:
            register(self.instance, stage.axis, [partition])
            partition = dagster_key(stage.axis, partition)
        run_id = str(uuid.uuid4())
        self.instance.add_event_listener(run_id, self._hear)
        self.narrator.start(stage.name, partition, str(verdict))
        start = time.monotonic()
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        result = self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(stage.name)],
            partition_key=partition,
            run_config={**quiet, **run_config},
            run_id=run_id,
            raise_on_error=False,
        )
        if not result.success:
            raise Blocked(_why_failed(result))
        self.narrator.done(stage.name, partition, time.monotonic() - start)
        return True

    def passed(self, record: Record) -> bool:
        """Tell whether each blocking check passed in the run that made a result.

        One that was killed before it came to them made nothing that others may rely on.
        """
        if not record.run_id:
            return True
        graph = self.defs.resolve_asset_graph()
        kinds = {
            dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
            dg.DagsterEventType.ASSET_CHECK_EVALUATION,
        }
        passed: dict[dg.AssetCheckKey, bool] = {}
        for entry in self.instance.all_logs(record.run_id, of_type=kinds):
            if (event := entry.dagster_event) is None:
                continue
            if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
                passed.setdefault(event.asset_check_planned_data.asset_check_key, False)
            else:
                evaluation = event.asset_check_evaluation_data
                passed[evaluation.asset_check_key] = evaluation.passed
        return all(
            passed[key]
            for key in passed
            if key.asset_key.to_user_string() == record.asset
            and graph.has(key)
            and graph.get(key).blocking
        )

    def _hear(self, event: EventLogEntry) -> None:
        # What an asset logs has no event of Dagster's own, nor has what Pipes log of themselves.
        said = event.user_message if event.dagster_event is None else ""
        if said and not said.startswith("[pipes]"):
            self.narrator.say(said)


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
