"""Who does the work: this process, or a Ray cluster where one is asked for."""

from collections.abc import Generator, Sequence

from defect_assets.cluster.connection import on_ray
from defect_assets.scoring.work import Job, Shard
from defect_assets.store import S3Access


def run(job: Job, shards: Sequence[int], access: S3Access | None = None) -> Generator[Shard]:
    """Yield what came of some shards, each when it is done, in any order.

    Who may leave before the end, closes it: then nobody works on what is left.

    Raises
    ------
    UserError
        If something is in the way that a person can mend; what is done is done.
    """
    if not shards:
        return
    if on_ray():
        from defect_assets.scoring import on_ray as cluster

        yield from cluster.run(job, shards, access)
    else:
        from defect_assets.scoring import in_process

        yield from in_process.run(job, shards, access)
