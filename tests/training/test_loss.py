from typing import get_args

import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given
from hypothesis import strategies as st

from defect_assets.training.config import LossTerm
from defect_assets.training.loss import SMOOTH, Loss

HALF = SMOOTH / 2
"""The library adds it to the overlap, ours to twice the overlap."""
TERMS = list(get_args(LossTerm))


def _masks() -> torch.Tensor:
    masks = torch.zeros(2, 8, 8, dtype=torch.long)
    masks[0, 2:5, 2:5] = 1
    masks[1, :4] = 2
    return masks


def _logits(masks: torch.Tensor, confidence: float) -> torch.Tensor:
    return confidence * (2.0 * torch.nn.functional.one_hot(masks, 3).permute(0, 3, 1, 2) - 1)


@pytest.mark.parametrize("term", TERMS)
def test_right_is_better_than_unsure_is_better_than_wrong(term: LossTerm) -> None:
    loss, masks = Loss({term: 1.0}), _masks()
    right, unsure, wrong = (loss(_logits(masks, c), masks).item() for c in (10, 0, -10))
    assert right < unsure < wrong
    assert right < 0.1


@pytest.mark.parametrize("term", TERMS)
def test_images_without_a_defect_give_a_number(term: LossTerm) -> None:
    masks = torch.zeros(2, 8, 8, dtype=torch.long)
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = Loss({term: 1.0})(logits, masks)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_terms_are_summed_by_their_weights() -> None:
    masks = _masks()
    logits = _logits(masks, 1.0)
    both = Loss({"cross_entropy": 2.0, "dice": 0.5})(logits, masks)
    apart = 2 * Loss({"cross_entropy": 1})(logits, masks) + 0.5 * Loss({"dice": 1})(logits, masks)
    assert both.item() == pytest.approx(apart.item())


def test_for_the_type_of_defect_a_small_one_counts_as_a_large_one() -> None:
    masks = torch.zeros(2, 8, 8, dtype=torch.long)
    masks[0, 0, 0] = 1
    masks[1] = 1
    logits = torch.zeros(2, 3, 8, 8)
    wrong_small, wrong_large = logits.clone(), logits.clone()
    wrong_small[0, 2] = 5
    wrong_large[1, 2] = 5
    loss = Loss({"defect_type": 1.0})
    assert loss(wrong_small, masks).item() == pytest.approx(loss(wrong_large, masks).item())


@given(st.integers(0, 10_000))
def test_each_term_is_that_of_the_libraries(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, 4, 8, 8, generator=generator).double()
    masks = torch.randint(0, 4, (3, 8, 8), generator=generator)
    if seed % 2:
        masks[0] = 0
    defective = (masks > 0).double()
    p = 1 - logits.softmax(dim=1)[:, 0]
    entropy = torch.nn.functional.cross_entropy(logits, masks, reduction="none")
    references = {
        "cross_entropy": entropy.mean(),
        "bce": torch.nn.functional.binary_cross_entropy(p, defective),
        # The library's sums the classes' binary losses; Lin et al. have one softmax.
        "focal": ((1 - (-entropy).exp()) ** 2 * entropy).mean(),
        "dice": smp.losses.DiceLoss("binary", from_logits=False, smooth=HALF)(p, defective),
        "image_dice": sum(
            smp.losses.DiceLoss("binary", from_logits=False, smooth=HALF)(p[i : i + 1], d[None])
            for i, d in enumerate(defective)
            if d.any()
        )
        / sum(bool(d.any()) for d in defective),
        "class_dice": smp.losses.DiceLoss("multiclass", smooth=HALF)(logits, masks),
        "tversky": smp.losses.TverskyLoss("multiclass", smooth=1.0, alpha=0.3, beta=0.7)(
            logits, masks
        ),
    }
    assert set(references) == set(TERMS) - {"defect_type", "lovasz"}  # ours, the library's
    for term, reference in references.items():
        ours = Loss({term: 1.0})(logits, masks)  # type: ignore[dict-item]
        assert ours.item() == pytest.approx(float(reference), rel=1e-4), term
