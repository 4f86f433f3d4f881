"""The same network in other runtimes."""

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch

from defect_assets.inference.bundle import BundleError, read_spec
from defect_assets.inference.detector import Detector
from defect_assets.inference.exported import CHECK, EXPORTED, MODEL, read_exported
from defect_assets.inference.runtimes.choice import ON_CPU, open_runtime
from defect_assets.inference.runtimes.pytorch import load_network
from defect_assets.inference.runtimes.runtime import Runtime, RuntimeUnavailable, Variant, averaged
from defect_assets.registry.exporting import export_onnx, export_runtimes
from defect_assets.store.objects import write_tree
from tests.inference.test_detector import untrained_bundle
from tests.trained import trained_bundle, unseen_tiles

EXACT = [variant for variant in ON_CPU if variant.precision == "fp32"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model, and what was exported of it."""
    folder = tmp_path_factory.mktemp("trained")
    write_tree(trained_bundle(), folder)
    export_runtimes(folder, unseen_tiles())
    return folder


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return copytree(folder, tmp_path / "own")


def opened(folder: Path, variant: Variant) -> Runtime:
    try:
        return open_runtime(variant, folder, read_spec(folder), read_exported(folder), "cpu")
    except RuntimeUnavailable as error:
        pytest.skip(str(error))


def fitted(folder: Path, count: int) -> np.ndarray:
    preprocessing = read_spec(folder).preprocessing
    return np.stack([preprocessing(tile.image) for tile in unseen_tiles()[:count]])


@pytest.mark.parametrize("variant", ON_CPU, ids=str)
def test_every_runtime_sees_what_pytorch_sees(folder: Path, variant: Variant) -> None:
    runtime = opened(folder, variant)
    assert (str(runtime.variant), runtime.device) == (str(variant), "cpu")
    images = fitted(folder, 5)
    expected = opened(folder, Variant("torch", "fp32"))(images)
    found = runtime(images)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert found.sum(axis=1) == pytest.approx(1, abs=0.01)
    tolerance = 1e-4 if variant.precision == "fp32" else 0.1
    assert found == pytest.approx(expected, abs=tolerance)
    assert np.abs(found - expected).mean() < tolerance / 10


@pytest.mark.parametrize("variant", ON_CPU, ids=str)
def test_a_batch_gives_what_each_image_gives(folder: Path, variant: Variant) -> None:
    runtime = opened(folder, variant)
    images = fitted(folder, 3)
    tolerance = 1e-5 if variant.precision == "fp32" else 0.05
    for image, together in zip(images, runtime(images), strict=True):
        assert runtime(image[None])[0] == pytest.approx(together, abs=tolerance)


@pytest.mark.parametrize("flips", [True, False])
@pytest.mark.parametrize("variant", EXACT, ids=str)
def test_threads_do_not_disturb_each_other(own: Path, variant: Variant, flips: bool) -> None:
    spec = read_spec(own).model_copy(update={"flips": flips})
    runtime = open_runtime(variant, own, spec, read_exported(own), "cpu")
    images = fitted(own, 12)
    alone = [runtime(image[None]) for image in images]
    with ThreadPoolExecutor(6) as threads:
        for _ in range(3):
            for one, expected in zip(threads.map(runtime, images[:, None]), alone, strict=True):
                assert one == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("variant", EXACT, ids=str)
def test_mirror_images_are_averaged_upright(own: Path, variant: Variant) -> None:
    spec = read_spec(own)
    plain = open_runtime(
        variant, own, spec.model_copy(update={"flips": False}), read_exported(own), "cpu"
    )
    images = fitted(own, 2)
    axes = [(), (2,), (3,), (2, 3)]
    views = [np.flip(plain(np.ascontiguousarray(np.flip(images, a))), a) for a in axes]
    assert opened(own, variant)(images) == pytest.approx(np.mean(views, axis=0), abs=1e-5)
    assert averaged(plain, images) == pytest.approx(np.mean(views, axis=0), abs=1e-5)


def test_the_fastest_that_can_be_had_answers(own: Path) -> None:
    fastest = Detector.load(own, "auto", "cpu").runtime
    assert fastest in ("openvino bf16", "openvino fp32")
    exported = read_exported(own)
    assert exported is not None
    for variant in ON_CPU[:4]:
        exported = exported.model_copy(update={"refused": (*exported.refused, str(variant))})
        (own / EXPORTED).write_text(exported.model_dump_json())
        answering = Detector.load(own, "auto", "cpu").runtime
        assert answering not in exported.refused
    assert answering == "onnx fp32"


@pytest.mark.parametrize("runtime", ["torch", "openvino", "onnx"])
def test_a_runtime_can_be_chosen(folder: Path, runtime: str) -> None:
    detector = Detector.load(folder, runtime, "cpu", threads=1)
    assert detector.runtime.split()[0] == runtime
    tile = next(t for t in unseen_tiles() if t.mask.any())
    expected = Detector.load(folder, device="cpu").analyze(tile.image)
    found = detector.analyze(tile.image)
    assert np.mean(found.mask == expected.mask) > 0.99
    assert found.verdict == expected.verdict


def test_a_bundle_alone_is_run_by_pytorch(tmp_path: Path) -> None:
    write_tree(untrained_bundle(), tmp_path)
    assert Detector.load(tmp_path, "auto", "cpu").runtime == "torch fp32"
    assert Detector.load(tmp_path, device="cpu").runtime == "torch fp32"
    with pytest.raises(RuntimeUnavailable, match=r"no model\.onnx: it is made when a bento"):
        Detector.load(tmp_path, "openvino")


def test_what_is_not_installed_says_what_to_install(folder: Path) -> None:
    import onnxruntime

    if "TensorrtExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("TensorRT is installed here")
    with pytest.raises(RuntimeUnavailable, match="install onnxruntime-gpu"):
        Detector.load(folder, "tensorrt")


def test_a_runtime_that_answers_otherwise_here_is_passed_over(own: Path) -> None:
    """As on a processor that computes otherwise than the one on which the bento was built."""
    spec, exported = read_spec(own), read_exported(own)
    assert exported is not None
    network = load_network(own, spec)
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(1.1)
    export_onnx(network, spec, own / MODEL)
    digest = hashlib.sha256((own / MODEL).read_bytes()).hexdigest()
    files = {**exported.files, MODEL: digest}
    (own / EXPORTED).write_text(exported.model_copy(update={"files": files}).model_dump_json())
    assert Detector.load(own, "auto", "cpu").runtime.startswith("torch")
    with pytest.raises(RuntimeUnavailable, match="of the pixels are of another class"):
        Detector.load(own, "openvino")


def test_what_is_not_float32_is_not_trusted_unchecked(own: Path) -> None:
    exported = read_exported(own)
    assert exported is not None
    files = {MODEL: exported.files[MODEL]}
    (own / EXPORTED).write_text(exported.model_copy(update={"files": files}).model_dump_json())
    assert Detector.load(own, "auto", "cpu").runtime == "openvino fp32"


@pytest.mark.slow
def test_compiled_pytorch_sees_the_same(folder: Path) -> None:
    compiled = Detector.load(folder, "torch", "cpu", compiled=True)
    expected = Detector.load(folder, device="cpu")
    for tile in unseen_tiles()[:3]:
        assert (
            np.mean(compiled.analyze(tile.image).mask == expected.analyze(tile.image).mask) > 0.99
        )


@pytest.mark.parametrize("name", [MODEL, CHECK])
def test_a_damaged_file_stops_the_start(own: Path, name: str) -> None:
    whole = (own / name).read_bytes()
    for data in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        (own / name).write_bytes(data)
        with pytest.raises(BundleError, match=f"{name} is damaged.*build the bento again"):
            Detector.load(own, "auto")
    (own / name).unlink()
    with pytest.raises(BundleError, match="is not whole"):
        Detector.load(own, "auto")


@pytest.mark.parametrize("text", ["", "[]", '{"files": 1}', '{"files": {}, "more": 1}'])
def test_a_manifest_that_is_none_stops_the_start(own: Path, text: str) -> None:
    (own / EXPORTED).write_text(text)
    with pytest.raises(BundleError, match="is not whole"):
        Detector.load(own, "auto")


def test_without_pytorch_openvino_answers(folder: Path, tmp_path: Path) -> None:
    """As in the image for CPUs, which has no torch."""
    tile = unseen_tiles()[0].image
    np.save(tmp_path / "tile.npy", tile)
    script = f"""
import sys
sys.modules["torch"] = None
import json
from pathlib import Path
import numpy as np
from defect_assets.inference.detector import Detector
from defect_assets.inference.runtimes.runtime import RuntimeUnavailable
detector = Detector.load(Path({str(folder)!r}), "auto")
analysis = detector.analyze(np.load({str(tmp_path / "tile.npy")!r}))
try:
    Detector.load(Path({str(folder)!r}), "torch")
    said = ""
except RuntimeUnavailable as error:
    said = str(error)
print(json.dumps([detector.runtime, analysis.verdict, said]))
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    runtime, verdict, said = json.loads(done.stdout)
    assert runtime.startswith("openvino")
    assert verdict == Detector.load(folder, device="cpu").analyze(tile).verdict
    assert "torch is not installed" in said


def test_the_detector_imports_no_runtime_before_it_is_chosen() -> None:
    script = "import sys, defect_assets.inference.detector; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "openvino", "onnxruntime"} & set(loaded)


def test_signals_are_handled_after_openvino_was_used(folder: Path) -> None:
    """Where two of its cores end in another order than they began, the next signal crashes."""
    script = f"""
import signal, subprocess
from pathlib import Path
from defect_assets.inference.detector import Detector
first, second = (Detector.load(Path({str(folder)!r}), "openvino") for _ in range(2))
del first
del second
handled = []
signal.signal(signal.SIGCHLD, lambda *_: handled.append(1))
subprocess.run(["true"], check=True)
assert handled
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
