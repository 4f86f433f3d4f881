"""Runs as jobs of a Ray cluster, beside those that a command makes in its own process.

``configs/deploy/ray/dagster.yaml`` names the launcher; nothing else imports this module.
"""

from dagster import DagsterRun
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster_ray import RayRunLauncher


class ClusterRunLauncher(RayRunLauncher):
    """dagster-ray's launcher, which is asked for the health of its own runs only."""

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Ask Ray how the job of a run is.

        A run of ``defect-assets repro`` has no job, and Dagster would take it for dead while it
        works; whether its process lives is for `defect_assets.run_workers` to tell.
        """
        if run.remote_job_origin is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return super().check_run_worker_health(run)
