"""Calibration against torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchmetrics.functional.classification import binary_calibration_error

from defect_assets.evaluation.calibration import (
    BINS,
    Reliability,
    calibration_error,
    reliability_curve,
)

images = st.lists(
    st.tuples(
        # In the middle of tenths of bins: which side of a border is whose, is left open.
        arrays(np.int64, (5, 6), elements=st.integers(0, 10 * BINS - 1)).map(
            lambda steps: ((steps + 0.5) / (10 * BINS)).astype(np.float32)
        ),
        arrays(np.bool_, (5, 6)),
    ),
    min_size=1,
    max_size=4,
)


@given(images)
def test_the_error_agrees_with_torchmetrics(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    collected = Reliability()
    for number, (probability, truth) in enumerate(pairs):
        collected.add(f"g{number % 2}", truth, probability)
    groups = ["g0", "g1"][: len(pairs)]
    sums = collected.sums(groups).sum(axis=0)
    probability, truth = (torch.tensor(np.stack(arrays)) for arrays in zip(*pairs, strict=True))
    reference = float(binary_calibration_error(probability, truth.long(), n_bins=BINS))
    assert calibration_error(sums[None])[0] == pytest.approx(reference, abs=1e-6)
    curve = reliability_curve(sums)
    assert sum(b.pixels for b in curve) == truth.numel()
    for number, found in enumerate(curve):
        if found.probability is not None and found.defective is not None:
            assert number / BINS <= found.probability <= (number + 1) / BINS
            assert 0 <= found.defective <= 1


def test_what_means_what_it_says_has_no_error() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random((1000, 1000)).astype(np.float32)
    honest, sure = Reliability(), Reliability()
    honest.add("g", rng.random(probability.shape) < probability, probability)
    sure.add("g", rng.random(probability.shape) < 0.5, probability)
    assert calibration_error(honest.sums(["g"]))[0] < 0.005
    assert calibration_error(sure.sums(["g"]))[0] == pytest.approx(0.25, abs=0.01)
