from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.inference.preprocessing import Preprocessing
from defect_assets.training.augmentation import Augmenter
from defect_assets.training.config import Augmentation, Sampling
from defect_assets.training.data import FittedImages, batches, fit_mask, prefetch


def _data(classes: list[int]) -> FittedImages:
    n = len(classes)
    return FittedImages(
        np.zeros((n, 32, 32, 1), np.uint8), np.zeros((n, 32, 32), np.uint8), np.array(classes)
    )


def test_a_thin_crack_is_not_torn() -> None:
    mask = np.zeros((320, 320), np.uint8)
    mask[:, 100:105] = 3
    fitted = fit_mask(mask, Preprocessing(height=64, width=64))
    assert (fitted == 3).any(axis=1).all()
    assert set(np.unique(fitted)) == {0, 3}


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 10))
def test_steps_draw_from_the_data_alone_and_repeatably(classes: list[int], seed: int) -> None:
    data, sampling = _data(classes), Sampling(batch_size=8)
    first = np.stack(list(islice(batches(data, sampling, seed), 5)))
    assert (first >= 0).all()
    assert (first < len(classes)).all()
    assert (first == np.stack(list(islice(batches(data, sampling, seed), 5)))).all()


def test_classes_are_drawn_alike_and_defect_free_images_have_their_share() -> None:
    data = _data([0] * 500 + [1] * 100 + [2] * 5)
    sampling = Sampling(batch_size=100, defect_free=0.4)
    drawn = data.classes[np.concatenate(list(islice(batches(data, sampling, 0), 50)))]
    shares = np.bincount(drawn) / len(drawn)
    assert np.allclose(shares, [0.4, 0.3, 0.3], atol=0.03)


def test_masks_move_with_their_images() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (4, 32, 32, 1), np.uint8)
    masks = (images[..., 0] > 127).astype(np.uint8)
    only_flips = Augmentation(flips=True, brightness=0, contrast=0)
    changed, moved = Augmenter(only_flips, seed=1)(images, masks)
    assert (moved == (changed[..., 0] > 127)).all()
    assert (changed != images).any()


def test_the_same_seed_gives_the_same_changes() -> None:
    images = np.full((6, 32, 32, 1), 100, np.uint8)
    masks = np.zeros((6, 32, 32), np.uint8)
    strong = Augmentation(rotation=20, scale=0.2, noise=0.1)
    one, two, other = (Augmenter(strong, seed)(images, masks)[0] for seed in (0, 0, 1))
    assert (one == two).all()
    assert (one != other).any()


def test_prefetching_keeps_the_order() -> None:
    numbers = iter(range(1000))
    stream = prefetch(lambda: next(numbers))
    assert list(islice(stream, 50)) == list(range(50))
    stream.close()
