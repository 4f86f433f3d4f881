import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.images import LabelledImage
from defect_assets.dataset.masks import decode_mask
from defect_assets.dataset.synthetic import synthetic_samples
from defect_assets.home import known_description
from defect_assets.inference.architecture import Architecture
from defect_assets.inference.bundle import HISTORY, SPEC, WEIGHTS, BundleSpec
from defect_assets.inference.detector import Detector
from defect_assets.inference.images import decode_image
from defect_assets.inference.postprocessing import ThresholdGoal
from defect_assets.inference.preprocessing import Preprocessing
from defect_assets.inference.runtimes.pytorch import TorchRuntime
from defect_assets.inference.tiling import TrainingSizes
from defect_assets.store.objects import write_tree
from defect_assets.training.bundling import make_bundle
from defect_assets.training.checkpoint import Checkpoint
from defect_assets.training.config import (
    EarlyStopping,
    Optimizer,
    Sampling,
    Schedule,
    TrainingConfig,
)
from defect_assets.training.data import FittedImages, fit_images
from defect_assets.training.hardware import Hardware
from defect_assets.training.loop import (
    POINTS,
    Progress,
    TrainingDiverged,
    TrainingResult,
    TrainingStopped,
    train,
)

SMALL = TrainingConfig(
    architecture=Architecture(widths=(8, 16, 16)),
    input=Preprocessing(height=64, width=64),
    steps=30,
    sampling=Sampling(batch_size=4, pasted=0.2, painted=0.2),
    paint={"Crack": "crack", "Uneven": "zone"},
    augmentation=(
        {"HorizontalFlip": {}},
        {"Affine": {"rotate": [-5, 5], "p": 0.5}},
        {"GaussNoise": {"std_range": [0, 0.02]}},
    ),
)


CLASSES = known_description("synthetic-tiles").class_map
SIZES = TrainingSizes(median=(324, 270), largest=(403, 632))


def synthetic_images() -> list[LabelledImage]:
    description = known_description("synthetic-tiles")
    found = []
    for s in synthetic_samples(0, 1, 12):
        image = decode_image(s.image)
        mask = decode_mask(s.mask, s.class_name, (image.shape[0], image.shape[1]), description)
        found.append(LabelledImage(s.sample, s.class_name, s.group, s.exposure, image, mask))
    return found


def synthetic_fitted() -> FittedImages:
    class_ids = known_description("synthetic-tiles").class_ids
    return fit_images(synthetic_images(), SMALL.input, class_ids)


@pytest.fixture(scope="module")
def images() -> list[LabelledImage]:
    return synthetic_images()


@pytest.fixture(scope="module")
def fitted(images: list[LabelledImage]) -> FittedImages:
    return fit_images(images, SMALL.input, known_description("synthetic-tiles").class_ids)


def _same(one: TrainingResult, other: TrainingResult) -> bool:
    a, b = one.network.state_dict(), other.network.state_dict()
    return one.history == other.history and all((a[name] == b[name]).all() for name in a)


def test_two_trainings_give_the_same_bundle_bit_by_bit(
    fitted: FittedImages, images: list[LabelledImage], description: DatasetDescription
) -> None:
    one, two = (
        make_bundle(
            train(SMALL, fitted, fitted, CLASSES), SMALL, description.class_map, images, SIZES
        )
        for _ in range(2)
    )
    assert one == two


def test_another_seed_gives_other_weights(fitted: FittedImages) -> None:
    one, other = (
        train(SMALL.model_copy(update={"seed": seed}), fitted, fitted, CLASSES) for seed in (0, 1)
    )
    assert not _same(one, other)


def test_whoever_prepares_the_batches_they_are_the_same(fitted: FittedImages) -> None:
    assert _same(
        train(SMALL, fitted, fitted, CLASSES, Hardware(workers=0)),
        train(SMALL, fitted, fitted, CLASSES, Hardware(workers=2)),
    )


def test_progress_is_told_and_training_learns(fitted: FittedImages) -> None:
    told: list[Progress] = []
    plain = {"steps": 300, "augmentation": (), "sampling": Sampling(batch_size=4), "paint": {}}
    config = SMALL.model_copy(update=plain)
    result = train(config, fitted, fitted, CLASSES, report=told.append)
    assert [p.history[-1].step for p in told] == [15 * (i + 1) for i in range(POINTS)]
    assert told[-1].history == result.history
    assert told[-1].seconds_left == 0
    assert result.history[-1].loss < 0.7 * result.history[0].loss
    assert result.history[-1].val_dice > 0.5
    preview = told[-1].preview
    assert preview.images.shape[:3] == preview.masks.shape == preview.predicted.shape
    assert preview.masks.any(axis=(1, 2)).sum() == len(np.unique(fitted.classes)) - 1
    assert result.record["images_per_second"] > 0
    assert result.record["device"] == "cpu" or torch.cuda.is_available()


