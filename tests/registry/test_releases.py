import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from defect_assets.dataset.snapshot import find_snapshot
from defect_assets.dataset.split import split_snapshot
from defect_assets.evaluation.metrics import summarize
from defect_assets.evaluation.report import REPORT, Report
from defect_assets.home import PROJECT
from defect_assets.inference.bundle import check_bundle
from defect_assets.inference.detector import Detector
from defect_assets.inference.exported import MODEL
from defect_assets.registry.packaging import stage
from defect_assets.registry.releases import (
    Release,
    ReleaseRefused,
    find_release,
    next_release,
    release,
    releases,
)
from defect_assets.store import Digest, Record, Store
from tests.evaluation.test_metrics import NAMES, _table
from tests.inference.test_detector import untrained_bundle
from tests.small import cut, home_of, ingest, plain

ONES = np.ones((5, 6), np.uint8)


def _experiment(
    store: Store,
    dataset: str = "DS-1.0.0",
    evaluated: bool = True,
    truth: np.ndarray = ONES,
    split: Digest = "0" * 64,
) -> Digest:
    bundle = store.objects.put_tree(untrained_bundle())
    store.publish(f"experiments/{dataset}/C-01", Record(asset="x", content=bundle))
    if evaluated:
        report = Report(
            dataset=dataset,
            config="C-01",
            bundle=bundle,
            split=split,
            postprocessing={"threshold": 0.5},  # type: ignore[arg-type]
            test=summarize(_table([(truth, truth)]), NAMES.values()),
        )
        tree = store.objects.put_tree({REPORT: report.model_dump_json().encode()})
        store.publish(f"reports/{dataset}/C-01", Record(asset="x", content=tree))
    return bundle


def _publish(store: Store, made: Release) -> Release:
    content = store.objects.put_json(made.model_dump(mode="json"))
    store.publish_once(f"releases/{made.id}", Record(asset="model_release", content=content))
    return made


def test_releases_are_numbered_one_after_the_other(store: Store) -> None:
    bundle = _experiment(store)
    assert next_release(store) == "v0.1.0"
    first = _publish(store, release(store, "v0.1.0", "DS-1.0.0", "C-01"))
    assert first.bundle == bundle
    assert next_release(store) == "v0.2.0"
    second = _publish(store, release(store, "v0.10.0", "DS-1.0.0", "C-01"))
    assert releases(store) == [first, second]
    assert find_release(store, "v0.1.0") == first
    assert find_release(store, "v9.9.9") is None
    with pytest.raises(ReleaseRefused, match=r"the next version is v0\.11\.0"):
        release(store, "v0.2.0", "DS-1.0.0", "C-01")


def test_what_was_not_evaluated_is_not_released(store: Store) -> None:
    with pytest.raises(ReleaseRefused, match="materialize trained_model first"):
        release(store, "v0.1.0", "DS-1.0.0", "C-01")
    _experiment(store, evaluated=False)
    with pytest.raises(ReleaseRefused, match="materialize evaluation_report first"):
        release(store, "v0.1.0", "DS-1.0.0", "C-01")


def test_what_was_trained_again_since_is_not_released(store: Store) -> None:
    _experiment(store)
    other = store.objects.put_tree({"model.safetensors": b"other"})
    store.publish("experiments/DS-1.0.0/C-01", Record(asset="x", content=other))
    with pytest.raises(ReleaseRefused, match="trained again since"):
        release(store, "v0.1.0", "DS-1.0.0", "C-01")


def test_what_was_trained_unpinned_is_not_released_until_it_is_trained_anew(store: Store) -> None:
    bundle = _experiment(store)
    model, report = "experiments/DS-1.0.0/C-01", "reports/DS-1.0.0/C-01"
    evaluation = store.content(report) or ""
    unpinned = {"details": {"unpinned": ["not committed: a.py"]}}
    store.publish(model, Record(asset="x", content=bundle, **unpinned))
    store.publish(report, Record(asset="x", content=evaluation, **unpinned))
    with pytest.raises(ReleaseRefused, match=r"trained unpinned, .*a\.py.*it trains anew"):
        release(store, "v0.1.0", "DS-1.0.0", "C-01")
    store.publish(model, Record(asset="x", content=bundle))
    with pytest.raises(ReleaseRefused, match="materialize evaluation_report first"):
        release(store, "v0.1.0", "DS-1.0.0", "C-01")
    store.publish(report, Record(asset="x", content=evaluation))
    assert release(store, "v0.1.0", "DS-1.0.0", "C-01").bundle == bundle


