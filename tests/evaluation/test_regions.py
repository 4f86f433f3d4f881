"""Regions against scipy's labels, one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from defect_assets.evaluation.overlap import FOUND
from defect_assets.evaluation.regions import regions

masks = arrays(np.uint8, (7, 8), elements=st.sampled_from([0, 0, 1, 2]))


@given(masks, masks, st.integers(0, 100))
def test_each_region_is_held_against_the_other_side(
    truth: np.ndarray, prediction: np.ndarray, seed: int
) -> None:
    probability = np.random.default_rng(seed).random(truth.shape, np.float32)
    found = regions(truth, prediction, probability, 2)
    expected = []
    for side, mask, other in (("truth", truth, prediction), ("prediction", prediction, truth)):
        for class_id in (1, 2):
            labels, count = ndimage.label(mask == class_id, np.ones((3, 3)))
            for label in range(1, count + 1):
                inside = labels == label
                expected.append(
                    (
                        side,
                        class_id,
                        int(inside.sum()),
                        pytest.approx((other[inside] > 0).mean()),
                        pytest.approx((other[inside] == class_id).mean()),
                        pytest.approx(probability[inside].mean(), abs=1e-6),
                        bool((other[inside] > 0).mean() >= FOUND),
                    )
                )
    ours = [
        (r.side, r.class_id, r.area_px, r.covered, r.covered_by_class, r.confidence, r.matched)
        for r in found
    ]
    assert len(ours) == len(expected)
    for row in expected:
        ours.remove(row)


def test_the_class_that_the_other_side_sees() -> None:
    truth, prediction = np.zeros((2, 10, 10), np.uint8)
    truth[:4, :4] = 1
    truth[8:, 8:] = 2
    prediction[:4, :3] = 2
    prediction[:4, 3] = 1
    by_class = {
        r.class_id: r for r in regions(truth, prediction, truth * 0.5, 2) if r.side == "truth"
    }
    assert by_class[1].other == 2
    assert by_class[1].matched_by_class
    assert by_class[2].other == 0
    assert not by_class[2].matched