@pytest.mark.parametrize(
    "changed",
    [
        {"optimizer": Optimizer(name="sgd", learning_rate=0.05)},
        {"schedule": Schedule(name="cosine", warmup=0.1)},
        {"schedule": Schedule(name="constant", warmup=0)},
        {"schedule": Schedule(warmup=0)},
        {"steps": None, "epochs": 2.0},
        {"steps": 1},
        {"ema": 0.0},
        {"input": Preprocessing(height=64, width=64, resizing="pad")},
    ],
    ids=str,
)
def test_every_choice_trains(changed: dict, fitted: FittedImages) -> None:
    config = SMALL.model_copy(update=changed)
    result = train(config, fitted, fitted, CLASSES)
    assert result.history[-1].step == config.steps_for(len(fitted))
    assert np.isfinite(result.history[-1].loss)


def test_a_binary_model_does_not_tell_types_apart(
    fitted: FittedImages, images: list[LabelledImage], description: DatasetDescription
) -> None:
    config = SMALL.model_copy(update={"task": "binary"})
    result = train(config, fitted, fitted, CLASSES)
    files = make_bundle(result, config, config.class_map(description.class_map), images, SIZES)
    spec = BundleSpec.model_validate_json(files[SPEC])
    assert spec.class_map == {1: "Defect"}
    detector = Detector(TorchRuntime(result.network), spec)
    assert set(np.unique(detector.analyze(images[0].image).mask)) <= {0, 1}


def test_training_ends_early_with_the_best_weights(fitted: FittedImages) -> None:
    hopeless = Optimizer(learning_rate=1e-12)
    config = SMALL.model_copy(
        update={"steps": 100, "early_stopping": EarlyStopping(patience=3), "optimizer": hopeless}
    )
    result = train(config, fitted, fitted, CLASSES)
    scores = [point.val_dice for point in result.history]
    assert len(scores) < POINTS
    assert max(scores[-3:]) <= max(scores[:-3])


def _train_and_be_killed(folder: Path, after: int) -> None:
    def report(progress: Progress) -> None:
        if progress.history[-1].step >= after:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint = Checkpoint(folder, "this", minutes=0)
    data = synthetic_fitted()
    train(LONGER, data, data, CLASSES, checkpoint=checkpoint, report=report)


LONGER = SMALL.model_copy(update={"steps": 80, "early_stopping": EarlyStopping(patience=18)})


@pytest.mark.parametrize("after", [12, 41])
def test_a_killed_training_goes_on_to_the_same_weights(
    fitted: FittedImages, tmp_path: Path, after: int
) -> None:
    undisturbed = train(LONGER, fitted, fitted, CLASSES)
    process = multiprocessing.get_context("spawn").Process(
        target=_train_and_be_killed, args=(tmp_path, after)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    resumed = train(LONGER, fitted, fitted, CLASSES, checkpoint=Checkpoint(tmp_path, "this"))
    assert resumed.record["resumed_after_step"] == after // 10 * 10
    assert _same(resumed, undisturbed)


@pytest.mark.parametrize("step", [1, 17, 41])
def test_a_training_that_is_asked_to_stop_goes_on_to_the_same_weights(
    fitted: FittedImages, tmp_path: Path, step: int
) -> None:
    asked = iter(range(1, 1000))
    checkpoint = Checkpoint(tmp_path, "this")
    with pytest.raises(TrainingStopped, match=f"after step {step} of 80"):
        train(
            LONGER,
            fitted,
            fitted,
            CLASSES,
            checkpoint=checkpoint,
            stop=lambda: next(asked) >= step,
        )
    resumed = train(LONGER, fitted, fitted, CLASSES, checkpoint=checkpoint)
    assert resumed.record["resumed_after_step"] == step
    assert _same(resumed, train(LONGER, fitted, fitted, CLASSES))


def test_the_state_of_another_training_is_not_taken_up(
    fitted: FittedImages, tmp_path: Path
) -> None:
    train(SMALL, fitted, fitted, CLASSES, checkpoint=Checkpoint(tmp_path, "that", minutes=0))
    assert (tmp_path / "checkpoint.pt").exists()
    result = train(SMALL, fitted, fitted, CLASSES, checkpoint=Checkpoint(tmp_path, "this"))
    assert result.record["resumed_after_step"] == 0


def test_a_damaged_checkpoint_is_no_hindrance(fitted: FittedImages, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, "this", minutes=0)
    first = train(SMALL, fitted, fitted, CLASSES, checkpoint=checkpoint)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:1000])
    assert _same(train(SMALL, fitted, fitted, CLASSES, checkpoint=checkpoint), first)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk to write to")
