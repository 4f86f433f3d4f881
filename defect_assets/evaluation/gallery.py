"""Images that a person should look at."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.counts import ANY
from defect_assets.evaluation.overlap import dice
from defect_assets.evaluation.regions import Region
from defect_assets.inference.postprocessing import Analysis

SIZE = 12
"""Pictures in a gallery, one of each part."""
NEAR = 0.25
"""How far an image may be from the threshold to be shown as near to it."""
LONGEST = 640
"""Pixels of a picture's longer side, if it has more."""


@dataclass(frozen=True)
class Outline:
    """The border of what is of one class."""

    class_id: int
    rings: tuple[np.ndarray, ...]
    """Closed lines, float32 of shape (points, 2): x and y in the picture's pixels. What is inside
    of an odd number of them is inside."""


@dataclass(frozen=True)
class Picture:
    """One image, its truth and what was found in it."""

    sample: str
    group: str
    class_name: str
    verdict: str
    dice: float
    score: float
    """Highest probability of a pixel."""
    image: np.ndarray
    """uint8, (h, w) or (h, w, 3) RGB, at most `LONGEST` wide and high."""
    truth: tuple[Outline, ...]
    found: tuple[Outline, ...]
    probability: np.ndarray
    """float32 of shape (h, w)."""


@dataclass(frozen=True)
class Entry:
    """A picture and why it is shown."""

    picture: Picture
    why: str


@dataclass(frozen=True)
class Gallery:
    """Some pictures, the most telling one first."""

    name: str
    title: str
    rule: str
    """By what they were chosen."""
    entries: tuple[Entry, ...]


class Galleries:
    """Chooses pictures while images pass by, and keeps no more than are shown."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._missed, self._alarms, self._doubts, self._labels = (_Shortlist() for _ in range(4))

    def add(
        self,
        truth: LabelledImage,
        analysis: Analysis,
        row: dict,
        regions: Sequence[Region],
        quality: float,
    ) -> None:
        """Look at an image.

        Parameters
        ----------
        truth, analysis
            The image.
        row
            Its counts; see `defect_assets.evaluation.counts.count_image`.
        regions
            Its defects and detections.
        quality
            How far the model agrees with the mask; see `defect_assets.evaluation.label_quality`.
        """

        @cache
        def picture() -> Picture:
            score = dice(row[f"tp_{ANY}"], row[f"fp_{ANY}"], row[f"fn_{ANY}"])
            return make_picture(truth, analysis, score)

        sample, group, verdict = row["sample"], row["group"], row["verdict"]
        missed = [r.area_px for r in regions if r.side == "truth" and not r.matched]
        if missed:
            why = f"{_count(len(missed), 'defect')} missed, the largest {max(missed)} px"
            self._missed.offer(group, (verdict == "ok", max(missed), sample), why, picture)
        wrong = [r.area_px for r in regions if r.side == "prediction" and not r.matched]
        if wrong:
            why = f"{_count(len(wrong), 'detection')} of nothing, the largest {max(wrong)} px"
            self._alarms.offer(group, (not truth.mask.any(), max(wrong), sample), why, picture)
        distance = abs(row["score"] - self._threshold)
        if distance <= NEAR:
            why = f"highest probability {row['score']:.3f}"
            self._doubts.offer(group, (-distance, sample), why, picture)
        self._labels.offer(group, (-quality, sample), f"agreement {quality:.3f}", picture)

    def chosen(self) -> tuple[Gallery, ...]:
        """Return the galleries of what has been looked at."""
        return (
            Gallery(
                "misses",
                "Worst misses",
                "Defects of which less than a tenth was found. First those that pass: their image "
                "is ok. The largest missed defect decides.",
                self._missed.entries,
            ),
            Gallery(
                "alarms",
                "Worst false alarms",
                "Detections less than a tenth of which is defective. First those on defect-free "
                "images. The largest such detection decides.",
                self._alarms.entries,
            ),
            Gallery(
                "doubts",
                "Nearest to the threshold",
                "The highest probability in the image is near the threshold "
                f"({self._threshold:.3g}): a little more or less, and the verdict is another.",
                self._doubts.entries,
            ),
            Gallery(
                "labels",
                "Most likely wrong labels",
                "The model, which has not seen these images, is sure of something else than the "
                "mask says. Look at the mask first.",
                self._labels.entries,
            ),
        )


class _Shortlist:
    def __init__(self) -> None:
        self._best: dict[str, tuple[tuple, Entry]] = {}

    def offer(self, group: str, key: tuple, why: str, make: Callable[[], Picture]) -> None:
        """Take a picture in if its key is among the highest; one of each part."""
        rival = self._best.get(group)
        if rival is None and len(self._best) == SIZE:
            rival = min(self._best.values(), key=lambda kept: kept[0])
        if rival is not None:
            if rival[0] >= key:
                return
            del self._best[rival[1].picture.group]
        self._best[group] = (key, Entry(make(), why))

    @property
    def entries(self) -> tuple[Entry, ...]:
        ranked = sorted(self._best.values(), key=lambda kept: kept[0], reverse=True)
        return tuple(entry for _, entry in ranked)


def make_picture(truth: LabelledImage, analysis: Analysis, score: float) -> Picture:
    """Return an image as it is shown, made smaller if it is large."""
    height, width = truth.mask.shape
    scale = min(1.0, LONGEST / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image, probability = (
        cv2.resize(array, size, interpolation=cv2.INTER_AREA)
        for array in (truth.image, analysis.probability)
    )
    return Picture(
        truth.sample,
        truth.group,
        truth.class_name,
        analysis.verdict,
        score,
        float(analysis.probability.max()),
        image,
        tuple(_outlines(truth.mask, scale)),
        tuple(_outlines(analysis.mask, scale)),
        probability,
    )


def _outlines(mask: np.ndarray, scale: float) -> Iterable[Outline]:
    for class_id in np.flatnonzero(np.bincount(mask[mask > 0])).tolist():
        inside = (mask == class_id).astype(np.uint8)
        contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        rings = (((c[:, 0] + 0.5) * scale).astype(np.float32) for c in contours)
        yield Outline(class_id, tuple(rings))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"
