"""Intervals against the plain way: draw parts, pool their images, measure."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.evaluation.bootstrap import intervals
from defect_assets.evaluation.metrics import ANY, Metrics, summarize

CLASSES = ["Crack", "Fray"]
SCORES = ["dice", "macro_dice", "region_recall", "image_auroc", "false_alarms", "escapes"]


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
            row = {
                "sample": f"s{group}-{image}",
                "group": f"g{group}",
                "verdict": "ng" if tp + fp > 40 else "ok",
                "score": round(rng.uniform(0, 0.7) + 0.3 * (area > 0), 2),
                "regions": regions,
                "regions_found": int(rng.integers(0, regions + 1)),
            }
            for name in [ANY, *CLASSES]:
                own = name in (ANY, kind)
                row |= {
                    f"tp_{name}": tp * own,
                    f"fn_{name}": (area - tp) * own,
                    f"fp_{name}": fp if name in (ANY, "Crack") else 0,
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
            table[table["group"] == name]
            for name, times in zip(names, drawn, strict=True)
            for _ in range(times)
        ]
        measured.append(summarize(pd.concat(parts), CLASSES))
    found = {}
    for name in SCORES:
        values = [v for m in measured if (v := getattr(m, name)) is not None]
        low, high = np.percentile(values, [2.5, 97.5])
        found[name] = (low, high)
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_all_at_once_is_the_same_as_one_by_one(seed: int) -> None:
    table = make_table(seed, groups=9)
    quick, plain = intervals(table, CLASSES, 100, seed), _plain(table, 100, seed)
    for name in SCORES:
        assert quick[name] == pytest.approx(plain[name], abs=1e-6), name


@given(st.integers(0, 1000), st.integers(3, 20))
def test_an_interval_is_in_order_and_of_the_order_of_rows_independent(
    seed: int, groups: int
) -> None:
    table = make_table(seed, groups)
    found = intervals(table, CLASSES, 200)
    assert all(0 <= low <= high <= 1 for low, high in found.values())
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
    assert set(intervals(free, CLASSES, 100)) == {"false_alarms"}
