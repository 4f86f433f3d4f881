"""Ranking against torchmetrics, which knows nothing of weights."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from defect_assets.evaluation.ranking import rank

images = st.lists(
    st.tuples(st.integers(0, 8), st.booleans(), st.integers(0, 3)), min_size=1, max_size=20
)


@given(images)
def test_weights_are_copies(drawn: list[tuple[int, bool, int]]) -> None:
    score, defective, times = (np.array(values) for values in zip(*drawn, strict=True))
    score = score / 8
    [auroc], [precision] = rank(score, defective, times[None])
    copies = torch.tensor(np.repeat(score, times))
    truth = torch.tensor(np.repeat(defective, times)).long()
    if truth.any() and not truth.all():
        assert auroc == pytest.approx(float(binary_auroc(copies, truth)), abs=1e-6)
        reference = float(binary_average_precision(copies, truth))
        assert precision == pytest.approx(reference, abs=1e-6)
    else:
        assert np.isnan([auroc, precision]).all()


def test_many_resamples_are_ranked_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    score, defective = rng.random(30).round(1), rng.random(30) < 0.4
    drawn = rng.integers(0, 3, (17, 30))
    whole = rank(score, defective, drawn)
    monkeypatch.setattr("defect_assets.evaluation.ranking._CELLS", 100)
    np.testing.assert_array_equal(rank(score, defective, drawn), whole)
