"""The loss: a weighted sum of terms of segmentation-models-pytorch and torch."""

from collections.abc import Callable

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from defect_assets.training.config import LossTerm


class Loss(nn.Module):
    """A weighted sum of terms.

    Parameters
    ----------
    weights
        The weight of each term. ``dice`` is of defective against sound pixels, pooled over the
        batch; ``class_dice``, ``tversky``, ``lovasz`` and ``focal`` tell the classes apart.
    """

    def __init__(self, weights: dict[LossTerm, float]) -> None:
        super().__init__()
        self._terms = {name: (weight, _TERMS[name]()) for name, weight in weights.items()}

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of logits (n, 1 + classes, H, W) for masks (n, H, W) of class ids."""
        total = logits.new_zeros(())
        for weight, term in self._terms.values():
            total = total + weight * term(logits, masks)
        return total


class _ForegroundDice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._dice = smp.losses.DiceLoss("binary", from_logits=False, smooth=1.0)

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        defective = 1 - torch.softmax(logits, dim=1)[:, 0]
        return self._dice(defective, (masks > 0).float())


class _DefectType(nn.Module):
    """Cross entropy between the classes of defect, on defective pixels.

    Each image weighs as much as any other, so that a class of small defects is learned as well as
    one of large ones.
    """

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        defective = masks > 0
        targets = torch.where(defective, masks - 1, -100)
        entropy = nn.functional.cross_entropy(logits[:, 1:], targets, reduction="none")
        area = defective.sum(dim=(1, 2))
        per_image = entropy.sum(dim=(1, 2)) / area.clamp(min=1)
        return per_image.sum() / (area > 0).sum().clamp(min=1)


_TERMS: dict[LossTerm, Callable[[], nn.Module]] = {
    "cross_entropy": nn.CrossEntropyLoss,
    "focal": lambda: smp.losses.FocalLoss("multiclass"),
    "dice": _ForegroundDice,
    "defect_type": _DefectType,
    "class_dice": lambda: smp.losses.DiceLoss("multiclass", smooth=1.0),
    "tversky": lambda: smp.losses.TverskyLoss("multiclass", smooth=1.0, alpha=0.3, beta=0.7),
    "lovasz": lambda: smp.losses.LovaszLoss("multiclass"),
}
