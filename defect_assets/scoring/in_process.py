"""The work done by threads of this process, one for each processor.

Each takes an image from its bytes to its row; the network lets the others run meanwhile. More
processors than a dozen are better used by a Ray cluster, on one machine, too: processes do not wait
for each other.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager

from defect_assets.inference.runtimes.runtime import processors
from defect_assets.scoring.work import Job, Shard, Worker
from defect_assets.store import S3Access


def run(job: Job, shards: Sequence[int], access: S3Access | None = None) -> Iterator[Shard]:
    """Yield what came of some shards, each when it is done."""
    threads = min(processors(), len(shards))
    with _one_processor_each(), ThreadPoolExecutor(max(1, threads)) as pool:
        worker = Worker(job, threads, access)
        running = [pool.submit(worker.score, number) for number in shards]
        try:
            for future in as_completed(running):
                yield future.result()
        finally:
            worker.stop()
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _one_processor_each() -> Iterator[None]:
    """Keep libraries from dividing among threads what threads do beside each other."""
    import cv2
    import torch

    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])
