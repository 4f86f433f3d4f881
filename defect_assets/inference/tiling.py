"""Large images: looked at window by window, at the scale that the network was trained at.

The network sees whole images, fitted to its input. One that shows more of a part than any image of
the training would be fitted, too, and a defect in it be smaller than any that was learned. So it is
brought to the scale of the training's median image, on a *canvas*; windows of the network's input
slide over that, each is normalized as a whole image would be, and what the network sees in them is
blended, so that there is no seam and a defect that several windows see is one.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from defect_assets.inference.preprocessing import Preprocessing

LARGER = 1.5
"""An image is looked at by windows if it is more than this many times as high or as wide as any of
the training. A little below that size one look at the whole finds nine of ten defects, in a sixth
of the time; a little above it two of three (`benchmarks/runtimes.md`)."""
OVERLAP = 0.25
"""Share of a window that the next one sees again, at least. A half finds as many defects, in
1.7 times the time."""

Size = tuple[int, int]
"""Height and width, in pixels."""


class TrainingSizes(BaseModel):
    """How large the images were that a network was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    median: Size
    """The median height and the median width."""
    largest: Size
    """The greatest height and the greatest width."""

    @classmethod
    def of(cls, sizes: Iterable[Size]) -> "TrainingSizes":
        """Sum up the sizes of some images.

        Examples
        --------
        >>> TrainingSizes.of([(300, 200), (310, 260), (400, 220)])
        TrainingSizes(median=(310, 220), largest=(400, 260))
        """
        table = np.array(list(sizes))
        height, width = np.median(table, axis=0).round().astype(int).tolist()
        highest, widest = table.max(axis=0).tolist()
        return cls(median=(height, width), largest=(highest, widest))


@dataclass(frozen=True)
class Tiling:
    """How the network looks at an image of some size."""

    canvas: Preprocessing
    """From the image to the canvas, and back."""
    tops: tuple[int, ...]
    """Where on the canvas windows begin, downwards, and"""
    lefts: tuple[int, ...]
    """to the right."""
    window: Size
    """The network's input."""

    def windows(self, image: np.ndarray) -> np.ndarray:
        """Return what the network is shown of an image: uint8 (n, height, width, channels)."""
        canvas = self.canvas.fit(image)
        height, width = self.window
        return np.stack(
            [canvas[y : y + height, x : x + width] for y in self.tops for x in self.lefts]
        )

    def blend(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Return the canvas's probabilities from those of its windows.

        Where windows overlap, each counts by a Hann window, high in its middle and near zero at its
        rim, where the network knows least of the surroundings (Pielawski and Wählby, Introducing
        Hann windows for reducing edge-effects in patch-based image segmentation, PLOS ONE 15,
        2020); the weights are divided by their sum, since windows overlap by less than a half.

        Parameters
        ----------
        batches
            The windows' probabilities, of shape (n, classes, height, width), in their order, in any
            number of batches.

        Returns
        -------
        numpy.ndarray
            float32 of shape (classes, canvas height, canvas width).
        """
        down = _weights(self.tops, self.window[0], self.canvas.height)
        across = _weights(self.lefts, self.window[1], self.canvas.width)
        places = ((i, j) for i in range(len(self.tops)) for j in range(len(self.lefts)))
        blended: np.ndarray | None = None
        for batch in batches:
            for seen in batch:
                i, j = next(places)
                if blended is None:
                    size = (len(seen), self.canvas.height, self.canvas.width)
                    blended = np.zeros(size, np.float32)
                y, x = self.tops[i], self.lefts[j]
                place = blended[:, y : y + self.window[0], x : x + self.window[1]]
                place += seen * (down[i][:, None] * across[j])
        assert blended is not None
        return blended


def tiling_of(
    size: Size, preprocessing: Preprocessing, trained_on: TrainingSizes | None
) -> Tiling | None:
    """Return how to look at an image of some size by windows; None: look at it whole.

    Parameters
    ----------
    size
        Height and width of the image.
    preprocessing
        The network's input.
    trained_on
        How large the training's images were; where that is not known, all are looked at whole.
    """
    if trained_on is None or all(
        side <= LARGER * largest for side, largest in zip(size, trained_on.largest, strict=True)
    ):
        return None
    scale = preprocessing.scale_of(trained_on.median)
    height = max(preprocessing.height, round(size[0] * scale[0]))
    width = max(preprocessing.width, round(size[1] * scale[1]))
    return Tiling(
        canvas=preprocessing.model_copy(update={"height": height, "width": width}),
        tops=_starts(height, preprocessing.height),
        lefts=_starts(width, preprocessing.width),
        window=(preprocessing.height, preprocessing.width),
    )


def _starts(length: int, window: int) -> tuple[int, ...]:
    """Return where windows begin so that they cover a length, spread evenly."""
    overlap = round(OVERLAP * window)
    count = max(1, -(-(length - overlap) // (window - overlap)))
    return tuple(np.linspace(0, length - window, count).round().astype(int).tolist())


def _weights(starts: tuple[int, ...], window: int, length: int) -> np.ndarray:
    """Return the weight of each window's pixels along one axis, (windows, window).

    At each pixel, those of all windows sum to one. The weight of a pixel is the product of those
    along both axes.
    """
    hann = np.sin(np.pi * (np.arange(window) + 0.5) / window) ** 2
    total = np.zeros(length)
    for start in starts:
        total[start : start + window] += hann
    return np.array([hann / total[s : s + window] for s in starts], np.float32)
