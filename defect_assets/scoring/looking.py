"""From the bytes of an image to what a model says of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from defect_assets.inference.detector import Detector
from defect_assets.inference.images import ImageError, decode_image
from defect_assets.inference.postprocessing import Analysis, Defect
from defect_assets.scoring.sources import Item
from defect_assets.store import Digest, digest_of

BATCH = {"cpu": 1, "cuda": 32}
"""Images that the network sees at once: on a processor several at once take no less time each
(`benchmarks/runtimes.md`)."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of an image, or why it says nothing."""

    name: str
    digest: Digest = ""
    """Of the image's file; empty where there was none to read."""
    height: int = 0
    width: int = 0
    verdict: str = ""
    score: float = 0.0
    """How probably the pixel that is most probably part of a defect is."""
    defects: Sequence[Defect] = ()
    mask: bytes = b""
    """A PNG of class ids; empty where nothing was found."""
    error: str = ""
    """Why there is no verdict; empty where there is one."""
    decode_ms: float = 0.0
    infer_ms: float = 0.0
    """From pixels to defects; of images that are looked at together, the mean."""


def look(
    detector: Detector, items: Sequence[Item], files: Sequence[bytes | str]
) -> list[Prediction]:
    """Look at some images.

    Parameters
    ----------
    detector
        The model.
    items
        Which images.
    files
        The bytes of each, or why they could not be read.

    Returns
    -------
    list of Prediction
        In the same order; one that cannot be decoded keeps the others from nothing.
    """
    predictions: list[Prediction | None] = [None] * len(items)
    sound: list[tuple[int, Digest, np.ndarray, float]] = []
    for i, (item, data) in enumerate(zip(items, files, strict=True)):
        if isinstance(data, str):
            predictions[i] = Prediction(item.name, item.digest, error=data)
            continue
        digest = item.digest or digest_of(data)
        start = time.perf_counter()
        try:
            image = decode_image(data)
        except ImageError as error:
            predictions[i] = Prediction(item.name, digest, error=str(error))
            continue
        sound.append((i, digest, image, 1e3 * (time.perf_counter() - start)))
    at_once = BATCH[detector.device]
    for first in range(0, len(sound), at_once):
        batch = sound[first : first + at_once]
        start = time.perf_counter()
        analyses = detector.analyze_batch([image for _, _, image, _ in batch])
        infer_ms = 1e3 * (time.perf_counter() - start) / len(batch)
        for (i, digest, _, decode_ms), analysis in zip(batch, analyses, strict=True):
            predictions[i] = _prediction(items[i].name, digest, analysis, decode_ms, infer_ms)
    return [prediction for prediction in predictions if prediction is not None]


def _prediction(
    name: str, digest: Digest, analysis: Analysis, decode_ms: float, infer_ms: float
) -> Prediction:
    return Prediction(
        name=name,
        digest=digest,
        height=analysis.mask.shape[0],
        width=analysis.mask.shape[1],
        verdict=analysis.verdict,
        score=round(float(analysis.probability.max()), 6),
        defects=analysis.defects,
        mask=_png(analysis.mask) if analysis.defects else b"",
        decode_ms=decode_ms,
        infer_ms=infer_ms,
    )


def _png(mask: np.ndarray) -> bytes:
    # Masks are a few flat regions: runs of equal values are all that there is to compress, and
    # what filters are for in photographs would break them. It takes a fifth of the time that way.
    settings = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    settings += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    return cv2.imencode(".png", mask, settings)[1].tobytes()
