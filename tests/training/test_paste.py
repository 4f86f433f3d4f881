import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.training.paste import paste

SIDE = 64


def _donor(
    exposure: float, corner: bool = False, channels: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return a tile with a square hole of half its brightness."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    place = np.s_[0:20, 0:20] if corner else np.s_[22:42, 22:42]
    mask[place] = 2
    image = np.where(mask > 0, exposure / 2, exposure)
    return np.repeat(image[..., None], channels, axis=2).astype(np.uint8), mask


@given(st.integers(0, 1000), st.sampled_from([1, 3]), st.booleans())
def test_only_the_mask_and_its_rim_change(seed: int, channels: int, corner: bool) -> None:
    donor, donor_mask = _donor(200, corner, channels)
    image = np.full((SIDE, SIDE, channels), 90, np.uint8)
    pasted, mask = paste(image, donor, donor_mask, np.random.default_rng(seed))
    assert pasted.shape == image.shape
    assert pasted.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 2}
    changed = (np.abs(pasted.astype(int) - image) > 3).any(axis=2)
    near = np.zeros_like(changed)
    for y, x in zip(*np.nonzero(mask), strict=True):
        near[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5] = True
    assert not (changed & ~near).any()


@pytest.mark.parametrize("exposure", [60.0, 120.0, 240.0])
def test_a_defect_takes_on_the_exposure_of_where_it_is_pasted(exposure: float) -> None:
    donor, donor_mask = _donor(exposure)
    image = np.full((SIDE, SIDE, 1), 100, np.uint8)
    pasted, mask = paste(image, donor, donor_mask, np.random.default_rng(0))
    inside = pasted[..., 0][mask > 0].astype(float)
    assert 25 < np.median(inside) < 75  # half of it, by 0.7 to 1.3 on the logarithm


def test_a_defect_at_the_rim_stays_at_the_rim() -> None:
    donor, donor_mask = _donor(200, corner=True)
    image = np.full((SIDE, SIDE, 1), 90, np.uint8)
    for seed in range(20):
        _, mask = paste(image, donor, donor_mask, np.random.default_rng(seed))
        assert mask[[0, -1]].any() or mask[:, [0, -1]].any()


def test_an_image_that_is_all_defect_gives_nothing() -> None:
    image = np.full((SIDE, SIDE, 1), 90, np.uint8)
    everything = np.ones((SIDE, SIDE), np.uint8)
    pasted, mask = paste(image, image // 2, everything, np.random.default_rng(0))
    assert (pasted == image).all()
    assert not mask.any()
