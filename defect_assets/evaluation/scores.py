"""Every score as a function of sums over parts.

What is computed for all images at once is computed for ten thousand resamples of them by the same
lines: a score and its interval cannot come apart. Where there is nothing to measure, a score is not
a number.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from defect_assets.evaluation.collected import Collected
from defect_assets.evaluation.counts import ANY, PIXELS, REGIONS, columns_of
from defect_assets.evaluation.ranking import rank

Sums = Mapping[str, np.ndarray]
"""By column, its sum over what was drawn, float of shape (resamples,)."""


@dataclass(frozen=True)
class PixelScore:
    """A score that needs more of an image than the table holds."""

    collected: Collected
    score: Callable[[np.ndarray], np.ndarray]
    """From sums over the drawn parts, float of shape (resamples, …), to the score of each."""


class Measurement:
    """All scores of some images, of any resample of the parts that they show.

    Parameters
    ----------
    table
        One row per image, from `defect_assets.evaluation.counts.count_image`.
    class_names
        The classes of defect.
    pixel_scores
        More scores, by their names.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        class_names: Iterable[str],
        pixel_scores: Mapping[str, PixelScore] | None = None,
    ) -> None:
        self._classes = list(class_names)
        self._parts = part_table(table)
        self.groups: list[str] = self._parts.index.tolist()
        """The names of the parts, sorted."""
        self._part_of = self._parts.index.get_indexer(pd.Index(table["group"]))
        self._score = table["score"].to_numpy()
        self._defective = (table[f"tp_{ANY}"] + table[f"fn_{ANY}"] > 0).to_numpy()
        self._pixel_scores = {
            name: (score.collected.sums(self.groups), score.score)
            for name, score in (pixel_scores or {}).items()
        }

    def __call__(self, drawn: np.ndarray) -> dict[str, np.ndarray]:
        """Return each score by its name, float of shape (resamples,).

        Parameters
        ----------
        drawn
            How often each part was drawn, in the order of `groups`, float of shape (resamples,
            parts). Ones: all images as they are.
        """
        sums = drawn @ self._parts.to_numpy()
        found = scores(dict(zip(self._parts.columns, sums.T, strict=True)), self._classes)
        found["image_auroc"], found["image_ap"] = rank(
            self._score, self._defective, drawn[:, self._part_of]
        )
        return found | {
            name: score(drawn @ collected)
            for name, (collected, score) in self._pixel_scores.items()
        }


def part_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each physical part, by its name: everything that `scores` sums.

    A part is defective if any image shows a defect of it, ng if any image is, ok if all are. So it
    is a false alarm if it is free of defects and any image of it is ng, and escapes if it has one
    and all its images are ok: if one is uncertain, a person looks at it.

    Parameters
    ----------
    table
        One row per image, from `defect_assets.evaluation.counts.count_image`.
    """
    defective = table[f"tp_{ANY}"] + table[f"fn_{ANY}"] > 0
    ng, ok = table["verdict"] == "ng", table["verdict"] == "ok"
    kinds = tuple(f"{kind}_" for kind in (*PIXELS, *REGIONS))
    counts = [column for column in table.columns if column.startswith(kinds)]
    flags = {
        "images": True,
        "defective": defective,
        "free": ~defective,
        "false_alarms": ~defective & ng,
        "escapes": defective & ok,
        "uncertain": ~ng & ~ok,
    }
    rows = pd.concat([table[["group", *counts]], pd.DataFrame(flags, table.index)], axis=1)
    parts = rows.groupby("group", sort=True).sum()
    part_defective = parts["defective"] > 0
    part_ng, part_not_ok = (flag.groupby(table["group"]).any() for flag in (ng, ~ok))
    of_parts = {
        "parts": part_defective | True,
        "defective_parts": part_defective,
        "free_parts": ~part_defective,
        "part_false_alarms": ~part_defective & part_ng,
        "part_escapes": part_defective & ~part_not_ok,
    }
    return pd.concat([parts, pd.DataFrame(of_parts)], axis=1).astype(float)


def scores(sums: Sums, class_names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return each score by its name, float of shape (resamples,).

    Names are those of `defect_assets.evaluation.metrics.Metrics`; those of a class have its name
    behind, e.g. ``dice Crack``. ``part_escapes`` and ``part_false_alarms`` are shares of the
    defective and of the defect-free parts, ``escapes_per_1000`` is of all parts.
    """
    classes = list(class_names)
    found = _overlap(sums, ANY)
    of_class = {name: _overlap(sums, name) for name in classes}
    found["macro_dice"] = _mean([of["dice"] for of in of_class.values()], len(sums["images"]))
    found |= {f"{score} {name}": v for name, of in of_class.items() for score, v in of.items()}
    return found | {
        "false_alarms": _share(sums["false_alarms"], sums["free"]),
        "escapes": _share(sums["escapes"], sums["defective"]),
        "uncertain": _share(sums["uncertain"], sums["images"]),
        "part_false_alarms": _share(sums["part_false_alarms"], sums["free_parts"]),
        "part_escapes": _share(sums["part_escapes"], sums["defective_parts"]),
        "false_alarms_per_1000": 1000 * _share(sums["part_false_alarms"], sums["parts"]),
        "escapes_per_1000": 1000 * _share(sums["part_escapes"], sums["parts"]),
    }


def _overlap(sums: Sums, name: str) -> dict[str, np.ndarray]:
    tp, fp, fn = (sums[column] for column in columns_of(name, PIXELS))
    hits, missed, right, wrong = (sums[column] for column in columns_of(name, REGIONS))
    there = tp + fn > 0
    recall = _share(hits, hits + missed)
    precision = np.where(there, _share(right, right + wrong), np.nan)
    return {
        "dice": np.where(there, _share(2 * tp, 2 * tp + fp + fn), np.nan),
        "iou": np.where(there, _share(tp, tp + fp + fn), np.nan),
        "precision": np.where(there, _share(tp, tp + fp), np.nan),
        "recall": _share(tp, tp + fn),
        "region_recall": recall,
        "region_precision": precision,
        "region_f1": _harmonic_mean(recall, precision),
    }


def _harmonic_mean(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    # Where nothing was detected there is no precision, and all is missed.
    precision = np.where(np.isfinite(recall), np.nan_to_num(precision), np.nan)
    mean = _share(2 * recall * precision, recall + precision)
    return np.where(recall + precision > 0, mean, 0 * recall)


def _mean(values: list[np.ndarray], resamples: int) -> np.ndarray:
    """Return the mean of what can be measured."""
    stacked = np.reshape(values, (len(values), resamples))
    measured = np.isfinite(stacked)
    return _share(np.where(measured, stacked, 0).sum(axis=0), measured.sum(axis=0))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
