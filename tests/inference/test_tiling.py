"""Large images."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.inference.architecture import Architecture
from defect_assets.inference.bundle import BundleSpec
from defect_assets.inference.detector import WINDOWS_AT_ONCE, Detector
from defect_assets.inference.postprocessing import Postprocessing
from defect_assets.inference.preprocessing import Preprocessing
from defect_assets.inference.runtimes.runtime import Variant
from defect_assets.inference.tiling import LARGER, OVERLAP, Tiling, TrainingSizes, tiling_of
from defect_assets.store.objects import write_tree
from tests.trained import trained_bundle, unseen_tiles

SIZES = TrainingSizes(median=(100, 80), largest=(120, 150))

sides = st.integers(20, 500)
inputs = st.builds(
    Preprocessing,
    height=st.sampled_from([32, 64]),
    width=st.sampled_from([32, 96]),
    resizing=st.sampled_from(["stretch", "pad"]),
)


def tiling(height: int, width: int, preprocessing: Preprocessing) -> Tiling:
    """How an image is looked at by windows, however small it is."""
    tiny = SIZES.model_copy(update={"largest": (1, 1)})
    found = tiling_of((height, width), preprocessing, tiny)
    assert found is not None
    return found


class Copycat:
    """A network that says how bright a pixel is, and how many images it was shown at once."""

    variant = Variant("torch", "fp32")
    device = "cpu"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(len(images))
        dark = 1 / (1 + np.exp(images))
        return np.concatenate([dark, 1 - dark], axis=1)


@given(sides, sides, inputs)
def test_weights_sum_to_one_everywhere(
    height: int, width: int, preprocessing: Preprocessing
) -> None:
    found = tiling(height, width, preprocessing)
    count = len(found.tops) * len(found.lefts)
    blended = found.blend([np.ones((count, 2, *found.window), np.float32)])
    assert blended.shape == (2, found.canvas.height, found.canvas.width)
    assert blended == pytest.approx(1, abs=1e-5)


@given(sides, sides, inputs, st.integers(1, 9))
def test_a_network_that_says_what_it_sees_gives_the_image_back(
    height: int, width: int, preprocessing: Preprocessing, batch: int
) -> None:
    image = np.random.default_rng(height).integers(0, 256, (height, width), np.uint8)
    found = tiling(height, width, preprocessing)
    seen = found.windows(image).transpose(0, 3, 1, 2).astype(np.float32)
    blended = found.blend(seen[i : i + batch] for i in range(0, len(seen), batch))
    assert blended[0] == pytest.approx(found.canvas.fit(image)[..., 0], abs=0.01)


@given(sides, sides, inputs)
def test_windows_overlap_and_are_at_the_scale_of_the_training(
    height: int, width: int, preprocessing: Preprocessing
) -> None:
    found = tiling(height, width, preprocessing)
    for starts, window, length in [
        (found.tops, found.window[0], found.canvas.height),
        (found.lefts, found.window[1], found.canvas.width),
    ]:
        assert starts[0] == 0
        assert starts[-1] == length - window
        assert all(np.diff(starts) <= window * (1 - OVERLAP) + 1)
    wanted = preprocessing.scale_of(SIZES.median)
    actual = found.canvas.scale_of((height, width))
    for i, side in enumerate((height, width)):
        if side * wanted[i] >= found.window[i] and preprocessing.resizing == "stretch":
            assert actual[i] == pytest.approx(wanted[i], abs=0.5 / side + 1e-9)


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_images_of_about_the_size_of_the_training_are_looked_at_whole(
    height: int, width: int
) -> None:
    found = tiling_of((height, width), Preprocessing(height=64, width=64), SIZES)
    small = height <= LARGER * SIZES.largest[0] and width <= LARGER * SIZES.largest[1]
    assert (found is None) == small
    assert tiling_of((height, width), Preprocessing(height=64, width=64), None) is None


def test_a_large_image_takes_little_memory_and_small_batches() -> None:
    network = Copycat()
    spec = BundleSpec(
        architecture=Architecture(),
        preprocessing=Preprocessing(height=128, width=128),
        postprocessing=Postprocessing(),
        class_map={1: "Crack"},
        trained_on=TrainingSizes(median=(324, 270), largest=(403, 632)),
    )
    image = np.random.default_rng(0).integers(0, 256, (3000, 4096), np.uint8)
    detector = Detector(network, spec)
    tracemalloc.start()
    [maps] = detector.predict([image])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(network.batches) <= WINDOWS_AT_ONCE
    assert peak < 3 * maps.nbytes
    assert detector.interpret(maps, image.shape).mask.shape == image.shape


def test_small_and_large_images_are_told_apart_in_one_batch() -> None:
    network = Copycat()
    spec = BundleSpec(
        architecture=Architecture(),
        preprocessing=Preprocessing(height=32, width=32),
        postprocessing=Postprocessing(),
        class_map={1: "Crack"},
        trained_on=SIZES,
    )
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, size, np.uint8) for size in [(90, 70), (400, 300), (110, 140)]]
    detector = Detector(network, spec)
    together = detector.analyze_batch(images)
    assert network.batches[0] == 2
    for image, analysis in zip(images, together, strict=True):
        assert analysis.probability.shape == image.shape
        assert (detector.analyze(image).probability == analysis.probability).all()


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    folder = tmp_path_factory.mktemp("trained")
    write_tree(trained_bundle(), folder)
    return Detector.load(folder, device="cpu")


def mirrored(image: np.ndarray, times: int) -> np.ndarray:
    """An image and its mirror images beside each other: larger, and without a seam."""
    for axis in (0, 1):
        pair = [image, np.flip(image, axis)]
        image = np.concatenate([pair[i % 2] for i in range(times)], axis=axis)
    return image


def test_in_a_large_image_is_found_what_is_found_in_its_parts(detector: Detector) -> None:
    def agreement(looking: Detector) -> float:
        same = all_of_them = 0
        for tile in [t for t in unseen_tiles() if t.mask.any()][::5]:
            alone = mirrored(detector.analyze(tile.image).mask > 0, 4)
            found = looking.analyze(mirrored(tile.image, 4)).mask > 0
            same += 2 * int((alone & found).sum())
            all_of_them += int(alone.sum() + found.sum())
        return same / all_of_them

    at_once = detector.spec.model_copy(update={"trained_on": None})
    assert agreement(detector) > 1.3 * agreement(Detector(detector._run, at_once))
    assert agreement(detector) > 0.5


class Bright:
    """A network to which bright pixels are defects."""

    variant = Variant("torch", "fp32")
    device = "cpu"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        defective = 1 / (1 + np.exp(4 - 4 * images))
        return np.concatenate([1 - defective, defective], axis=1)


@given(st.integers(0, 288), st.integers(0, 388), st.integers(4, 12), st.integers(4, 12))
def test_a_defect_that_several_windows_see_is_one(y: int, x: int, height: int, width: int) -> None:
    spec = BundleSpec(
        architecture=Architecture(),
        preprocessing=Preprocessing(height=64, width=64, normalization="standardize"),
        postprocessing=Postprocessing(),
        class_map={1: "Hole"},
        trained_on=TrainingSizes(median=(64, 64), largest=(64, 64)),
    )
    image = np.full((300, 400), 100, np.uint8)
    image[y : y + height, x : x + width] = 200
    analysis = Detector(Bright(), spec).analyze(image)
    [defect] = analysis.defects
    assert defect.bbox_xyxy == (x, y, x + width, y + height)
    assert ((analysis.mask > 0) == (image == 200)).all()
