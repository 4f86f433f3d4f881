"""The loss: a weighted sum of terms.

The terms share one softmax, computed once: on a CPU that takes a tenth off a step. The tests hold
each of them against the one of segmentation-models-pytorch.
"""

from collections.abc import Callable, Mapping
from functools import cached_property

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from defect_assets.training.config import LossTerm

SMOOTH = 1.0
"""Added to both sides of ratios of areas, in pixels."""


class Loss(nn.Module):
    """A weighted sum of terms.

    Parameters
    ----------
    weights
        The weight of each term. ``bce``, ``dice`` (pooled over the batch) and ``image_dice`` (mean
        over defective images) are of defective against sound pixels; ``cross_entropy``, ``focal``,
        ``class_dice``, ``tversky`` and ``lovasz`` tell the classes apart; ``defect_type`` is of the
        classes alone, on defective pixels.
    """

    def __init__(self, weights: Mapping[LossTerm, float]) -> None:
        super().__init__()
        self._weights = dict(weights)

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of logits (n, 1 + classes, H, W) for masks (n, H, W) of class ids."""
        prediction = _Prediction(logits, masks)
        total = logits.new_zeros(())
        for name, weight in self._weights.items():
            total = total + weight * _TERMS[name](prediction)
        return total


class _Prediction:
    """Logits and truth, and what several terms need of them."""

    def __init__(self, logits: Tensor, masks: Tensor) -> None:
        self.logits = logits.contiguous()
        self.masks = masks
        self.classes = logits.shape[1]

    @cached_property
    def log_p(self) -> Tensor:
        """Log probabilities, (n, classes, H, W)."""
        return torch.log_softmax(self.logits, dim=1)

    @cached_property
    def p(self) -> Tensor:
        """Probabilities, (n, classes, H, W)."""
        return self.log_p.exp()

    @cached_property
    def log_p_true(self) -> Tensor:
        """Log probability of each pixel's true class, (n, H, W)."""
        return self.log_p.gather(1, self.masks[:, None])[:, 0]

    @cached_property
    def p_true(self) -> Tensor:
        return self.log_p_true.exp()

    @cached_property
    def defective(self) -> Tensor:
        """Which pixels are, bool (n, H, W)."""
        return self.masks > 0

    @cached_property
    def class_areas(self) -> tuple[Tensor, Tensor, Tensor]:
        """Overlap, predicted and true area of each class, over the batch, (classes,) each."""
        flat = self.masks.reshape(-1)
        zeros = self.p.new_zeros(self.classes)
        overlap = zeros.index_add(0, flat, self.p_true.reshape(-1))
        true = zeros.index_add(0, flat, torch.ones_like(flat, dtype=zeros.dtype))
        return overlap, self.p.sum((0, 2, 3)), true

    @cached_property
    def defect_areas(self) -> tuple[Tensor, Tensor, Tensor]:
        """Overlap, predicted and true defective area of each image, (n,) each."""
        p = 1 - self.p[:, 0]
        return (
            (p * self.defective).sum((1, 2)),
            p.sum((1, 2)),
            self.defective.sum((1, 2)).to(p.dtype),
        )


def _cross_entropy(x: _Prediction) -> Tensor:
    return -x.log_p_true.mean()


def _bce(x: _Prediction) -> Tensor:
    log_defective = torch.logsumexp(x.log_p[:, 1:], dim=1)
    return -torch.where(x.defective, log_defective, x.log_p[:, 0]).mean()


def _focal(x: _Prediction) -> Tensor:
    """Lin et al. 2017, with gamma 2."""
    return -((1 - x.p_true) ** 2 * x.log_p_true).mean()


def _dice(x: _Prediction) -> Tensor:
    overlap, predicted, true = (area.sum() for area in x.defect_areas)
    return 1 - (2 * overlap + SMOOTH) / (predicted + true + SMOOTH)


def _image_dice(x: _Prediction) -> Tensor:
    overlap, predicted, true = x.defect_areas
    present = true > 0
    loss = 1 - (2 * overlap + SMOOTH) / (predicted + true + SMOOTH)
    return (loss * present).sum() / present.sum().clamp(min=1)


def _class_dice(x: _Prediction) -> Tensor:
    """Of the classes that the batch has, the background among them."""
    overlap, predicted, true = x.class_areas
    return ((1 - (2 * overlap + SMOOTH) / (predicted + true + SMOOTH)) * (true > 0)).mean()


def _tversky(x: _Prediction) -> Tensor:
    """Salehi et al. 2017: what is missed (0.7) weighs more than what is false (0.3)."""
    overlap, predicted, true = x.class_areas
    index = (overlap + SMOOTH) / (
        overlap + 0.3 * (predicted - overlap) + 0.7 * (true - overlap) + SMOOTH
    )
    return ((1 - index) * (true > 0)).mean()


def _lovasz(x: _Prediction) -> Tensor:
    """Berman et al. 2018."""
    return _LOVASZ(x.logits, x.masks)


_LOVASZ = smp.losses.LovaszLoss("multiclass")


def _defect_type(x: _Prediction) -> Tensor:
    """Cross entropy between the classes of defect, on defective pixels.

    Each image weighs as much as any other, so that a class of small defects is learned as well as
    one of large ones.
    """
    image, row, column = x.defective.nonzero(as_tuple=True)
    entropy = nn.functional.cross_entropy(
        x.logits[image, 1:, row, column], x.masks[image, row, column] - 1, reduction="none"
    )
    area = x.defective.sum((1, 2))
    return (entropy / area[image]).sum() / (area > 0).sum().clamp(min=1)


_TERMS: dict[LossTerm, Callable[[_Prediction], Tensor]] = {
    "cross_entropy": _cross_entropy,
    "bce": _bce,
    "focal": _focal,
    "dice": _dice,
    "image_dice": _image_dice,
    "class_dice": _class_dice,
    "tversky": _tversky,
    "lovasz": _lovasz,
    "defect_type": _defect_type,
}
