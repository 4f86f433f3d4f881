"""Metrics against independent references, and their laws."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchmetrics.functional.classification import (
    binary_f1_score,
    binary_jaccard_index,
    multiclass_f1_score,
)

from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.metrics import count_image, summarize
from defect_assets.evaluation.overlap import dice, iou
from defect_assets.evaluation.thresholds import best_threshold
from defect_assets.inference.postprocessing import Analysis

NAMES = {1: "Crack", 2: "Fray"}
masks = arrays(np.uint8, (5, 6), elements=st.integers(0, 2))
pairs = st.lists(st.tuples(masks, masks), min_size=1, max_size=5)


def _table(found: list[tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    rows = []
    for i, (truth, prediction) in enumerate(found):
        name = NAMES.get(int(truth.max()), "Free")
        label = LabelledImage(f"s{i}", name, f"g{i // 2}", "exp1", truth, truth)
        verdict = "ng" if prediction.any() else "ok"
        analysis = Analysis(verdict, [], prediction, (prediction > 0).astype(np.float32))
        rows.append(count_image(label, analysis, NAMES))
    return pd.DataFrame(rows)


@given(pairs)
def test_pooled_scores_agree_with_torchmetrics(
    found: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    truth, prediction = (torch.tensor(np.stack([p[i] for p in found])) for i in (0, 1))
    metrics = summarize(_table(found), NAMES.values())
    if (truth > 0).any():
        assert metrics.dice == pytest.approx(float(binary_f1_score(prediction > 0, truth > 0)))
        assert metrics.iou == pytest.approx(float(binary_jaccard_index(prediction > 0, truth > 0)))
    per_class = multiclass_f1_score(prediction.long(), truth.long(), 3, average=None)
    for class_id, name in NAMES.items():
        if (truth == class_id).any():
            assert metrics.classes[name].dice == pytest.approx(float(per_class[class_id]))


@given(pairs)
def test_dice_is_symmetric_and_bounded(found: list[tuple[np.ndarray, np.ndarray]]) -> None:
    there = summarize(_table(found), NAMES.values())
    back = summarize(_table([(b, a) for a, b in found]), NAMES.values())
    if there.dice is not None and there.iou is not None:
        assert 0 <= there.iou <= there.dice <= 1
        if back.dice is not None:
            assert there.dice == pytest.approx(back.dice)


@given(pairs)
def test_to_swap_classes_in_both_swaps_their_scores(
    found: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    swap = np.array([0, 2, 1], np.uint8)
    metrics = summarize(_table(found), NAMES.values())
    swapped = summarize(_table([(swap[a], swap[b]) for a, b in found]), NAMES.values())
    assert swapped.dice == pytest.approx(metrics.dice)
    assert swapped.classes["Crack"] == metrics.classes["Fray"]


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_dice_and_iou_say_the_same(tp: int, fp: int, fn: int) -> None:
    d, j = dice(tp, fp, fn), iou(tp, fp, fn)
    assert d == pytest.approx(2 * j / (1 + j))


def test_images_and_parts_are_counted() -> None:
    blank, crack = np.zeros((5, 6), np.uint8), np.ones((5, 6), np.uint8)
    metrics = summarize(
        _table([(blank, blank), (blank, crack), (crack, crack), (crack, blank)]), NAMES.values()
    )
    assert (metrics.images, metrics.groups) == (4, 2)
    assert (metrics.false_alarms, metrics.escapes) == (0.5, 0.5)
    assert metrics.image_auroc == 0.5
    assert (metrics.classes["Crack"].images, metrics.classes["Crack"].groups) == (2, 1)
    assert metrics.classes["Fray"].images == 0
    assert metrics.macro_dice == metrics.classes["Crack"].dice


def test_where_there_is_nothing_to_find_nothing_is_claimed() -> None:
    blank = np.zeros((5, 6), np.uint8)
    metrics = summarize(_table([(blank, blank)]), NAMES.values())
    assert metrics.dice is None
    assert metrics.macro_dice is None
    assert metrics.classes["Crack"].dice is None
    assert metrics.image_auroc is None
    assert metrics.escapes is None
    assert metrics.false_alarms == 0.0


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
