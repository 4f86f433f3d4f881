"""Finding images that show one physical part: under another exposure, or moved by some pixels.

An image becomes 32 × 32 pixels: its logarithm, so that an exposure is an offset; less its blur
(Gauss, 2 pixels), so that light does not count; under a Hann window, so that the rim does not; of
mean 0 and norm 1. The similarity of two is the greatest normalized cross-correlation :math:`c`
over all cyclic shifts :math:`t`, computed by the Fourier transforms :math:`F` of both (J. P. Lewis:
Fast Normalized Cross-Correlation, Vision Interface 1995):

.. math::

    c(a, b) = \\max_t \\, \\mathcal F^{-1}\\!\\left[F_a \\overline{F_b}\\right]\\!(t)
    \\;\\le\\; \\frac{1}{n} \\sum_k |F_a(k)|\\,|F_b(k)|

The right side, the shift-invariant product of the two amplitude spectra, is one matrix product for
many pairs, and a bound: pairs below the threshold by it need no transform, and none is lost. Of the
magnetic tiles' pairs, 7 % are left at 0.85.

The work grows with the square of the images: 1,000 take a second, 20,000 about a minute, and that
is the `LIMIT`. `benchmarks/near_duplicates.py` measures precision and recall.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

LIMIT = 20_000
"""Images that are compared with each other."""
SIDE = 32
BLUR = 2.0
BLOCK = 512
"""Rows of the matrix of pairs that are looked at at once."""
SLACK = 1e-6
"""By which a bound in single precision may be too low."""


def spectra(images: Iterable[np.ndarray]) -> np.ndarray:
    """Return what is compared of images.

    Parameters
    ----------
    images
        uint8, H × W or H × W × 3 (RGB), of any sizes.

    Returns
    -------
    numpy.ndarray
        complex128 of shape (images, 32, 17): the Fourier transform of each, 0 for an image of one
        grey value, which is similar to none.
    """
    window = np.outer(np.hanning(SIDE), np.hanning(SIDE))
    found = [np.fft.rfft2(_standardized(image, window)) for image in images]
    return np.array(found, np.complex128).reshape(len(found), SIDE, SIDE // 2 + 1)


def similar_pairs(of: np.ndarray, similarity: float) -> Iterator[tuple[int, int, float]]:
    """Yield the pairs of images that are at least so similar.

    Whether a pair is one of them does not depend on the other images.

    Parameters
    ----------
    of
        The images' `spectra`, complex128 of shape (images, 32, 17).
    similarity
        Above 0, at most 1.

    Yields
    ------
    tuple
        The positions of two images, the lower one first, and their similarity.

    Raises
    ------
    ValueError
        If there are more than `LIMIT` images.
    """
    if len(of) > LIMIT:
        raise ValueError(f"{len(of):,} images are too many to be compared with each other")
    # The transform of real numbers leaves out half of the columns, which equal others.
    twice = np.full(SIDE // 2 + 1, 2.0)
    twice[[0, -1]] = 1
    amplitudes = np.abs(of) * np.sqrt(twice) / SIDE
    amplitudes = amplitudes.reshape(len(of), SIDE * (SIDE // 2 + 1)).astype(np.float32)
    for start in range(0, len(of), BLOCK):
        bound = amplitudes[start : start + BLOCK] @ amplitudes[start:].T
        rows, columns = np.nonzero(np.triu(bound >= similarity - SLACK, 1))
        for first in range(0, len(rows), BLOCK):
            one, other = rows[first : first + BLOCK] + start, columns[first : first + BLOCK] + start
            peaks = np.fft.irfft2(of[one] * of[other].conj(), (SIDE, SIDE)).max(axis=(1, 2))
            hits = np.flatnonzero(peaks >= similarity)
            yield from zip(
                one[hits].tolist(), other[hits].tolist(), peaks[hits].tolist(), strict=True
            )


def _standardized(image: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Return an image without size, exposure and light, float64 of shape (32, 32)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    small = cv2.resize(grey.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    levels = np.log1p(small).astype(np.float64)
    detail = (levels - cv2.GaussianBlur(levels, (0, 0), BLUR)) * window
    detail -= detail.mean()
    norm = np.linalg.norm(detail)
    return detail / norm if norm > 1e-6 else np.zeros_like(detail)
