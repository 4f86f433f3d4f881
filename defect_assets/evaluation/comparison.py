"""Two models on the same images: what is better, what is worse, and how sure that is.

Both are measured on the parts that both tested, and resampled together: a part that is hard is hard
for both, so the difference is surer than either score (paired cluster bootstrap; Efron and
Tibshirani 1993, section 8.3; Davison and Hinkley 1997, section 3.8).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from defect_assets.evaluation.bootstrap import RESAMPLES, percentiles, resampled
from defect_assets.evaluation.counts import ANY, PIXELS, REGIONS, columns_of
from defect_assets.evaluation.scores import Measurement

_ALARMS = ("false_alarms", "part_false_alarms", "false_alarms_per_1000")
_ESCAPES = ("escapes", "part_escapes", "escapes_per_1000")
LOWER_IS_BETTER = frozenset({*_ALARMS, *_ESCAPES, "uncertain"})
MIN_PARTS = 6
"""If a score differs on fewer parts than this, there is no evidence, whatever the interval says:
were the models equally good, five parts would all favour one of them by chance once in sixteen
times (the sign test: 2 × 0.5⁵), and resampling five parts cannot know that."""


class Verdict(StrEnum):
    """What a difference amounts to."""

    BETTER = "better"
    WORSE = "worse"
    NO_EVIDENCE = "no evidence"


class PairedScore(BaseModel):
    """One score of two models on the same images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: float | None
    """None, as the others, where there is nothing to measure."""
    after: float | None
    difference: float | None
    """After less before."""
    interval: tuple[float, float] | None
    """95 % interval of the difference, resampled by part."""
    parts: int
    """Parts with something to measure on which the two models do not do the same."""
    verdict: Verdict


class Comparison(BaseModel):
    """Two models on the same images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int
    """That both were measured on."""
    parts: int
    left_out: dict[str, int]
    """Images that one of them was tested on, and that do not count, by the reason."""
    scores: dict[str, PairedScore]
    """By the name of the score, see `defect_assets.evaluation.bootstrap`. Empty where nothing is
    common."""


def compare_tables(
    before: pd.DataFrame,
    after: pd.DataFrame,
    class_names: Collection[str],
    but: Mapping[str, Collection[str]] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the images that both were tested on.

    Parameters
    ----------
    before, after
        One row per image, from `defect_assets.evaluation.counts.count_image`. The parts are those
        that the second says.
    class_names
        The classes of defect that both tell apart.
    but
        Samples to leave out besides, by the reason.
    resamples, seed
        See `defect_assets.evaluation.bootstrap.draws`; the draws are the same for both.
    """
    one, other = (table.set_index("sample", drop=False) for table in (before, after))
    common = one.index.intersection(other.index)
    left_out = {
        "only the first was tested on": len(one.index.difference(common)),
        "only the second was tested on": len(other.index.difference(common)),
    }
    for reason, samples in (but or {}).items():
        left = common.difference(pd.Index(list(samples), dtype=object))
        left_out[reason] = len(common) - len(left)
        common = left
    common = common.sort_values()
    one, other = one.loc[common], other.loc[common]
    one = one.assign(group=other["group"])
    return Comparison(
        images=len(common),
        parts=other["group"].nunique(),
        left_out={reason: count for reason, count in left_out.items() if count},
        scores=_scores(one, other, list(class_names), resamples, seed) if len(common) else {},
    )


def _scores(
    one: pd.DataFrame, other: pd.DataFrame, classes: list[str], resamples: int, seed: int
) -> dict[str, PairedScore]:
    before, after = measure_together([one, other], classes, resamples, seed)
    found = {}
    for name in before.scores:
        difference = after.scores[name] - before.scores[name]
        interval = percentiles(after.resampled[name] - before.resampled[name])
        parts = differing_parts(name, one, other, classes)
        found[name] = PairedScore(
            before=number(before.scores[name]),
            after=number(after.scores[name]),
            difference=number(difference),
            interval=interval,
            parts=parts,
            verdict=verdict(name, interval, parts),
        )
    return found


