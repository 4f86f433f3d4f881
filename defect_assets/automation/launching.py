"""Runs as jobs of a Ray cluster, beside those that a command makes in its own process.

``configs/deploy/ray/dagster.yaml`` names the launcher; nothing else imports this module.
"""

from dagster import DagsterRun
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster_ray import RayRunLauncher
from ray.exceptions import RayError


class ClusterRunLauncher(RayRunLauncher):
    """dagster-ray's launcher, which has patience, and answers for its own runs only."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Hand a run to the cluster.

        Raises
        ------
        DagsterUserCodeUnreachableError
            If the cluster cannot be reached. Of this one error Dagster puts the run back into its
            queue; any other is the run's end.
        """
        try:
            super().launch_run(context)
        except (OSError, RayError) as error:
            raise DagsterUserCodeUnreachableError(f"Ray cannot be reached: {error}") from error

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Ask Ray how the job of a run is.

        A run of ``defect-assets repro`` has no job, and Dagster would take it for dead while it
        works; whether its process lives is for `defect_assets.run_workers` to tell.
        """
        if run.remote_job_origin is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return super().check_run_worker_health(run)
