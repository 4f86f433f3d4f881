import json
from pathlib import Path

import numpy as np
import pytest

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.images import LabelledImage
from defect_assets.dataset.masks import decode_mask
from defect_assets.dataset.synthetic import synthetic_samples
from defect_assets.inference.architecture import Architecture
from defect_assets.inference.bundle import HISTORY, SPEC, WEIGHTS, BundleSpec
from defect_assets.inference.detector import Detector
from defect_assets.inference.images import decode_image
from defect_assets.inference.preprocessing import Preprocessing
from defect_assets.store.objects import write_tree
from defect_assets.training.bundling import make_bundle
from defect_assets.training.config import Augmentation, Sampling, TrainingConfig
from defect_assets.training.data import FittedImages, fit_images
from defect_assets.training.loop import POINTS, Progress, TrainingDiverged, train

SMALL = TrainingConfig(
    architecture=Architecture(widths=(8, 16, 16)),
    input=Preprocessing(height=64, width=64),
    steps=30,
    sampling=Sampling(batch_size=4),
    augmentation=Augmentation(rotation=5, noise=0.02),
)


@pytest.fixture(scope="module")
def images() -> list[LabelledImage]:
    from defect_assets.home import known_description

    description = known_description("synthetic-tiles")
    found = []
    for s in synthetic_samples(0, 1, 12):
        image = decode_image(s.image)
        mask = decode_mask(s.mask, s.class_name, image.shape, description)
        found.append(LabelledImage(s.sample, s.class_name, s.group, s.exposure, image, mask))
    return found


@pytest.fixture
def fitted(images: list[LabelledImage], description: DatasetDescription) -> FittedImages:
    return fit_images(images, SMALL.input, description.class_ids)


def test_two_trainings_give_the_same_bundle_bit_by_bit(
    fitted: FittedImages, images: list[LabelledImage], description: DatasetDescription
) -> None:
    one, two = (
        make_bundle(train(SMALL, fitted, fitted, 5), SMALL, description.class_map, images)
        for _ in range(2)
    )
    assert one == two


def test_another_seed_gives_other_weights(fitted: FittedImages) -> None:
    states = [
        train(SMALL.model_copy(update={"seed": seed}), fitted, fitted, 5).network.state_dict()
        for seed in (0, 1)
    ]
    assert any((states[0][name] != states[1][name]).any() for name in states[0])


def test_progress_is_told_and_training_learns(fitted: FittedImages) -> None:
    told: list[Progress] = []
    config = SMALL.model_copy(update={"steps": 200, "augmentation": Augmentation()})
    result = train(config, fitted, fitted, 5, told.append)
    assert [p.point.step for p in told] == [10 * (i + 1) for i in range(POINTS)]
    assert [p.point for p in told] == result.history
    assert told[-1].seconds_left == 0
    assert result.history[-1].loss < 0.7 * result.history[0].loss
    assert result.history[-1].val_dice > 0.5


def test_a_loss_that_is_no_number_stops_the_training(fitted: FittedImages) -> None:
    broken = SMALL.model_copy(update={"loss": {"dice": float("nan")}})
    with pytest.raises(TrainingDiverged, match="at step 1: lower learning_rate"):
        train(broken, fitted, fitted, 5)


def test_a_bundle_is_all_that_a_detector_needs(
    fitted: FittedImages,
    images: list[LabelledImage],
    description: DatasetDescription,
    tmp_path: Path,
) -> None:
    result = train(SMALL, fitted, fitted, 5)
    files = make_bundle(result, SMALL, description.class_map, images)
    assert set(files) == {WEIGHTS, SPEC, HISTORY}
    spec = BundleSpec.model_validate_json(files[SPEC])
    assert spec.class_map == description.class_map
    assert spec.postprocessing.review_threshold <= spec.postprocessing.threshold
    assert json.loads(files[HISTORY])[-1]["step"] == SMALL.steps
    write_tree(files, tmp_path)
    loaded = Detector.load(tmp_path).analyze(images[0].image)
    direct = Detector(result.network, spec).analyze(images[0].image)
    assert (loaded.probability == direct.probability).all()
    assert loaded.defects == direct.defects


def test_a_class_without_images_is_no_hindrance(fitted: FittedImages) -> None:
    only_free = FittedImages(
        fitted.images, np.zeros_like(fitted.masks), np.zeros_like(fitted.classes)
    )
    assert len(train(SMALL, only_free, only_free, 5).history) == POINTS