@dataclass(frozen=True)
class Measured:
    """The scores of some images, and of resamples of the parts that they show."""

    scores: dict[str, float]
    """By name; not a number where there is nothing to measure."""
    resampled: dict[str, np.ndarray]
    """Float of shape (resamples,); in each place of the same draw for all that is measured
    together."""


def measure_together(
    tables: Sequence[pd.DataFrame],
    classes: Sequence[str],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Measured]:
    """Measure several models on the same images.

    Parameters
    ----------
    tables
        One row per image, from `defect_assets.evaluation.counts.count_image`; the same samples
        and parts in the same order.
    classes
        The classes of defect that all tell apart.
    resamples, seed
        See `defect_assets.evaluation.bootstrap.draws`; the draws are the same for all.
    """
    found = []
    for table in tables:
        measure = Measurement(table, classes)
        once = measure(np.ones((1, len(measure.groups))))
        scores = {name: float(value) for name, [value] in once.items()}
        found.append(Measured(scores, resampled(measure, resamples, seed)))
    return found


def verdict(score: str, interval: tuple[float, float] | None, parts: int) -> Verdict:
    """Return what a difference amounts to.

    Parameters
    ----------
    score
        The score's name, which says whether more is better.
    interval
        Of the difference, after less before; None: it cannot be measured.
    parts
        On how many parts the two models differ; see `MIN_PARTS`.
    """
    if interval is None or parts < MIN_PARTS or not excludes_zero(interval):
        return Verdict.NO_EVIDENCE
    rose = interval[0] > 0
    return Verdict.BETTER if rose != (score in LOWER_IS_BETTER) else Verdict.WORSE


def excludes_zero(interval: tuple[float, float] | None) -> bool:
    """Tell whether there is an interval, and zero is not in it."""
    return interval is not None and not interval[0] <= 0 <= interval[1]


def differing_parts(
    score: str, one: pd.DataFrame, other: pd.DataFrame, classes: Sequence[str]
) -> int:
    """Return on how many parts that a score measures two models do not do the same.

    Parameters
    ----------
    score
        The score's name.
    one, other
        See `measure_together`; what is defective is as the second says.
    classes
        The classes of defect.
    """
    if score == "macro_dice":  # as sure as its rarest class
        counts = [differing_parts(f"dice {name}", one, other, classes) for name in classes]
        return min((count for count in counts if count), default=0)
    kind, _, name = score.partition(" ")
    pair = (one, other)
    defective = other[f"tp_{name or ANY}"] + other[f"fn_{name or ANY}"] > 0
    if kind in (*_ALARMS, *_ESCAPES):
        answers = [(t["verdict"] == ("ok" if kind in _ESCAPES else "ng")).to_frame() for t in pair]
        if kind not in ("escapes", "false_alarms"):  # what a part's images come to together
            part = other["group"]
            worst: Literal["min", "max"] = "min" if kind in _ESCAPES else "max"
            answers = [a.groupby(part).transform(worst) for a in answers]
            defective = defective.groupby(part).transform("max")
        measured = defective if kind in _ESCAPES else ~defective
    elif kind == "uncertain":
        measured = pd.Series(True, other.index)
        answers = [(table["verdict"] == "uncertain").to_frame() for table in pair]
    elif kind in ("image_auroc", "image_ap"):
        measured = pd.Series(True, other.index)
        answers = [table[["score"]] for table in pair]
    else:
        counted = REGIONS if kind.startswith("region_") else PIXELS
        measured = defective
        answers = [table[columns_of(name or ANY, counted)] for table in pair]
    differ = (answers[0] != answers[1]).any(axis=1)
    return int(other.loc[measured & differ, "group"].nunique())


def number(value: float) -> float | None:
    """Return a score, or None where it is not a number."""
    return float(value) if np.isfinite(value) else None
