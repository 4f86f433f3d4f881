from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.training.config import DefectKind
from defect_assets.training.painting import paint

KINDS = get_args(DefectKind)


@given(
    st.sampled_from(KINDS),
    st.integers(0, 10_000),
    st.sampled_from([(64, 64), (96, 160), (160, 32)]),
    st.sampled_from([1, 3]),
)
def test_what_is_painted_is_in_the_mask(
    kind: DefectKind, seed: int, size: tuple[int, int], channels: int
) -> None:
    image = np.full((*size, channels), 120, np.uint8)
    painted, mask = paint(image, kind, 3, np.random.default_rng(seed))
    assert painted.shape == image.shape
    assert painted.dtype == mask.dtype == np.uint8
    assert mask.shape == size
    assert set(np.unique(mask)) <= {0, 3}
    if not mask.any():
        return
    change = np.abs(painted.astype(int) - image).mean(axis=2)
    assert change[mask > 0].mean() > change[mask == 0].mean()


@pytest.mark.parametrize("kind", KINDS)
def test_each_draw_is_another_defect_and_the_same_draw_the_same(kind: DefectKind) -> None:
    image = np.random.default_rng(0).integers(90, 110, (128, 128, 1), np.uint8)
    masks = [paint(image, kind, 1, np.random.default_rng(seed))[1] for seed in range(50)]
    assert len({mask.tobytes() for mask in masks if mask.any()}) > 40
    again = paint(image, kind, 1, np.random.default_rng(7))
    assert (paint(image, kind, 1, np.random.default_rng(7))[0] == again[0]).all()
    areas = np.array([(mask > 0).mean() for mask in masks])
    small = {"hole": (0.0, 0.05), "crack": (0.0, 0.08)}
    low, high = small.get(kind, (0.001, 0.6))
    assert low <= np.median(areas) <= high
