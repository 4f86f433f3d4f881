"""Two models on the same images: what is better, what is worse, and how sure that is.

Both are measured on the parts that both tested, and resampled together: a part that is hard is hard
for both, so the difference is surer than either score (paired cluster bootstrap; Efron and
Tibshirani 1993, section 8.3; Davison and Hinkley 1997, section 3.8).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from defect_assets.evaluation.bootstrap import RESAMPLES, draw, interval, resampled
from defect_assets.evaluation.metrics import ANY

LOWER_IS_BETTER = frozenset({"false_alarms", "escapes", "uncertain"})
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
        One row per image, from `defect_assets.evaluation.metrics.count_image`. The parts are those
        that the second says.
    class_names
        The classes of defect that both tell apart.
    but
        Samples to leave out besides, by the reason.
    resamples, seed
        See `defect_assets.evaluation.bootstrap.draw`; the draws are the same for both.
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
        bounds = interval(after.resampled[name] - before.resampled[name])
        parts = _differing_parts(name, one, other, classes)
        found[name] = PairedScore(
            before=number(before.scores[name]),
            after=number(after.scores[name]),
            difference=number(difference),
            interval=bounds if np.isfinite(difference) else None,
            parts=parts,
            verdict=verdict(name, bounds, parts),
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
        One row per image, from `defect_assets.evaluation.metrics.count_image`; the same samples
        and parts in the same order.
    classes
        The classes of defect that all tell apart.
    resamples, seed
        See `defect_assets.evaluation.bootstrap.draw`; the draws are the same for all.
    """
    codes, weights = draw(tables[0]["group"], resamples, seed)
    once = np.ones((1, weights.shape[1]), weights.dtype)
    return [
        Measured(
            {k: float(v[0]) for k, v in resampled(t, codes, once, list(classes)).items()},
            resampled(t, codes, weights, list(classes)),
        )
        for t in tables
    ]


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


def _differing_parts(score: str, one: pd.DataFrame, other: pd.DataFrame, classes: list[str]) -> int:
    """Return on how many parts that a score measures the two models do not do the same."""
    if score == "macro_dice":  # as sure as its rarest class
        counts = [_differing_parts(f"dice {name}", one, other, classes) for name in classes]
        return min((count for count in counts if count), default=0)
    name = score.partition(" ")[2] or ANY
    defective = other[f"tp_{name}"] + other[f"fn_{name}"] > 0
    pixels = [f"{kind}_{name}" for kind in ("tp", "fp", "fn")]
    measured, columns = {
        "false_alarms": (~defective, ["verdict"]),
        "escapes": (defective, ["verdict"]),
        "region_recall": (defective, ["regions_found"]),
        "image_auroc": (pd.Series(True, other.index), ["score"]),
    }.get(score, (defective, pixels))
    done = [table[columns] for table in (one, other)]
    if columns == ["verdict"]:
        done = [verdicts == ("ok" if score == "escapes" else "ng") for verdicts in done]
    differ = (done[0] != done[1]).any(axis=1)
    return int(other.loc[measured & differ, "group"].nunique())


def number(value: float) -> float | None:
    """Return a score, or None where it is not a number."""
    return float(value) if np.isfinite(value) else None
