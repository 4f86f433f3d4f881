"""What Prometheus is told. Every label takes few values, none of them a client's choice."""

import os

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)

_own = CollectorRegistry()

REQUESTS = Counter(
    "defect_requests", "Requests answered", ("route", "method", "status"), registry=_own
)
DURATION = Histogram(
    "defect_request_seconds",
    "From a request's first byte to its reply",
    ("route",),
    buckets=_BUCKETS,
    registry=_own,
)
STAGE = Histogram(
    "defect_stage_seconds",
    "What an image spent in decode, queue, forward and postprocess",
    ("stage",),
    buckets=_BUCKETS,
    registry=_own,
)
BATCH = Histogram(
    "defect_batch_images",
    "Images that the network saw at once",
    buckets=(1, 2, 4, 8, 16, 32, 64),
    registry=_own,
)
VERDICTS = Counter("defect_verdicts", "Images by verdict", ("verdict",), registry=_own)
UNLOGGED = Counter(
    "defect_unlogged",
    "Records and images that the inference log lost",
    ("what",),
    registry=_own,
)


def exposition() -> bytes:
    """Return all metrics as text, of all workers where BentoML runs several."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(_own)
    together = CollectorRegistry()
    multiprocess.MultiProcessCollector(together)
    return generate_latest(together)
