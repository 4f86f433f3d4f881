"""The work done by a Ray cluster: Ray Data hands out shards to actors that hold the model.

A shard that is lost with its actor or its machine is done again by another.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from defect_assets.cluster.connection import connect
from defect_assets.errors import UserError
from defect_assets.scoring.work import Job, Shard, Worker
from defect_assets.store import S3Access

BLOCKS = 4096
"""Into so many parts Ray Data is given the shards at most; each costs it some bookkeeping."""
ACTORS_A_GPU = 4
"""While one waits for the GPU, others decode and look for regions."""


def run(job: Job, shards: Sequence[int], access: S3Access | None = None) -> Iterator[Shard]:
    """Yield what came of some shards, each when it is done.

    Raises
    ------
    NoCluster
        If there is no cluster.
    UserError
        What a worker met that a person can mend.
    """
    connect()
    import ray

    # Who asked has a bar; what Ray Data warns of, he should see.
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    found = ray.cluster_resources()
    gpus = int(found.get("GPU", 0))
    actors = gpus * ACTORS_A_GPU if gpus else int(found.get("CPU", 1))
    actors = max(1, min(actors, len(shards)))
    # With an empty environment: actors reach buckets as their machines do, unless it was said how.
    environment = access.environment() if access else {}
    scored = ray.data.from_items(
        [{"shard": number} for number in shards], override_num_blocks=min(len(shards), BLOCKS)
    ).map_batches(
        Actor,
        fn_constructor_args=(ray.put(job), environment),
        batch_size=1,
        # As many as there is room for, and fewer where others are at work, or a machine is lost.
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
        num_cpus=1,
        num_gpus=1 / ACTORS_A_GPU if gpus else 0,
    )
    for row in scored.iter_rows():
        result = pickle.loads(row["result"])
        if isinstance(result, UserError):
            raise result
        yield result


class Actor:
    """Holds a model, and works on a shard at a time."""

    def __init__(self, job: Any, environment: dict[str, str]) -> None:
        import cv2
        import ray
        import torch

        os.environ.update(environment)
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        self._job: Job = ray.get(job)
        self._worker: Worker | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Work on the shard in a batch.

        What came of it is told by its bytes: Arrow would make one table of all shards' counts. So
        is what a person can mend, which Ray would tell with all that it knows of itself.
        """
        [number] = batch["shard"].tolist()
        result: Shard | UserError
        try:
            # Here rather than at its start: of an actor that cannot start, Ray says no more.
            self._worker = self._worker or Worker(self._job, callers=1)
            result = self._worker.score(number)
        except (UserError, OSError) as error:
            result = UserError(str(error))
        return {"result": [pickle.dumps(result)]}
