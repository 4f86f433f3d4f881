"""Intervals against the plain way: draw parts, pool their images, measure."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.evaluation.bootstrap import draws, intervals
from defect_assets.evaluation.counts import ANY
from defect_assets.evaluation.metrics import ClassScore, Metrics, summarize
from defect_assets.evaluation.scores import Measurement

CLASSES = ["Crack", "Fray"]
# Those of parts are exact, and not resampled.
OF_PARTS = ["part_escapes", "part_false_alarms", "escapes_per_1000", "false_alarms_per_1000"]
NOT_SCORES = {"images", "groups", "classes", "regions", "defective_parts"}
OF_PIXELS = {"aupro", "calibration_error"}
SCORES = sorted(set(Metrics.model_fields) - NOT_SCORES - OF_PIXELS - set(OF_PARTS))
CLASS_SCORES = sorted(set(ClassScore.model_fields) - NOT_SCORES)


def make_table(seed: int, groups: int, per_group: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for group in range(groups):
        kind = ["Free", *CLASSES][group % 3]
        skill = rng.uniform(0.2, 0.95)
        for image in range(per_group):
            area = 0 if kind == "Free" else int(rng.integers(50, 500))
            tp = int(area * skill * rng.uniform(0.5, 1))
            fp = int(rng.integers(0, 60)) if rng.random() < 0.4 else 0
            regions = 0 if kind == "Free" else int(rng.integers(1, 4))
            found = int(rng.integers(0, regions + 1))
            right, wrong = int(found > 0), int(fp > 40)
            row = {
                "sample": f"s{group}-{image}",
                "group": f"g{group}",
                "exposure": f"exp{image}",
                "batch": f"b{group % 2}",
                "brightness": float(rng.uniform(30, 200)),
                "verdict": "ng" if tp + fp > 40 else "uncertain" if rng.random() < 0.2 else "ok",
                "score": round(rng.uniform(0, 0.7) + 0.3 * (area > 0), 2),
                "regions": regions,
                "regions_found": found,
            }
            for name in [ANY, *CLASSES]:
                own = name in (ANY, kind)
                row |= {
                    f"tp_{name}": tp * own,
                    f"fn_{name}": (area - tp) * own,
                    f"fp_{name}": fp if name in (ANY, "Crack") else 0,
                    f"found_{name}": found * own,
                    f"missed_{name}": (regions - found) * own,
                    f"right_{name}": right * own,
                    f"wrong_{name}": wrong if name in (ANY, "Crack") else 0,
                }
            rows.append(row)
    return pd.DataFrame(rows)


def _plain(table: pd.DataFrame, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """Resample one by one, with the same draws."""
    names = sorted(table["group"].unique())
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    measured: list[Metrics] = []
    for drawn in weights:
        parts = [
            table[table["group"] == name].assign(group=f"{name}-{time}")
            for name, times in zip(names, drawn, strict=True)
            for time in range(times)
        ]
        measured.append(summarize(pd.concat(parts), CLASSES))
    found = {}
    values = {name: [getattr(m, name) for m in measured] for name in SCORES} | {
        f"{score} {c}": [getattr(m.classes[c], score) for m in measured]
        for c in CLASSES
        for score in CLASS_SCORES
    }
    for name, resampled in values.items():
        known = [value for value in resampled if value is not None]
        if np.ptp(known) > 0:
            low, high = np.percentile(known, [2.5, 97.5])
            found[name] = (low, high)
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_all_at_once_is_the_same_as_one_by_one(seed: int) -> None:
    table = make_table(seed, groups=9)
    quick, plain = intervals(table, CLASSES, 100, seed), _plain(table, 100, seed)
    assert set(quick) == {*plain, *OF_PARTS}
    for name, bounds in plain.items():
        assert quick[name] == pytest.approx(bounds, abs=1e-9), name


def test_more_resamples_than_are_in_memory_at_once_are_the_same_draws() -> None:
    rng, parts = np.random.default_rng(3), np.full(7, 1 / 7)
    at_once = rng.multinomial(7, parts, 1201)
    assert (np.concatenate(list(draws(7, 1201, 3))) == at_once).all()


@given(st.integers(0, 1000), st.integers(3, 20))
def test_an_interval_is_in_order_and_of_the_order_of_rows_independent(
    seed: int, groups: int
) -> None:
    table = make_table(seed, groups)
    found = intervals(table, CLASSES, 200)
    for name, (low, high) in found.items():
        assert 0 <= low <= high <= (1000 if name.endswith("per_1000") else 1), name
    shuffled = table.sample(frac=1, random_state=seed)
    for name, bounds in intervals(shuffled, CLASSES, 200).items():
        assert bounds == pytest.approx(found[name])


def test_parts_not_images_are_drawn() -> None:
    """More images of the same parts say nothing new; more parts do."""
    few = make_table(0, groups=12, per_group=1)
    copies = pd.concat([few] * 20)
    width = [np.ptp(intervals(t, CLASSES, 2000)["dice"]) for t in (few, copies)]
    assert width[0] == pytest.approx(width[1])
    assert np.ptp(intervals(make_table(0, 240, 1), CLASSES, 2000)["dice"]) < width[0] / 2


def test_what_cannot_be_measured_has_no_interval() -> None:
    table = make_table(0, groups=9)
    free = table[table["regions"] == 0]
    assert set(intervals(free, CLASSES, 100)) - set(OF_PARTS) <= {"false_alarms", "uncertain"}


def test_that_no_part_escaped_does_not_say_that_none_will() -> None:
    table = make_table(0, groups=45)
    table["verdict"] = "ng"
    found = intervals(table, CLASSES, 100)
    # 30 defective parts, none of which escaped: 1 - 0.025 ** (1 / 30).
    assert found["part_escapes"] == pytest.approx((0, 0.1157), abs=1e-4)
    assert "escapes" not in found  # all resamples say 0, which is no interval


@given(st.integers(0, 100), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_to_draw_a_part_twice_is_to_have_it_twice(seed: int, times: list[int]) -> None:
    """The law on which all resampling rests: scores of weights are scores of copies."""
    table = make_table(seed, groups=6)
    names = sorted(table["group"].unique())
    copies = [
        table[table["group"] == name].assign(group=f"{name}-{copy}")
        for name, count in zip(names, times, strict=True)
        for copy in range(count)
    ]
    if not copies:
        return
    weighted = Measurement(table, CLASSES)(np.array([times], float))
    copied = pd.concat(copies)
    measure = Measurement(copied, CLASSES)
    plain = measure(np.ones((1, len(measure.groups))))
    for name, value in weighted.items():
        np.testing.assert_allclose(value, plain[name], atol=1e-12, err_msg=name)
