"""What is shown first, and that no more is kept than is shown."""

import numpy as np
import pytest

from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.counter import Counter
from defect_assets.evaluation.gallery import LONGEST, SIZE, Gallery, make_picture
from defect_assets.evaluation.label_quality import label_quality
from defect_assets.inference.postprocessing import Postprocessing

NAMES = {1: "Crack"}


def _add(counter: Counter, name: str, group: str, truth: np.ndarray, found: np.ndarray) -> None:
    """Count an image in which a defect has some probabilities."""
    image = LabelledImage(name, "Crack" if truth.any() else "Free", group, "", truth, truth)
    analysis = Postprocessing(threshold=0.5)(np.stack([1 - found, found]), NAMES)
    counter.add(image, analysis)


def _square(side: int, value: float = 1, dtype: type = np.float32) -> np.ndarray:
    mask = np.zeros((40, 60), dtype)
    mask[5 : 5 + side, 5 : 5 + side] = value
    return mask


def _names(gallery: Gallery) -> list[str]:
    return [entry.picture.sample for entry in gallery.entries]


def test_each_gallery_shows_what_it_is_for() -> None:
    counter = Counter(NAMES, threshold=0.5)
    blank = _square(0)
    mask = lambda side: _square(side, 1, np.uint8)  # noqa: E731
    _add(counter, "perfect", "a", mask(9), _square(9))
    _add(counter, "escaped", "b", mask(9), _square(9, 0.01))
    _add(counter, "doubtful", "c", mask(20), _square(20, 0.48))
    _add(counter, "alarm on nothing", "d", mask(0), _square(5, 0.9))
    _add(counter, "alarm beside", "e", mask(9), np.maximum(_square(9), _square(30)[::-1, ::-1]))
    _add(counter, "clean", "f", mask(0), blank)
    misses, alarms, doubts, labels = counter.counted().galleries
    # The one that passes before the larger one that a person looks at.
    assert _names(misses) == ["escaped", "doubtful"]
    assert misses.entries[0].why == "1 defect missed, the largest 81 px"
    assert _names(alarms)[0] == "alarm on nothing"
    assert _names(doubts) == ["doubtful"]
    assert set(_names(labels)[:3]) == {"escaped", "alarm on nothing", "alarm beside"}
    assert _names(labels)[-2:] != ["escaped"]
    assert misses.entries[0].picture.verdict == "ok"


def test_one_image_of_each_part_and_no_more_than_fit() -> None:
    counter = Counter(NAMES, threshold=0.5)
    rng = np.random.default_rng(0)
    sides = rng.permutation(np.arange(3, 33))
    for number, side in enumerate(sides.tolist()):
        for exposure, smaller in enumerate((1, 0, 2)):
            truth = _square(side - smaller, 1, np.uint8)
            _add(counter, f"s{number}-{exposure}", f"g{number}", truth, _square(0))
    misses = counter.counted().galleries[0]
    largest = np.argsort(-sides)[:SIZE]
    assert _names(misses) == [f"s{number}-1" for number in largest]


def test_a_large_image_is_shown_smaller_with_its_outlines_in_place() -> None:
    mask = np.zeros((1000, 2000), np.uint8)
    mask[500:600, 1000:1400] = 1
    mask[540:560, 1100:1200] = 0
    image = LabelledImage("s", "Crack", "g", "", np.zeros((1000, 2000, 3), np.uint8), mask)
    found = np.zeros(mask.shape, np.float32)
    picture = make_picture(image, Postprocessing()(np.stack([1 - found, found]), NAMES), 0.0)
    assert picture.image.shape == (LONGEST // 2, LONGEST, 3)
    [outline] = picture.truth
    assert len(outline.rings) == 2  # the border and that of the hole
    points = np.concatenate(outline.rings)
    scale = LONGEST / 2000
    assert points.min(axis=0) == pytest.approx([1000 * scale, 500 * scale], abs=0.5)
    assert points.max(axis=0) == pytest.approx([1400 * scale, 600 * scale], abs=0.5)
    assert picture.found == ()


def test_few_pixels_in_confident_disagreement_weigh_more_than_many_in_doubt() -> None:
    truth = _square(0, 0, np.uint8) > 0
    sure = label_quality(truth, _square(6))
    unsure = label_quality(truth, np.full(truth.shape, 0.3, np.float32))
    assert sure < 0.1 < unsure < label_quality(truth, _square(0)) == 1
    given = np.where(truth, _square(6), 1 - _square(6)).ravel().astype(float)
    weight = np.exp((1 - given) / 0.1)
    assert sure == pytest.approx(np.average(given, weights=weight))
