"""Showing a training while it runs: pictures for people, curves for TensorBoard."""

from pathlib import Path

import numpy as np

from defect_assets.dataset.pictures import contact_sheet, overlay
from defect_assets.training.loop import Preview, Progress


def draw_preview(preview: Preview, palette: np.ndarray) -> np.ndarray:
    """Draw images, truth and prediction of a preview, one above the other: uint8 (H, W, 3)."""
    rows = [np.zeros_like(preview.masks), preview.masks, preview.predicted]
    views = [
        overlay(image.squeeze(-1) if image.shape[-1] == 1 else image, mask, palette)
        for masks in rows
        for image, mask in zip(preview.images, masks, strict=True)
    ]
    return contact_sheet(views, columns=len(preview.images), cell=160)


class TensorBoard:
    """Writes a training's curves and pictures for ``tensorboard --logdir``.

    Parameters
    ----------
    folder
        Of this training.
    palette
        RGB of each class id, uint8 of shape (1 + classes, 3).
    """

    def __init__(self, folder: Path, palette: np.ndarray) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._palette = palette
        self._writer = SummaryWriter(str(folder))

    def __call__(self, progress: Progress) -> None:
        """Add the newest point."""
        point = progress.history[-1]
        self._writer.add_scalar("loss/train", point.loss, point.step)
        self._writer.add_scalar("dice/val", point.val_dice, point.step)
        picture = draw_preview(progress.preview, self._palette)
        self._writer.add_image("val", picture, point.step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
