import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from defect_assets.home import PROJECT
from defect_assets.inference.bundle import check_bundle
from defect_assets.inference.detector import Detector
from defect_assets.inference.exported import MODEL
from defect_assets.registry.packaging import rebuild, stage
from defect_assets.registry.release.release_bundle import MANIFEST, bundle_files
from defect_assets.registry.release.releases import Release, find_release, read_documents, releases
from defect_assets.store import Digest, Record, Store
from tests.experiments import Made, publish_experiment
from tests.registry.releasing import publish_release as publish_judged
from tests.releases import publish_release


def test_releases_are_listed_by_their_numbers(store: Store) -> None:
    for version in ("v0.10.0", "v0.2.0", "v0.9.1"):
        publish_release(store, version)
    assert [release.id for release in releases(store)] == ["v0.2.0", "v0.9.1", "v0.10.0"]
    assert find_release(store, "v0.2.0") == releases(store)[0]
    assert find_release(store, "v9.9.9") is None


def test_a_release_from_before_there_were_gates_is_one(store: Store) -> None:
    publish_release(store, "v0.1.0")
    old = store.objects.get_json(store.content("releases/v0.1.0") or "")
    for field in ("intervals", "gates", "previous", "notes"):
        del old[field]
    store.publish_once("releases/v0.0.9", Record(asset="x", content=store.objects.put_json(old)))
    assert find_release(store, "v0.0.9") == find_release(store, "v0.1.0")
    assert read_documents(store, "v0.0.9") == {}
    made = find_release(store, "v0.0.9")
    assert made is not None
    assert MANIFEST in bundle_files(store, made)


@pytest.fixture
def staged(
    store: Store, project: Path, dataset: str, tmp_path: Path
) -> tuple[Path, Digest, Release]:
    publish_experiment(store, Made())
    made = publish_judged(store, project)
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
    for name in ("RELEASE.md", "MODEL_CARD.md", "metrics.json", MANIFEST):
        assert (folder / "model" / name).stat().st_size


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
        "requirements-cpu.lock",
        "requirements-cuda.lock",
        "bentofile.yaml",
        "bentofile-cuda.yaml",
        "README.md",
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


@pytest.mark.slow
def test_a_bento_is_built_again_from_the_store_alone(
    staged: tuple[Path, Digest, Release], store: Store, tmp_path: Path
) -> None:
    """In a process of its own: BentoML reads where its home is once."""
    _, digest, made = staged
    assert not rebuild(store, made, tmp_path / "bentoml")
    store.publish("bentos/v0.1.0", Record(asset="defect_bento", content=digest))
    script = (
        "import sys; from pathlib import Path; from defect_assets.store import open_store\n"
        "from defect_assets.registry.packaging import rebuild\n"
        "from defect_assets.registry.release.releases import find_release\n"
        "store = open_store(sys.argv[1])\n"
        "assert rebuild(store, find_release(store, 'v0.1.0'), Path(sys.argv[2]))\n"
        "import bentoml\n"
        "for name in ('v0.1.0', 'v0.1.0-cuda'):\n"
        "    bento = bentoml.get(f'defect_detector:{name}')\n"
        "    assert bento.info.labels['digest'] == sys.argv[3][:63]\n"
        "    assert bento.info.labels['release'] == 'v0.1.0'\n"
        "    assert str(bento.info.all_models[0].tag) == 'defect_detector:v0.1.0'\n"
    )
    arguments = [str(tmp_path / "store"), str(tmp_path / "bentoml"), digest]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, timeout=300)
    check_bundle(bento_model(tmp_path / "bentoml"), made.bundle)


def bento_model(bentoml_home: Path) -> Path:
    """Return the folder of the one model in a BentoML's home."""
    [spec] = bentoml_home.glob("models/*/*/bundle.json")
    return spec.parent