def test_a_full_disk_costs_the_checkpoint_not_the_training(
    fitted: FittedImages, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.partial").symlink_to("/dev/full")
    checkpoint = Checkpoint(tmp_path, "this", minutes=0)
    assert len(train(SMALL, fitted, fitted, CLASSES, checkpoint=checkpoint).history) == POINTS


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A step at which the input is no number."""
    from defect_assets.training.batches import Batches

    sound = Batches.__getitem__

    def at_step(self: Batches, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, masks = sound(self, step)
        return (inputs * float("nan"), masks) if step == 13 else (inputs, masks)

    monkeypatch.setattr(Batches, "__getitem__", at_step)
    return 13


def test_a_loss_that_is_no_number_stops_the_training_and_its_batch_is_kept(
    fitted: FittedImages, tmp_path: Path, broken: int
) -> None:
    checkpoint = Checkpoint(tmp_path, "this", minutes=0)
    with pytest.raises(
        TrainingDiverged, match=r"at step 13: lower optimizer\.learning_rate .* is kept in "
    ):
        train(SMALL, fitted, fitted, CLASSES, checkpoint=checkpoint)
    kept = np.load(tmp_path / f"diverged-at-step-{broken}.npz")
    assert np.isnan(kept["inputs"]).all()
    assert set(kept["samples"]) <= set(fitted.samples)
    assert kept["masks"].shape == (4, 64, 64)
    assert checkpoint.load() is None


@pytest.mark.slow
def test_two_processes_train_together_as_one_does(fitted: FittedImages) -> None:
    told: list[Progress] = []
    alone, together = (
        train(SMALL, fitted, fitted, CLASSES, Hardware(accelerator="cpu", devices=n), report=hear)
        for n, hear in [(1, lambda _: None), (2, told.append)]
    )
    assert (alone.record["processes"], together.record["processes"]) == (1, 2)
    assert told[-1].history == together.history
    assert together.history[-1].step == SMALL.steps
    # They draw the same images, but each changes its share in its own way.
    losses = [[point.loss for point in result.history] for result in (alone, together)]
    assert losses[1] == pytest.approx(losses[0], abs=0.4)
    assert np.mean(losses[1][-5:]) < np.mean(losses[1][:5])


def test_a_bundle_is_all_that_a_detector_needs(
    fitted: FittedImages,
    images: list[LabelledImage],
    description: DatasetDescription,
    tmp_path: Path,
) -> None:
    result = train(SMALL, fitted, fitted, CLASSES)
    files = make_bundle(result, SMALL, description.class_map, images, SIZES)
    assert set(files) == {WEIGHTS, SPEC, HISTORY}
    spec = BundleSpec.model_validate_json(files[SPEC])
    assert spec.class_map == description.class_map
    assert spec.postprocessing.review_threshold <= spec.postprocessing.threshold
    assert spec.postprocessing.goal == SMALL.threshold_goal
    eager = SMALL.model_copy(update={"min_recall": 0.01})
    for_recall = BundleSpec.model_validate_json(
        make_bundle(result, eager, description.class_map, images, SIZES)[SPEC]
    ).postprocessing
    assert for_recall.goal == ThresholdGoal(min_recall=0.01)
    assert for_recall.threshold != spec.postprocessing.threshold
    assert json.loads(files[HISTORY])[-1]["step"] == SMALL.steps
    write_tree(files, tmp_path)
    loaded = Detector.load(tmp_path).analyze(images[0].image)
    direct = Detector(TorchRuntime(result.network, spec.flips), spec).analyze(images[0].image)
    assert (loaded.probability == direct.probability).all()
    assert loaded.defects == direct.defects


def test_a_class_without_images_is_no_hindrance(images: list[LabelledImage]) -> None:
    free = [i for i in images if not i.mask.any()]
    only_free = fit_images(free, SMALL.input, known_description("synthetic-tiles").class_ids)
    assert len(train(SMALL, only_free, only_free, CLASSES).history) == POINTS
