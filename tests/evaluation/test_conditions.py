import numpy as np
import pandas as pd
import pytest

from defect_assets.evaluation.bootstrap import intervals
from defect_assets.evaluation.conditions import by_condition, by_size
from defect_assets.evaluation.metrics import summarize
from tests.evaluation.test_bootstrap import CLASSES, make_table


def test_a_slice_has_the_scores_of_its_images_alone() -> None:
    table = make_table(0, groups=24)
    slices = by_condition(table, 200)
    assert [s.condition for s in slices] == ["exposure"] * 3 + ["batch"] * 2 + ["brightness"] * 4
    for condition in ("exposure", "batch"):
        for found in (s for s in slices if s.condition == condition):
            images = table[table[condition] == found.value]
            metrics = summarize(images, CLASSES)
            assert (found.images, found.groups) == (metrics.images, metrics.groups)
            for name, score in found.scores.items():
                assert score == pytest.approx(getattr(metrics, name)), name
            expected = intervals(images, CLASSES, 200)
            assert found.intervals["dice"] == pytest.approx(expected["dice"])
    quarters = [s.images for s in slices if s.condition == "brightness"]
    assert sum(quarters) == len(table)
    assert max(quarters) - min(quarters) <= 1


def test_what_is_the_same_for_all_is_no_condition() -> None:
    table = make_table(0, groups=6).assign(exposure="", batch="first", brightness=100.0)
    assert by_condition(table, 50) == ()


def _regions(rows: list[tuple[str, str, int, bool]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["group", "side", "area_px", "matched"])


def test_small_defects_are_told_from_large_ones() -> None:
    rng = np.random.default_rng(0)
    rows = [
        (f"g{n % 10}", "truth", area, bool(area > 200 or n % 2))
        for n, area in enumerate(rng.permutation(np.arange(1, 401)).tolist())
    ]
    rows += [("g3", "prediction", 50, False), ("g3", "prediction", 350, True)]
    rows += [("g4", "prediction", 10_000, False)]  # larger than any defect
    groups = [f"g{n}" for n in range(10)]
    small, less, more, large = by_size(_regions(rows), groups, 500)
    assert [(b.from_px, b.to_px) for b in (small, less, more, large)] == [
        (1, 100),
        (101, 200),
        (201, 300),
        (301, 400),
    ]
    assert small.regions == large.regions == 100
    assert small.recall < 0.7
    assert large.recall == 1
    low, high = small.intervals["recall"]
    assert low < small.recall < high
    assert "recall" not in large.intervals  # none was missed: resampling says nothing
    assert (small.detections, small.precision) == (1, 0)
    assert (less.detections, less.precision) == (0, None)
    assert (large.detections, large.precision) == (1, 1)


def test_defects_of_one_size_are_one_bin() -> None:
    [only] = by_size(_regions([("g0", "truth", 7, True), ("g1", "truth", 7, False)]), ["g0", "g1"])
    assert (only.from_px, only.to_px, only.recall) == (1, 7, 0.5)
    assert by_size(_regions([("g0", "prediction", 7, False)]), ["g0"]) == ()
