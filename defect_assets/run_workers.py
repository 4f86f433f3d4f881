"""Which process works on a run: one whose process was killed is not taken for running.

Nobody tells Dagster of the end of a process that ran a command, or whose code server was killed,
too. Its run would be shown as running for good, and would keep its place in a pool.
"""

import time
from math import inf

import dagster as dg

from defect_assets.cluster.connection import on_ray
from defect_assets.store.leases import VALID, may_live, signature, who

WORKER = "defect-assets/worker"
"""The tag that tells the process: host, boot, pid, start."""
STEPS_APART = "defect-assets/steps-apart"
"""The tag of jobs whose steps have processes of their own, which end before their run does."""
UNSIGNED = 600.0
"""Seconds after which a run that nobody signed is taken for one of the dead: a process signs within
the first ones, and waits for a place in a pool after that."""
RUNNING = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def sign(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Note that this process works on a run."""
    if STEPS_APART in run.tags:
        return
    instance.add_run_tags(run.run_id, {WORKER: signature().decode()})


def bury(instance: dg.DagsterInstance, retried: bool) -> list[str]:
    """Tell Dagster that the runs of dead processes failed, and free their places in pools.

    Parameters
    ----------
    instance
        Dagster's instance.
    retried
        Whether Dagster's daemon may begin them again, as often as its instance and their tags say;
        not where who finds them dead is about to do the work.

    Returns
    -------
    list of str
        The runs' ids.
    """
    buried = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=RUNNING)):
        run = record.dagster_run
        if STEPS_APART in run.tags:
            continue
        mark = run.tags.get(WORKER, "").encode()
        # The daemon asks Ray of a job, wherever it is, however long it takes.
        watched = run.remote_job_origin is not None and on_ray()
        seconds = time.time() - (record.start_time or time.time())
        if (not may_live(mark, inf if watched else VALID)) if mark else seconds > UNSIGNED:
            if not retried:
                instance.add_run_tags(run.run_id, {"dagster/max_retries": "0"})
            instance.report_run_failed(run, f"{who(mark)} was killed while it worked on this run")
            buried.append(run.run_id)
    _free_places(instance)
    return buried


def _free_places(instance: dg.DagsterInstance) -> None:
    """Free the places in pools that runs still have though they ended.

    Dagster's daemon does it some time after; a command may come before, or without one.
    """
    events = instance.event_log_storage
    for pool in events.get_concurrency_keys():
        info = events.get_concurrency_info(pool)
        holders = {slot.run_id for slot in info.claimed_slots}
        for run_id in holders | {step.run_id for step in info.pending_steps}:
            run = instance.get_run_by_id(run_id)
            if run is None or run.is_finished:
                events.free_concurrency_slots_for_run(run_id)
