"""Experiments without a training: an untrained network, and an evaluation that says how good it is
on the test split of a small dataset."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from defect_assets.dataset.images import LabelledImage
from defect_assets.dataset.snapshot import find_snapshot
from defect_assets.dataset.split import Split, read_part, read_split, split_snapshot
from defect_assets.evaluation.bootstrap import intervals
from defect_assets.evaluation.counts import count_image
from defect_assets.evaluation.latency import Latency
from defect_assets.evaluation.metrics import summarize
from defect_assets.evaluation.report import IMAGES, REPORT, Report
from defect_assets.home import Home
from defect_assets.inference.postprocessing import Analysis, Postprocessing
from defect_assets.registry.configs import values_of
from defect_assets.store import Record, Store
from defect_assets.training.config import TrainingConfig
from tests.checkouts import commit_all
from tests.inference.test_detector import untrained_bundle
from tests.small import DESCRIPTION, cut, home_of, ingest, plain

LENIENT: dict[str, Any] = {"no_leaks": True, "no_class_worse_than_production": True}


@dataclass(frozen=True)
class Made:
    """How a model was made, and how good it is."""

    dataset: str = "DS-1.0.0"
    config: str = "C-01"
    steps: int = 10
    threshold: float = 0.5
    missed: Mapping[str, float] = field(default_factory=dict)
    """The share of the images of a class in which nothing is found, by class; ``Free``: the share
    of defect-free ones in which something is."""
    found: float = 0.9
    """The share of the pixels of a defect that is found in the others."""
    bundle: Mapping[str, object] = field(default_factory=dict)
    code: str = "code-1"
    p95_ms: float | None = 20.0
    unpinned: tuple[str, ...] = ()


def write_gates(project: Path, **gates: object) -> None:
    """Write the gates of a checkout, and commit them."""
    for name in ("configs", "defect_assets"):
        (project / name).mkdir(parents=True, exist_ok=True)
    (project / "defect_assets" / "__init__.py").touch()
    (project / "configs" / "gates.yaml").write_text(yaml.safe_dump(gates))
    commit_all(project)


def small_dataset(home: Home, store: Store, name: str = "first", first: int = 0) -> str:
    """Deliver 120 images of 60 parts, cut the next version and split it; return its id."""
    plain(home, name, range(first, first + 120))
    ingest(home, store, name)
    snapshot = cut(home, store)
    assert snapshot is not None
    return split(store, snapshot.id)


def split(store: Store, dataset: str) -> str:
    """Split a version; return its id."""
    digest, _ = find_snapshot(store, dataset)
    content = store.objects.put_json(split_snapshot(store, digest).model_dump(mode="json"))
    store.publish(f"splits/{dataset}", Record(asset="dataset_split", content=content))
    return dataset


def new_home(root: Path) -> Home:
    """Make an empty home in which near-duplicates, of which tiny images are full, are let be."""
    home = home_of(root)
    rules = DESCRIPTION.groups.model_copy(update={"near_duplicates": False})
    described = DESCRIPTION.model_copy(update={"groups": rules})
    home.dataset.write_text(yaml.safe_dump(described.model_dump(mode="json", exclude_none=True)))
    return home


def publish_experiment(store: Store, made: Made) -> None:
    """Put a model and its evaluation into a store, as the assets do."""
    config = TrainingConfig(steps=made.steps)
    split_digest = store.content(f"splits/{made.dataset}") or ""
    parents = {
        "dataset_split": split_digest,
        "training_config": store.objects.put_json(values_of(config)),
        "python_environment": store.objects.put_json({"python": "3.13", "packages": {}}),
    }
    store.publish(f"configs/{made.config}", Record(asset="x", content=parents["training_config"]))
    post = Postprocessing(threshold=made.threshold, review_threshold=made.threshold / 2)
    class_map = {1: "Crack", 2: "Hole"}
    files = untrained_bundle(postprocessing=post, **{"class_map": class_map, **made.bundle})
    bundle = store.objects.put_tree(files)
    details = {"unpinned": list(made.unpinned)} if made.unpinned else {}
    model = Record(
        asset="trained_model",
        partition=f"{made.config}|{made.dataset}",
        content=bundle,
        parents=parents,
        code_version=made.code,
        commit="c0ffee",
        details={**details, "processor": "abacus"},
    )
    store.publish(f"experiments/{made.dataset}/{made.config}", model)
    table = images(store, read_split(store, split_digest), made)
    report = Report(
        dataset=made.dataset,
        config=made.config,
        bundle=bundle,
        split=split_digest,
        postprocessing=post,
        test=summarize(table, class_map.values()),
        intervals=intervals(table, class_map.values(), resamples=2000),
    )
    tree = store.objects.put_tree(
        {REPORT: report.model_dump_json().encode(), IMAGES: table.to_csv(index=False).encode()}
    )
    latencies = [_latency(made.p95_ms)] if made.p95_ms else []
    store.publish(
        f"reports/{made.dataset}/{made.config}",
        Record(
            asset="evaluation_report",
            content=tree,
            parents={"trained_model": bundle, "dataset_split": split_digest},
            details={**details, "latencies": [x.model_dump() for x in latencies]},
        ),
    )


def images(store: Store, split: Split, made: Made) -> pd.DataFrame:
    """Count what a model finds and misses in each test image, which its quality decides."""
    rows = []
    seen: dict[str, int] = {}
    for truth in read_part(store, split, "test"):
        nth = seen[truth.class_name] = seen.get(truth.class_name, -1) + 1
        wrong = made.missed.get(truth.class_name, 0)
        # Every so many, evenly.
        is_wrong = int((nth + 1) * wrong) > int(nth * wrong)
        rows.append(count_image(truth, _analysis(truth, is_wrong, made.found), _CLASSES))
    return pd.DataFrame(rows)


_CLASSES = {1: "Crack", 2: "Hole"}


def _analysis(truth: LabelledImage, is_wrong: bool, found: float) -> Analysis:
    mask = np.zeros_like(truth.mask)
    if truth.mask.any():
        at = np.flatnonzero(truth.mask)
        seen = at[: 0 if is_wrong else max(1, round(found * len(at)))]
        mask.flat[seen] = truth.mask.flat[seen]
    elif is_wrong:
        mask.flat[0] = 1
    probability = np.where(mask > 0, 0.9, 0.1).astype(np.float32)
    return Analysis("ng" if mask.any() else "ok", [], mask, probability)


def _latency(p95_ms: float) -> Latency:
    return Latency(
        runtime="openvino bf16",
        device="cpu",
        processors=2,
        runs=50,
        p50_ms=p95_ms / 2,
        p95_ms=p95_ms,
        peak_memory_mb=100,
        machine="a machine",
    )
