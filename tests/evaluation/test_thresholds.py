"""The threshold serves its goal on the images that it was chosen on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from defect_assets.evaluation.overlap import FOUND, dice
from defect_assets.evaluation.thresholds import (
    best_threshold,
    choose_threshold,
    threshold_for_recall,
)
from defect_assets.inference.postprocessing import ThresholdGoal


@given(
    st.lists(
        st.tuples(
            arrays(np.float32, (4, 4), elements=st.floats(0, 1, width=32)),
            arrays(np.bool_, (4, 4)),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_no_threshold_on_the_grid_is_better_than_the_chosen_one(
    pairs: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    probability = np.concatenate([p.ravel() for p, _ in pairs])
    truth = np.concatenate([t.ravel() for _, t in pairs])

    def score(threshold: float) -> float:
        # The same rounding as a histogram of 200 bins makes.
        found = np.floor(probability * 200).clip(0, 199) >= round(threshold * 200)
        return dice(
            int((found & truth).sum()), int((found & ~truth).sum()), int((~found & truth).sum())
        )

    chosen = best_threshold(pairs)
    assert 0.05 <= chosen <= 0.95
    if truth.any():
        best = max(score(i / 200) for i in range(10, 191))
        assert score(chosen) == pytest.approx(best)
    else:
        assert chosen == 0.5


def test_of_equally_good_thresholds_the_middle_one_is_chosen() -> None:
    probability = np.array([[0.1, 0.9]], np.float32)
    assert best_threshold([(probability, probability > 0.5)]) == pytest.approx(0.5, abs=0.02)


def test_a_threshold_with_few_false_alarms() -> None:
    truth = np.zeros((10, 10), bool)
    truth[:3] = True
    found = np.where(truth, 0.6, 0.1)
    free = np.zeros((10, 10), bool)
    noisy = [np.full((10, 10), 0.1) for _ in range(10)]
    for i, image in enumerate(noisy):
        image.flat[: 5 * i] = 0.35 + 0.05 * i
    pairs = [(found, truth), *((image, free) for image in noisy)]
    assert best_threshold(pairs) > 0.5
    weak = [(np.where(truth, 0.45, 0.1), truth), *pairs[1:]]
    assert best_threshold(weak) <= 0.45
    for allowed in (0.0, 0.2, 0.5):
        threshold = best_threshold(weak, min_area_px=4, max_false_alarms=allowed)
        assert sum((image >= threshold).sum() >= 4 for image in noisy) <= 10 * allowed
    # Alarms of fewer pixels than make a defect are none.
    assert best_threshold(weak, min_area_px=50, max_false_alarms=0) <= 0.45


def _recall(pairs: list[tuple[np.ndarray, np.ndarray]], threshold: float) -> float:
    shares = []
    for probability, truth in pairs:
        labels, count = ndimage.label(truth, np.ones((3, 3)))
        found = probability >= np.float32(threshold)
        shares += [found[labels == label].mean() for label in range(1, count + 1)]
    return float(np.mean(np.array(shares) >= FOUND))


@given(
    st.lists(
        st.tuples(
            # Between the thresholds, so that no rounding decides.
            arrays(np.int64, (8, 8), elements=st.integers(0, 49)).map(
                lambda steps: ((4 * steps + 0.5) / 200).astype(np.float32)
            ),
            arrays(np.bool_, (8, 8)),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([0.3, 0.5, 0.9, 1.0]),
)
def test_no_higher_threshold_finds_enough_defects(
    pairs: list[tuple[np.ndarray, np.ndarray]], recall: float
) -> None:
    chosen = threshold_for_recall(pairs, recall)
    assert 0.05 <= chosen <= 0.95
    if not any(truth.any() for _, truth in pairs):
        assert chosen == 0.5
        return
    if _recall(pairs, 0.05) >= recall:
        assert _recall(pairs, chosen) >= recall
    else:
        assert chosen == 0.05
    if chosen < 0.95:
        assert _recall(pairs, chosen + 0.005) < recall


def test_what_is_too_small_to_be_reported_is_not_found() -> None:
    truth = np.zeros((20, 20), bool)
    truth[:10, :10] = True
    probability = np.where(truth, 0.3, 0.0).astype(np.float32)
    probability[:5, :3] = 0.8  # 15 of 100 pixels
    assert threshold_for_recall([(probability, truth)], 1, min_area_px=15) > 0.7
    assert threshold_for_recall([(probability, truth)], 1, min_area_px=16) <= 0.3


def test_the_goal_decides() -> None:
    truth = np.zeros((10, 20), bool)
    truth[:, :10] = True
    probability = np.where(truth, 0.2, 0.1).astype(np.float32)
    probability[:, :2] = 0.9
    pairs = [(probability, truth)]
    assert choose_threshold(pairs, ThresholdGoal()) == best_threshold(pairs) < 0.2
    assert choose_threshold(pairs, ThresholdGoal(min_recall=1)) > 0.85
    assert str(ThresholdGoal(min_recall=0.95)).endswith("at least 95% of the defects found")
    assert str(ThresholdGoal(max_false_alarms=0.05)).endswith("at most 5% false alarms")
    assert str(ThresholdGoal()) == "the highest Dice"
