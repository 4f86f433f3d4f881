"""AUPRO against its definition, threshold by threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from defect_assets.evaluation.aupro import BINS, LIMIT, RegionOverlap, aupro, log_odds_bins

Images = list[tuple[np.ndarray, np.ndarray]]
truths = arrays(np.bool_, (6, 7))
coarse = arrays(np.int64, (6, 7), elements=st.integers(0, 12)).map(
    lambda steps: (steps / 12).astype(np.float32)
)


def _plain(images: Images) -> float:
    """Follow the definition: every threshold, every region, the trapezoids up to the limit."""
    regions, sound = [], []
    for probability, truth in images:
        labels, count = ndimage.label(truth, np.ones((3, 3)))
        regions += [probability[labels == label] for label in range(1, count + 1)]
        sound.append(probability[~truth])
    background = np.concatenate(sound)
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(np.concatenate([p.ravel() for p, _ in images]))[::-1]:
        rates.append(float((background >= threshold).mean()))
        overlaps.append(float(np.mean([(region >= threshold).mean() for region in regions])))
    at_limit = np.interp(LIMIT, rates, overlaps)
    inside = [i for i, rate in enumerate(rates) if rate <= LIMIT]
    if rates[inside[-1]] == LIMIT:
        at_limit = overlaps[inside[-1]]
    x = [*(rates[i] for i in inside), LIMIT]
    y = [*(overlaps[i] for i in inside), at_limit]
    return float(np.trapezoid(y, x)) / LIMIT


def _ours(images: Images, groups: int = 2) -> float:
    collected = RegionOverlap()
    for number, (probability, truth) in enumerate(images):
        collected.add(f"g{number % groups}", truth, probability)
    names = [f"g{n}" for n in range(min(groups, len(images)))]
    [found] = aupro(collected.sums(names).sum(axis=0, keepdims=True))
    return float(found)


@given(st.lists(st.tuples(coarse, truths), min_size=1, max_size=4))
def test_it_is_what_its_definition_says(images: Images) -> None:
    whole = np.concatenate([truth.ravel() for _, truth in images])
    if whole.any() and not whole.all():
        assert _ours(images) == pytest.approx(_plain(images), abs=1e-9)
    else:
        assert np.isnan(_ours(images))


def test_bins_cost_little_on_smooth_probabilities() -> None:
    rng = np.random.default_rng(0)
    images = []
    for _ in range(6):
        truth = ndimage.gaussian_filter(rng.normal(size=(60, 60)), 4) > 0.12
        noise = ndimage.gaussian_filter(rng.normal(size=(60, 60)), 2) * 20
        logits = np.where(truth, -1.0, -6.0) + noise
        images.append(((1 / (1 + np.exp(-logits))).astype(np.float32), truth))
    assert _ours(images) == pytest.approx(_plain(images), abs=2e-4)


def test_perfect_and_guessed() -> None:
    rng = np.random.default_rng(1)
    truth = np.zeros((200, 200), bool)
    truth[20:60, 30:50] = truth[150:160, 100:190] = True
    assert _ours([(truth.astype(np.float32), truth)]) == 1
    guessed = rng.random(truth.shape).astype(np.float32)
    assert _ours([(guessed, truth)]) == pytest.approx(LIMIT / 2, abs=0.02)


def test_a_small_defect_counts_as_much_as_a_large_one() -> None:
    truth = np.zeros((100, 100), bool)
    truth[:50, :50] = truth[90:92, 90:92] = True
    only_small, only_large = (np.zeros((100, 100), np.float32) for _ in range(2))
    only_small[90:92, 90:92] = only_large[:50, :50] = 1
    assert _ours([(only_small, truth)]) == pytest.approx(_ours([(only_large, truth)]))


@given(arrays(np.float32, 20, elements=st.floats(0, 1, width=32)))
def test_bins_keep_the_order(probability: np.ndarray) -> None:
    bins = log_odds_bins(np.sort(probability))
    assert (np.diff(bins) >= 0).all()
    assert bins.min() >= 0
    assert bins.max() < BINS
