"""What a random split flatters: one configuration, tested on new parts and on known ones."""

from collections.abc import Iterable

import pandas as pd
from pydantic import BaseModel, ConfigDict

from defect_assets.evaluation.bootstrap import bounds, percentiles, resampled
from defect_assets.evaluation.metrics import Metrics, summarize
from defect_assets.evaluation.scores import Measurement
from defect_assets.store import Digest

SCORES = ("dice", "macro_dice", "region_recall", "image_auroc", "false_alarms", "escapes")
"""The scores that are put side by side; names of `Metrics`."""

Interval = tuple[float, float]


class Side(BaseModel):
    """How good a model is that was trained on one kind of split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Digest
    seen: float
    """Share of the test images of whose part another image was trained on."""
    test: Metrics
    intervals: dict[str, Interval]
    """95 % intervals, resampled by part."""


class LeakAudit(BaseModel):
    """The same configuration under both splits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    config: str
    by_part: Side
    """The split that counts."""
    by_image: Side
    """The leaky one."""
    optimism: dict[str, tuple[float, Interval | None]]
    """By how much each of `SCORES` is higher under the leaky split, and the 95 % interval of that.
    The two tests share no images, so each is resampled by itself."""

    @property
    def points_of_dice(self) -> float | None:
        """The optimism in points of Dice, hundredths."""
        found = self.optimism.get("dice")
        return 100 * found[0] if found else None

    @property
    def verdict(self) -> str:
        """What that comes to, in a sentence; empty where there was nothing to measure."""
        difference, bounds = self.optimism.get("dice", (None, None))
        if difference is None:
            return ""
        points = f"{100 * difference:+.1f} points of Dice"
        if bounds and bounds[0] > 0:
            return f"A random split flatters this model by {points[1:]}."
        between = f", between {100 * bounds[0]:+.1f} and {100 * bounds[1]:+.1f}" if bounds else ""
        return f"Too few parts to show that a random split flatters this model: {points}{between}."


def audit_leak(
    dataset: str,
    config: str,
    by_part: tuple[Digest, float, pd.DataFrame],
    by_image: tuple[Digest, float, pd.DataFrame],
    class_names: Iterable[str],
) -> LeakAudit:
    """Put a configuration's scores under both splits side by side.

    Parameters
    ----------
    dataset, config
        Of what.
    by_part, by_image
        Of each split the model, the share of test images whose part was trained on, and the counts
        of each test image (see `defect_assets.evaluation.counts.count_image`).
    class_names
        The classes of defect that the models tell apart.
    """
    classes = list(class_names)
    sides, draws = [], []
    for seed, (bundle, seen, table) in enumerate((by_part, by_image)):
        scores = resampled(Measurement(table, classes), seed=seed)
        side = Side(
            bundle=bundle,
            seen=seen,
            test=summarize(table, classes),
            intervals=bounds(scores),
        )
        sides.append(side)
        draws.append(scores)
    honest, leaky = sides
    optimism: dict[str, tuple[float, Interval | None]] = {}
    for name in SCORES:
        low, high = (getattr(side.test, name) for side in sides)
        if low is not None and high is not None:
            optimism[name] = (high - low, percentiles(draws[1][name] - draws[0][name]))
    return LeakAudit(
        dataset=dataset, config=config, by_part=honest, by_image=leaky, optimism=optimism
    )
