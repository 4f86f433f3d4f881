"""Who is told of a failed run: the log, and a webhook."""

import os
from typing import Any

import dagster as dg
import urllib3
from dagster import DagsterEventType

WEBHOOK = "DEFECT_WEBHOOK"
"""The variable with the URL that each failure is posted to."""
UI = "DEFECT_UI"
"""The variable with the address at which people open Dagster's UI, for links."""
DEFAULT_UI = "http://localhost:3001"
PATIENCE = urllib3.Retry(
    3, backoff_factor=0.5, status_forcelist=(429, 502, 503), allowed_methods=None
)
"""A failure is posted at most four times, and to the receiver it is known by its run."""


@dg.run_failure_sensor(
    monitor_all_code_locations=True,
    minimum_interval_seconds=15,
    description="Tells the log and the webhook (DEFECT_WEBHOOK) of each failed run, once.",
)
def failed_runs(context: dg.RunFailureSensorContext) -> None:
    """Say which run failed, of what, and why."""
    message = failure_message(context)
    context.log.error(f"{message['text']} {message['link']}")
    url = os.environ.get(WEBHOOK)
    if not url:
        return
    try:
        answer = urllib3.PoolManager(retries=PATIENCE, timeout=5).request("POST", url, json=message)
    except urllib3.exceptions.HTTPError as error:
        context.log.error(f"the webhook was not reached: {error}")
        return
    if answer.status >= 300:
        context.log.error(f"the webhook answered {answer.status}")


def failure_message(context: dg.RunFailureSensorContext) -> dict[str, Any]:
    """Return what is posted: ``text``, ``link``, ``run``, ``asset``, ``partition``, ``reason``."""
    run = context.dagster_run
    assets = sorted(key.to_user_string() for key in run.asset_selection or ())
    partition = run.tags.get("dagster/partition", "")
    what = " ".join(filter(None, [", ".join(assets) or run.job_name, partition]))
    reason = _reason(context)
    return {
        "text": f"{what} failed: {reason}",
        "link": f"{os.environ.get(UI, DEFAULT_UI).rstrip('/')}/runs/{run.run_id}",
        "run": run.run_id,
        "asset": ", ".join(assets),
        "partition": partition,
        "reason": reason,
    }


def _reason(context: dg.RunFailureSensorContext) -> str:
    """Return what the first step that failed says, or else what Dagster says."""
    logs = context.instance.all_logs(
        context.dagster_run.run_id, of_type=DagsterEventType.STEP_FAILURE
    )
    for entry in logs:
        failure = entry.get_dagster_event().step_failure_data
        if failure.user_failure_data and failure.user_failure_data.description:
            return failure.user_failure_data.description
        if failure.error:
            return (failure.error.cause or failure.error).message.strip()
    return context.failure_event.message or "no reason is recorded"
