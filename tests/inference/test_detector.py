from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from defect_assets.inference.architecture import Architecture
from defect_assets.inference.bundle import (
    HISTORY,
    SPEC,
    WEIGHTS,
    BundleError,
    BundleSpec,
    bundle_digest,
    check_bundle,
)
from defect_assets.inference.detector import Detector
from defect_assets.inference.model import build_model
from defect_assets.inference.postprocessing import Postprocessing
from defect_assets.inference.preprocessing import Preprocessing
from defect_assets.store import Store
from defect_assets.store.objects import write_tree


def untrained_bundle(**changes: object) -> dict[str, bytes]:
    """The files of a bundle whose weights are drawn from a seed."""
    torch.manual_seed(0)
    spec = BundleSpec(
        architecture=Architecture(widths=(8, 16, 16)),
        preprocessing=Preprocessing(height=64, width=64),
        postprocessing=Postprocessing(threshold=0.67, review_threshold=0.6),
        class_map={1: "Crack", 2: "Fray"},
    ).model_copy(update=changes)
    network = build_model(spec.architecture, spec.preprocessing.channels, 3)
    return {
        WEIGHTS: save(network.state_dict()),
        SPEC: spec.model_dump_json().encode(),
        HISTORY: b"[]",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tree(untrained_bundle(), tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = [(60, 80), (64, 64), (101, 37)]
    return [rng.integers(0, 255, size, np.uint8) for size in sizes]


def test_every_image_gets_an_analysis_in_its_own_size(
    folder: Path, images: list[np.ndarray]
) -> None:
    for image, analysis in zip(images, Detector.load(folder).analyze_batch(images), strict=True):
        assert analysis.mask.shape == analysis.probability.shape == image.shape
        assert 0 <= analysis.probability.min() <= analysis.probability.max() <= 1
        for defect in analysis.defects:
            left, top, right, bottom = defect.bbox_xyxy
            assert 0 <= left < right <= image.shape[1]
            assert 0 <= top < bottom <= image.shape[0]


def test_a_batch_gives_what_each_image_gives(folder: Path, images: list[np.ndarray]) -> None:
    detector = Detector.load(folder)
    for image, analysis in zip(images, detector.analyze_batch(images), strict=True):
        alone = detector.analyze(image).probability
        assert alone == pytest.approx(analysis.probability, abs=1e-5)


def test_colour_and_grey_images_are_taken_by_either_network(
    tmp_path: Path, images: list[np.ndarray]
) -> None:
    for channels in (1, 3):
        bundle = untrained_bundle(
            preprocessing=Preprocessing(height=64, width=64, channels=channels)
        )
        write_tree(bundle, tmp_path / str(channels))
        detector = Detector.load(tmp_path / str(channels))
        grey = detector.analyze(images[0]).probability
        colour = detector.analyze(np.repeat(images[0][..., None], 3, axis=2)).probability
        assert grey == pytest.approx(colour, abs=0.02)


def test_averaged_over_mirror_images_a_mirrored_image_is_seen_the_same(tmp_path: Path) -> None:
    write_tree(untrained_bundle(flips=True), tmp_path / "flips")
    detector = Detector.load(tmp_path / "flips")
    image = np.random.default_rng(1).integers(0, 255, (64, 64), np.uint8)
    upright = detector.analyze(image).probability
    mirrored = detector.analyze(np.ascontiguousarray(image[:, ::-1])).probability
    assert mirrored[:, ::-1] == pytest.approx(upright, abs=1e-5)


def test_a_bundles_digest_is_its_name_in_the_store(store: Store, tmp_path: Path) -> None:
    files = untrained_bundle()
    digest = store.objects.put_tree(files)
    write_tree(store.objects.get_tree(digest), tmp_path / "out")
    assert bundle_digest(tmp_path / "out") == digest
    check_bundle(tmp_path / "out", digest)


@pytest.mark.parametrize("name", [WEIGHTS, SPEC, HISTORY])
def test_a_damaged_bundle_is_refused(folder: Path, name: str) -> None:
    digest = bundle_digest(folder)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1])
    with pytest.raises(BundleError, match="damaged"):
        check_bundle(folder, digest)
    (folder / name).unlink()
    with pytest.raises(BundleError, match="no bundle"):
        check_bundle(folder, digest)


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle"):
        Detector.load(tmp_path)


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(),
        Architecture(name="unet", encoder="resnet18"),
        Architecture(name="fpn", encoder="tu-regnety_002"),
    ],
    ids=lambda a: a.encoder or a.name,
)
def test_every_network_gives_a_logit_per_class_and_pixel(architecture: Architecture) -> None:
    network = build_model(architecture, in_channels=1, classes=6).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 1, 64, 96)).shape == (2, 6, 64, 96)


def test_an_architecture_without_its_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="needs an encoder"):
        Architecture(name="unet")
    with pytest.raises(ValueError, match="leave encoder out"):
        Architecture(encoder="resnet34")
