"""Paired differences against the plain way, and what they amount to."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.evaluation.bootstrap import intervals
from defect_assets.evaluation.comparison import (
    LOWER_IS_BETTER,
    MIN_PARTS,
    Comparison,
    Verdict,
    compare_tables,
    verdict,
)
from defect_assets.evaluation.counts import ANY
from defect_assets.evaluation.metrics import summarize
from tests.evaluation.test_bootstrap import CLASSES, make_table

SCORES = ["dice", "macro_dice", "region_recall", "image_auroc", "false_alarms", "escapes"]


def _compare(before: pd.DataFrame, after: pd.DataFrame, resamples: int = 500) -> Comparison:
    return compare_tables(before, after, CLASSES, resamples=resamples)


def _worse(table: pd.DataFrame, samples: pd.Series, share: float = 0.5) -> pd.DataFrame:
    """Return what a model finds that misses a share of the defects of some samples."""
    found = table.copy()
    for name in [ANY, *CLASSES]:
        lost = (found[f"tp_{name}"] * share).astype(int).where(samples, 0)
        found[f"tp_{name}"] -= lost
        found[f"fn_{name}"] += lost
    return found


@given(st.integers(0, 500), st.integers(2, 15))
def test_a_model_is_not_better_than_itself(seed: int, groups: int) -> None:
    table = make_table(seed, groups)
    compared = _compare(table, table.sample(frac=1, random_state=seed), 200)
    assert (compared.images, compared.parts, compared.left_out) == (len(table), groups, {})
    for score in compared.scores.values():
        assert score.verdict is Verdict.NO_EVIDENCE
        assert score.parts == 0
        assert score.difference in (None, 0)


@given(st.integers(0, 500), st.integers(3, 15))
def test_the_other_way_round_is_the_opposite(seed: int, groups: int) -> None:
    one, other = make_table(seed, groups), make_table(seed + 1, groups)
    forth, back = _compare(one, other, 300).scores, _compare(other, one, 300).scores
    assert forth.keys() == back.keys()
    for name, score in forth.items():
        if score.difference is None or score.interval is None:
            continue
        assert back[name].difference == pytest.approx(-score.difference)
        low, high = back[name].interval or (0, 0)
        assert (-high, -low) == pytest.approx(score.interval)


def test_scores_are_those_of_the_common_images() -> None:
    one, other = make_table(0, 12), _worse(make_table(0, 12), pd.Series(True, range(36)))
    common = set(one["sample"][6:30])
    compared = _compare(one[:30], other[6:])
    assert compared.images == len(common)
    assert compared.left_out == {
        "only the first was tested on": 6,
        "only the second was tested on": 6,
    }
    for table, side in ((one, "before"), (other, "after")):
        metrics = summarize(table[table["sample"].isin(common)], CLASSES)
        for name in SCORES:
            assert getattr(compared.scores[name], side) == pytest.approx(getattr(metrics, name))


def test_differences_are_resampled_with_the_same_draws() -> None:
    one, other = make_table(0, 12), make_table(1, 12)
    found = _compare(one, other, 100).scores["dice"]
    names = sorted(one["group"].unique())
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), 100)
    plain = []
    for drawn in weights:
        pair = [
            summarize(
                pd.concat(
                    [
                        t[t["group"] == name]
                        for name, times in zip(names, drawn, strict=True)
                        for _ in range(times)
                    ]
                ),
                CLASSES,
            ).dice
            for t in (one, other)
        ]
        if None not in pair:
            plain.append(pair[1] - pair[0])  # type: ignore[operator]
    assert found.interval == pytest.approx(tuple(np.percentile(plain, [2.5, 97.5])))


def test_a_pair_tells_what_two_intervals_do_not() -> None:
    """Each part a little worse: the scores' intervals overlap, the difference's excludes zero."""
    table = make_table(0, 60)
    worse = _worse(table, pd.Series(True, table.index), 0.05)
    own = [intervals(t, CLASSES, 500)["dice"] for t in (table, worse)]
    assert own[1][1] > own[0][0]
    scores = _compare(table, worse).scores
    assert scores["dice"].verdict is Verdict.WORSE
    assert _compare(worse, table).scores["dice"].verdict is Verdict.BETTER
    assert scores["false_alarms"].verdict is Verdict.NO_EVIDENCE


def test_few_parts_are_no_evidence_however_large_the_difference() -> None:
    table = make_table(0, 60)
    defective = table["regions"] > 0
    names = sorted(table.loc[defective, "group"].unique())
    for count, expected in [(MIN_PARTS - 1, Verdict.NO_EVIDENCE), (MIN_PARTS, Verdict.WORSE)]:
        worse = _worse(table, table["group"].isin(names[:count]), 1.0)
        found = _compare(table, worse).scores["dice"]
        assert found.parts == count
        assert found.verdict is expected


@pytest.mark.parametrize("score", ["dice", "dice Crack", "image_auroc", *sorted(LOWER_IS_BETTER)])
def test_of_some_scores_less_is_better(score: str) -> None:
    rose, fell = verdict(score, (0.1, 0.2), 20), verdict(score, (-0.2, -0.1), 20)
    expected = (Verdict.BETTER, Verdict.WORSE)
    assert (fell, rose) == expected if score in LOWER_IS_BETTER else (rose, fell) == expected
    assert verdict(score, (-0.1, 0.2), 20) is Verdict.NO_EVIDENCE
    assert verdict(score, None, 20) is Verdict.NO_EVIDENCE


def test_fewer_alarms_and_escapes_are_better() -> None:
    table = make_table(0, 60)
    alarmed = table.assign(verdict="ng")
    silent = table.assign(verdict="ok")
    scores = _compare(alarmed, silent).scores
    assert scores["false_alarms"].verdict is Verdict.BETTER
    assert scores["escapes"].verdict is Verdict.WORSE


def test_what_is_to_be_left_out_is_and_said() -> None:
    table = make_table(0, 12)
    gone = list(table["sample"][:4])
    compared = compare_tables(table, table, CLASSES, {"relabelled": gone, "seen": gone[2:]}, 50)
    assert compared.images == len(table) - 4
    assert compared.left_out == {"relabelled": 4}


def test_nothing_in_common_is_no_score() -> None:
    one, other = make_table(0, 6), make_table(0, 6)
    other["sample"] = "other-" + other["sample"]
    compared = _compare(one, other)
    assert (compared.images, compared.parts, compared.scores) == (0, 0, {})


def test_what_is_one_part_for_the_second_is_one_part() -> None:
    one, other = make_table(0, 12), make_table(0, 12)
    other["group"] = "the same"
    assert _compare(one, other).parts == 1