def test_a_test_without_a_defect_is_no_evidence(store: Store) -> None:
    _experiment(store, truth=np.zeros((5, 6), np.uint8))
    with pytest.raises(ReleaseRefused, match="without a single defect"):
        release(store, "v0.1.0", "DS-1.0.0", "C-01")


def test_the_note_says_what_it_was_made_of_and_how_good_it_is(store: Store) -> None:
    _experiment(store)
    note = release(store, "v0.1.0", "DS-1.0.0", "C-01").note
    assert "DS-1.0.0 with C-01" in note
    assert "1 images of 1 parts (no groups given): Dice 1.000" in note


@pytest.fixture
def staged(store: Store, tmp_path: Path) -> tuple[Path, Digest, Release]:
    home = home_of(tmp_path / "home")
    plain(home, "first", range(60))
    ingest(home, store, "first")
    snapshot = cut(home, store)
    assert snapshot is not None
    split = split_snapshot(store, find_snapshot(store, snapshot.id)[0])
    _experiment(store, split=store.objects.put_json(split.model_dump(mode="json")))
    made = release(store, "v0.1.0", "DS-1.0.0", "C-01")
    folder = tmp_path / "staged"
    digest, comparisons = stage(store, made, PROJECT / "bento", folder)
    assert comparisons
    return folder, digest, made


def test_the_staged_model_is_the_released_bundle(staged: tuple[Path, Digest, Release]) -> None:
    folder, _, made = staged
    check_bundle(folder / "model", made.bundle)
    for runtime in (None, "auto"):
        Detector.load(folder / "model", runtime).analyze(np.zeros((40, 50), np.uint8))
    assert (folder / "model" / MODEL).exists()


def test_the_same_release_gives_the_same_bento(
    staged: tuple[Path, Digest, Release], store: Store, tmp_path: Path
) -> None:
    _, digest, made = staged
    assert stage(store, made, PROJECT / "bento", tmp_path / "again")[0] == digest


def test_the_bento_holds_the_service_and_inference_code_alone(
    staged: tuple[Path, Digest, Release],
) -> None:
    source = staged[0] / "source"
    files = {p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()}
    beside = {f for f in files if not f.startswith("defect_assets/inference/")}
    service = {f for f in beside if f.startswith("detector_service/")}
    assert {"detector_service/app.py", "detector_service/page/index.html"} <= service
    assert not any("__pycache__" in f for f in service)
    assert beside - service == {
        "defect_assets/__init__.py",
        "service.py",
        "MODEL",
        "requirements.lock",
        "bentofile.yaml",
    }


def test_the_service_imports_nothing_that_it_does_not_ship(
    staged: tuple[Path, Digest, Release],
) -> None:
    """In an interpreter that finds only the staged source, and sees what it loads."""
    script = (
        "import sys; sys.path.insert(0, '.'); import service, defect_assets\n"
        "from pathlib import Path\n"
        "assert Path(defect_assets.__file__).parents[1] == Path.cwd(), defect_assets.__file__\n"
        "assert service.MODEL_TAG == 'defect_detector:v0.1.0'\n"
        "loaded = {m.split('.')[0] for m in sys.modules}\n"
        "ours = {m for m in sys.modules if m.startswith('defect_assets.')}\n"
        "assert all(m.startswith('defect_assets.inference') for m in ours), ours\n"
        "assert not loaded & {'dagster', 'pandas', 'albumentations', 'lightning_fabric'}, loaded\n"
    )
    subprocess.run(
        [sys.executable, "-c", script], cwd=staged[0] / "source", check=True, timeout=120
    )
