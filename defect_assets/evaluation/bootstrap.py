"""How sure a score is: bootstrap intervals, resampled by physical part.

Images of one part are not independent, so whole parts are drawn with replacement (the cluster
bootstrap; Davison and Hinkley 1997, section 3.8). Resamples are computed many at once, from the
sums of each part.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd

from defect_assets.evaluation.scores import Measurement, PixelScore, part_table

RESAMPLES = 10_000
_CHUNK = 500
"""Resamples that are in memory at once."""


def intervals(
    table: pd.DataFrame,
    class_names: Iterable[str],
    resamples: int = RESAMPLES,
    seed: int = 0,
    pixel_scores: Mapping[str, PixelScore] | None = None,
) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each score.

    Parameters
    ----------
    table
        One row per image, from `defect_assets.evaluation.counts.count_image`.
    class_names
        The classes of defect.
    resamples
        How many.
    seed
        Of the draws.
    pixel_scores
        More scores, by their names.

    Returns
    -------
    dict
        Lower and upper bound (2.5th and 97.5th percentile) by the name of the score; see
        `defect_assets.evaluation.scores.scores`. Left out are scores that cannot be measured in
        most of the resamples, and those of which all say the same: since no part fails, or only
        one shows the class. Of shares of parts, see `of_parts`.
    """
    measure = Measurement(table, class_names, pixel_scores)
    return bounds(resampled(measure, resamples, seed)) | of_parts(part_table(table).sum())


def resampled(
    measure: Measurement, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return each score of each resample, float of shape (resamples,), by its name."""
    parts = [measure(drawn) for drawn in draws(len(measure.groups), resamples, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def draws(groups: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each part is drawn, float of shape (at most 500, groups).

    The same seed draws the same parts, so that two models can be compared resample by resample.
    """
    rng = np.random.default_rng(seed)
    share = np.full(groups, 1 / groups)
    for first in range(0, resamples, _CHUNK):
        yield rng.multinomial(groups, share, min(_CHUNK, resamples - first)).astype(float)


def bounds(resampled: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Return the 2.5th and 97.5th percentile of what was measured in most resamples.

    Where all agree, since no part fails or only one shows the class, resampling says nothing.
    """
    return {
        name: found
        for name, values in resampled.items()
        if (found := percentiles(values)) and np.nanmin(values) < np.nanmax(values)
    }


def percentiles(values: np.ndarray) -> tuple[float, float] | None:
    """Return the 2.5th and 97.5th percentile; None where most resamples have nothing to measure."""
    measured = values[np.isfinite(values)]
    if len(measured) <= len(values) / 2:
        return None
    low, high = np.percentile(measured, [2.5, 97.5])
    return float(low), float(high)


def of_parts(sums: "pd.Series[float]") -> dict[str, tuple[float, float]]:
    """Return the 95 % intervals of the shares of parts that escape or are false alarms.

    Parts are independent, so these are exact (Clopper and Pearson 1934). And they say what no
    resampling can: that of 30 parts none escaped leaves room for one in nine.

    Parameters
    ----------
    sums
        Over all rows of `defect_assets.evaluation.scores.part_table`.
    """
    from scipy.stats import binomtest

    shares = {
        "part_false_alarms": ("part_false_alarms", "free_parts", 1),
        "part_escapes": ("part_escapes", "defective_parts", 1),
        "false_alarms_per_1000": ("part_false_alarms", "parts", 1000),
        "escapes_per_1000": ("part_escapes", "parts", 1000),
    }
    found = {}
    for name, (part, whole, scale) in shares.items():
        if sums[whole]:
            interval = binomtest(int(sums[part]), int(sums[whole])).proportion_ci()
            found[name] = (scale * float(interval.low), scale * float(interval.high))
    return found
