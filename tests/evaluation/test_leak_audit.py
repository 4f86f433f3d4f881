"""What a random split flatters, put in figures."""

import pytest

from defect_assets.evaluation.leak_audit import audit_leak
from tests.evaluation.test_bootstrap import CLASSES, make_table


def test_optimism_is_the_leaky_score_minus_the_honest_one() -> None:
    honest, leaky = make_table(1, groups=30), make_table(2, groups=40)
    leaky["fn_*"] //= 10
    audit = audit_leak("DS-1.0.0", "C-01", ("a", 0.0, honest), ("b", 0.9, leaky), CLASSES)
    difference, bounds = audit.optimism["dice"]
    assert audit.by_part.test.dice is not None
    assert audit.by_image.test.dice is not None
    assert difference == pytest.approx(audit.by_image.test.dice - audit.by_part.test.dice)
    assert audit.points_of_dice == pytest.approx(100 * difference)
    assert bounds is not None
    assert bounds[0] < difference < bounds[1]
    assert bounds[0] > 0
    assert audit.verdict == (
        f"A random split flatters this model by {100 * difference:.1f} points of Dice."
    )
    low, high = audit.by_part.intervals["dice"]
    assert low < audit.by_part.test.dice < high


def test_the_same_images_under_both_splits_flatter_nothing() -> None:
    table = make_table(3, groups=30)
    audit = audit_leak("DS-1.0.0", "C-01", ("a", 0.0, table), ("a", 0.0, table), CLASSES)
    for difference, bounds in audit.optimism.values():
        assert difference == 0
        assert bounds is not None
        assert bounds[0] < 0 < bounds[1]
    assert audit.verdict.startswith("Too few parts to show")
    assert "+0.0 points of Dice, between -" in audit.verdict


def test_what_cannot_be_measured_is_left_out() -> None:
    table = make_table(4, groups=9)
    free = table[table["tp_*"] + table["fn_*"] == 0]
    audit = audit_leak("DS-1.0.0", "C-01", ("a", 0.0, free), ("b", 0.9, table), CLASSES)
    assert audit.points_of_dice is None
    assert audit.verdict == ""
    assert set(audit.optimism) == {"false_alarms"}
