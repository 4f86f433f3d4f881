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
    binary_precision,
    binary_recall,
    multiclass_f1_score,
    multiclass_jaccard_index,
    multiclass_precision,
    multiclass_recall,
)

from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.counts import count_image
from defect_assets.evaluation.metrics import summarize
from defect_assets.evaluation.overlap import dice, iou
from defect_assets.evaluation.regions import regions
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
        found_regions = regions(truth, prediction, analysis.probability, len(NAMES))
        rows.append(count_image(label, analysis, NAMES, found_regions))
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
        assert metrics.recall == pytest.approx(float(binary_recall(prediction > 0, truth > 0)))
        # Where nothing was found, torchmetrics says 0 and we say nothing.
        precision = float(binary_precision(prediction > 0, truth > 0))
        assert (metrics.precision or 0) == pytest.approx(precision)
    references = {
        "dice": multiclass_f1_score,
        "iou": multiclass_jaccard_index,
        "precision": multiclass_precision,
        "recall": multiclass_recall,
    }
    for score, reference in references.items():
        per_class = reference(prediction.long(), truth.long(), 3, average=None)
        for class_id, name in NAMES.items():
            if (truth == class_id).any():
                ours = getattr(metrics.classes[name], score) or 0
                assert ours == pytest.approx(float(per_class[class_id])), score


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
    assert metrics.region_recall is None
    assert metrics.region_f1 is None
    assert metrics.part_escapes is None
    assert (metrics.false_alarms, metrics.part_false_alarms) == (0.0, 0.0)


def test_a_part_passes_only_if_all_its_images_do() -> None:
    blank, crack = np.zeros((5, 6), np.uint8), np.ones((5, 6), np.uint8)
    table = _table(
        [
            *[(crack, blank), (crack, blank)],  # g0 escapes
            *[(crack, blank), (crack, crack)],  # g1 is caught by its second image
            *[(crack, blank), (crack, blank)],  # g2 is looked at, as its second one is uncertain
            *[(blank, crack), (blank, crack)],  # g3 is one false alarm, not two
            *[(blank, blank), (blank, blank)],
        ]
    )
    table.loc[5, "verdict"] = "uncertain"
    metrics = summarize(table, NAMES.values())
    assert (metrics.groups, metrics.defective_parts) == (5, 3)
    assert metrics.part_escapes == pytest.approx(1 / 3)
    assert metrics.escapes == pytest.approx(4 / 6)
    assert metrics.part_false_alarms == pytest.approx(1 / 2)
    assert metrics.escapes_per_1000 == pytest.approx(200)
    assert metrics.false_alarms_per_1000 == pytest.approx(200)


@given(pairs)
def test_to_swap_truth_and_prediction_swaps_precision_and_recall(
    found: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    there = summarize(_table(found), NAMES.values())
    back = summarize(_table([(b, a) for a, b in found]), NAMES.values())
    if there.dice is not None and back.dice is not None:
        assert (there.precision, there.recall) == (back.recall, back.precision)
        assert there.region_recall == back.region_precision
        assert there.region_f1 == pytest.approx(back.region_f1)
    for name in NAMES.values():
        ours, theirs = there.classes[name], back.classes[name]
        if ours.dice is not None and theirs.dice is not None:
            assert ours.region_recall == theirs.region_precision
