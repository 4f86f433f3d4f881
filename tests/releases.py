"""Releases without a training: an untrained network, and an evaluation that says it is good."""

from functools import lru_cache

import numpy as np

from defect_assets.evaluation.metrics import Metrics, summarize
from defect_assets.evaluation.report import REPORT, Report
from defect_assets.inference.postprocessing import Postprocessing
from defect_assets.registry.release.releases import Release
from defect_assets.store import Digest, Record, Store
from tests.evaluation.test_metrics import NAMES, _table
from tests.inference.test_detector import untrained_bundle


@lru_cache
def metrics() -> Metrics:
    ones = np.ones((5, 6), np.uint8)
    return summarize(_table([(ones, ones)]), NAMES.values())


@lru_cache
def bundle_files(seed: int) -> dict[str, bytes]:
    """Return the files of a bundle, another one for each seed below 100."""
    threshold = 0.4 + seed / 250
    return untrained_bundle(
        postprocessing=Postprocessing(threshold=threshold, review_threshold=threshold / 2)
    )


def publish_release(store: Store, release_id: str, seed: int = 0) -> Digest:
    """Release a model under a version; return the release's digest."""
    bundle = store.objects.put_tree(bundle_files(seed))
    report = Report(
        dataset="DS-1.0.0",
        config="C-01",
        bundle=bundle,
        split=store.objects.put_json({"dataset": "DS-1.0.0"}),
        postprocessing=Postprocessing(threshold=0.5),
        test=metrics(),
    )
    pages = store.objects.put_tree({REPORT: report.model_dump_json().encode()})
    made = Release(
        id=release_id,
        bundle=bundle,
        report=pages,
        dataset="DS-1.0.0",
        config="C-01",
        metrics=metrics(),
    )
    digest = store.objects.put_json(made.model_dump(mode="json"))
    parents = {"trained_model": bundle, "evaluation_report": pages}
    record = Record(asset="model_release", partition=release_id, content=digest, parents=parents)
    store.publish_once(f"releases/{release_id}", record)
    return digest
