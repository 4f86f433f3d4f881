from collections import Counter

import numpy as np
import pytest

from defect_assets.training.augmentation import Augmenter, build_transform

STRONG = (
    {"Affine": {"rotate": [-20, 20], "scale": [0.8, 1.2], "p": 0.9}},
    {"RandomGamma": {"gamma_limit": [60, 160]}},
    {"GaussNoise": {"std_range": [0.0, 0.1]}},
)


def test_masks_move_with_their_images() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (8, 32, 32, 1), np.uint8)
    masks = (images[..., 0] > 127).astype(np.uint8)
    changed, moved = Augmenter([{"HorizontalFlip": {"p": 0.5}}])(images, masks, seed=1)
    assert (moved == (changed[..., 0] > 127)).all()
    assert (changed != images).any()


def test_the_same_seed_gives_the_same_changes_whatever_came_before() -> None:
    images = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 1), np.uint8)
    masks = np.zeros((6, 32, 32), np.uint8)
    one, other = Augmenter(STRONG), Augmenter(STRONG)
    other(images, masks, 5)
    assert (one(images, masks, 0)[0] == other(images, masks, 0)[0]).all()
    assert (one(images, masks, 0)[0] != one(images, masks, 1)[0]).any()


def test_transforms_draw_independently() -> None:
    images = np.zeros((8, 8, 8, 1), np.uint8)
    masks = np.zeros((8, 8, 8), np.uint8)
    masks[:, 0, 0] = 1
    augment = Augmenter([{"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}])
    corners = Counter(
        (int(y), int(x))
        for seed in range(100)
        for mask in augment(images, masks, seed)[1]
        for y, x in np.argwhere(mask)
    )
    assert set(corners) == {(0, 0), (0, 7), (7, 0), (7, 7)}
    assert all(150 < count < 250 for count in corners.values())


def test_crops_that_keep_the_defect() -> None:
    images = np.full((4, 64, 64, 1), 100, np.uint8)
    masks = np.zeros((4, 64, 64), np.uint8)
    masks[:, 50:54, 10:14] = 2
    crop = {"CropNonEmptyMaskIfExists": {"height": 32, "width": 32}}
    augment = Augmenter([crop, {"Resize": {"height": 64, "width": 64}}])
    changed, moved = augment(images, masks, seed=3)
    assert changed.shape == images.shape
    assert (moved == 2).any(axis=(1, 2)).all()


@pytest.mark.parametrize(
    ("transform", "says"),
    [
        ({"Flip180": {}}, "no transform Flip180"),
        ({"os": {}}, "no transform os"),
        ({"Affine": {"rotat": 3}}, "Affine: .*rotat"),
        ({"GaussNoise": {"std_range": [0, 7]}}, "GaussNoise: .*"),
        ({"Affine": {}, "Blur": {}}, "one name"),
        ({}, "one name"),
    ],
)
def test_what_albumentations_does_not_know_is_refused(transform: dict, says: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){says}"):
        build_transform(transform)
