"""How sure a score is: bootstrap intervals, resampled by physical part.

Images of one part are not independent, so whole parts are drawn with replacement (the cluster
bootstrap; Davison and Hinkley 1997, section 3.8). All resamples are computed at once, from the
counts of each part.
"""

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import pandas as pd

from defect_assets.evaluation.metrics import ANY

RESAMPLES = 10_000
_CHUNK = 500
"""Resamples whose ranking of images is in memory at once."""

Drawn: TypeAlias = tuple[np.ndarray, np.ndarray]
"""See `draw`."""


def intervals(
    table: pd.DataFrame, class_names: Iterable[str], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each score.

    Parameters
    ----------
    table
        One row per image, from `defect_assets.evaluation.metrics.count_image`.
    class_names
        The classes of defect.
    resamples
        How many.
    seed
        Of the draws.

    Returns
    -------
    dict
        Lower and upper bound (2.5th and 97.5th percentile) by the name of the score in `Metrics`.
        A score that cannot be measured in most of the resamples is left out.
    """
    codes, weights = draw(table["group"], resamples, seed)
    scores = resampled(table, codes, weights, list(class_names))
    return {name: bounds for name, values in scores.items() if (bounds := interval(values))}


def draw(groups: "pd.Series", resamples: int = RESAMPLES, seed: int = 0) -> Drawn:
    """Draw parts with replacement, as many as there are.

    Parameters
    ----------
    groups
        The part of each image.
    resamples
        How many times.
    seed
        Of the draws.

    Returns
    -------
    codes
        The number of each image's part.
    weights
        int64 of shape (resamples, parts): how often each part is drawn.
    """
    codes, names = pd.factorize(groups, sort=True)
    rng = np.random.default_rng(seed)
    return codes, rng.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)


def resampled(
    table: pd.DataFrame, codes: np.ndarray, weights: np.ndarray, classes: list[str]
) -> dict[str, np.ndarray]:
    """Return each score of each resample, float64 of shape (resamples,), by its name.

    NaN where a resample has nothing to measure. Codes and weights are as `draw` gives them; with
    all weights one, the scores are those of the table itself.
    """
    scores = _overlaps(table, codes, weights, classes) | _shares(table, codes, weights)
    return scores | {"image_auroc": _auroc(table, codes, weights)}


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """Return the 2.5th and 97.5th percentile; None where most resamples have nothing to measure."""
    measured = values[np.isfinite(values)]
    if len(measured) <= len(values) / 2:
        return None
    low, high = np.percentile(measured, [2.5, 97.5])
    return float(low), float(high)


def _overlaps(
    table: pd.DataFrame, codes: np.ndarray, weights: np.ndarray, classes: list[str]
) -> dict[str, np.ndarray]:
    dice = {name: _dice(table, codes, weights, name) for name in [ANY, *classes]}
    per_class = np.stack([dice[name] for name in classes])
    present = np.isfinite(per_class)
    total = np.where(present, per_class, 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        macro = total / present.sum(axis=0)
    return {"dice": dice[ANY], "macro_dice": macro} | {f"dice {c}": dice[c] for c in classes}


def _dice(table: pd.DataFrame, codes: np.ndarray, weights: np.ndarray, name: str) -> np.ndarray:
    tp, fp, fn = (_drawn(table[f"{k}_{name}"], codes, weights) for k in ("tp", "fp", "fn"))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), np.nan)


def _shares(table: pd.DataFrame, codes: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    defective = table[f"tp_{ANY}"] + table[f"fn_{ANY}"] > 0
    pairs = {
        "region_recall": (table["regions_found"], table["regions"]),
        "false_alarms": (~defective & (table["verdict"] == "ng"), ~defective),
        "escapes": (defective & (table["verdict"] == "ok"), defective),
    }
    found = {}
    for name, (part, whole) in pairs.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            found[name] = _drawn(part, codes, weights) / _drawn(whole, codes, weights)
    return found


def _drawn(values: "pd.Series", codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the sum over the drawn images, float64 of shape (resamples,)."""
    return weights @ np.bincount(codes, weights=values.to_numpy(float), minlength=weights.shape[1])


def _auroc(table: pd.DataFrame, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve: how often a defective image has the higher score."""
    defective = (table[f"tp_{ANY}"] + table[f"fn_{ANY}"] > 0).to_numpy()
    order = np.argsort(table["score"].to_numpy(), kind="stable")
    # Images of equal score are one step of the curve.
    _, step = np.unique(table["score"].to_numpy()[order], return_inverse=True)
    starts = np.flatnonzero(np.diff(step, prepend=-1))
    found = []
    for first in range(0, len(weights), _CHUNK):
        drawn = weights[first : first + _CHUNK, codes[order]].astype(float)
        positive = np.add.reduceat(drawn * defective[order], starts, axis=1)
        negative = np.add.reduceat(drawn * ~defective[order], starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append((positive * below).sum(axis=1) / pairs)
    return np.concatenate(found)
