"""Experiments that nobody trained, on a small home: what they come to is made up."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from defect_assets.dataset.images import LabelledImage
from defect_assets.dataset.snapshot import find_snapshot
from defect_assets.dataset.split import read_part, read_split, split_snapshot
from defect_assets.evaluation.counts import count_image
from defect_assets.evaluation.metrics import summarize
from defect_assets.evaluation.report import IMAGES, PAGE, REPORT, Report
from defect_assets.inference.architecture import Architecture
from defect_assets.inference.bundle import SPEC, WEIGHTS, BundleSpec
from defect_assets.inference.postprocessing import Analysis, Postprocessing
from defect_assets.inference.preprocessing import Preprocessing
from defect_assets.registry.release.releases import Release
from defect_assets.registry.subjects import Subject, find_subject
from defect_assets.store import Digest, Record, Store, digest_of
from defect_assets.training.config import TrainingConfig
from tests.small import DESCRIPTION

Answer = Callable[[LabelledImage], np.ndarray]
"""What a made-up model makes of an image: its mask."""

ENVIRONMENT: dict[str, Any] = {
    "python": "3.11.4",
    "machine": "x86_64",
    "torch": "2.7.0",
    "cuda": None,
    "lock": digest_of(b"lock"),
    "packages": {"numpy": "2.0.0", "torch": "2.7.0"},
}


def right(image: LabelledImage) -> np.ndarray:
    """Answer as the label says."""
    return image.mask


def half(image: LabelledImage) -> np.ndarray:
    """Find the left half of every defect."""
    found = image.mask.copy()
    found[:, found.shape[1] // 2 :] = 0
    return found


def split(store: Store, dataset: str) -> Digest:
    """Split a snapshot and name the split; return its digest."""
    divided = split_snapshot(store, find_snapshot(store, dataset)[0])
    digest = store.objects.put_json(divided.model_dump(mode="json"))
    if store.content(f"splits/{dataset}") != digest:
        store.publish(f"splits/{dataset}", Record(asset="dataset_split", content=digest))
    return digest


def analysis(mask: np.ndarray) -> Analysis:
    """Return what a model says that finds a mask."""
    found = (mask > 0).astype(np.float32)
    return Analysis("ng" if found.any() else "ok", [], mask, 0.1 + 0.8 * found)


def counts(store: Store, digest: Digest, answer: Answer) -> pd.DataFrame:
    """Count what a made-up model finds in the test part of a split."""
    held = read_split(store, digest)
    _, snapshot = find_snapshot(store, held.dataset)
    names = snapshot.description.class_map
    images = read_part(store, held, "test")
    return pd.DataFrame([count_image(i, analysis(answer(i)), names) for i in images])


def bundle_of(weights: bytes) -> dict[str, bytes]:
    """Return the files of a bundle that no detector could load."""
    spec = BundleSpec(
        architecture=Architecture(),
        preprocessing=Preprocessing(),
        postprocessing=Postprocessing(),
        class_map=DESCRIPTION.class_map,
    )
    return {SPEC: spec.model_dump_json().encode(), WEIGHTS: weights}


def experiment(
    store: Store,
    dataset: str,
    config: str = "C-01",
    answer: Answer = right,
    weights: bytes = b"weights",
    values: TrainingConfig = TrainingConfig(steps=30),
    environment: dict[str, Any] = ENVIRONMENT,
    **model: Any,
) -> Subject:
    """Publish a model and its evaluation as if they had been computed; return both."""
    digest = split(store, dataset)
    store.objects.put(b"lock")
    parents = {
        "dataset_split": digest,
        "training_config": store.objects.put_json(values.model_dump(mode="json")),
        "python_environment": store.objects.put_json(environment),
    }
    bundle = store.objects.put_tree(bundle_of(weights))
    fields = {"code_version": "one", "parents": parents, **model}
    partition = f"{config}|{dataset}"
    store.publish(
        f"experiments/{dataset}/{config}",
        Record(asset="trained_model", partition=partition, content=bundle, **fields),
    )
    table = counts(store, digest, answer)
    report = Report(
        dataset=dataset,
        config=config,
        bundle=bundle,
        split=digest,
        postprocessing=Postprocessing(),
        test=summarize(
            table, [c[3:] for c in table.columns if c.startswith("tp_") and "*" not in c]
        ),
    )
    pages = {
        REPORT: report.model_dump_json().encode(),
        PAGE: b"<html>",
        IMAGES: table.to_csv(index=False).encode(),
    }
    store.publish(
        f"reports/{dataset}/{config}",
        Record(
            asset="evaluation_report",
            partition=partition,
            content=store.objects.put_tree(pages),
            parents={"trained_model": bundle, "dataset_split": digest},
        ),
    )
    return find_subject(store, f"{dataset}/{config}")


def released(store: Store, subject: Subject, version: str, channel: str = "") -> None:
    """Release a subject, and put it into a channel."""
    content = store.objects.get_json(subject.evaluation.content)
    report = Report.model_validate_json(store.objects.get(content[REPORT]))
    release = Release(
        id=version,
        bundle=subject.model.content,
        report=subject.evaluation.content,
        dataset=subject.dataset,
        config=subject.config,
        metrics=report.test,
    )
    digest = store.objects.put_json(release.model_dump(mode="json"))
    store.publish_once(f"releases/{version}", Record(asset="model_release", content=digest))
    if channel:
        store.publish(f"channels/{channel}", Record(asset="channel", content=digest))
