"""From a file to what was found in it: decoded and interpreted by a few threads, one network."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from defect_assets.inference.detector import Detector
from defect_assets.inference.images import (
    ImageError,
    TooManyPixelsError,
    UnknownFormatError,
    decode_image,
)
from defect_assets.inference.postprocessing import Analysis, Postprocessing
from defect_assets.inference.runtimes.runtime import processors
from detector_service.errors import ApiError
from detector_service.forms import Options
from detector_service.metrics import BATCH, STAGE, VERDICTS
from detector_service.model_threads import ModelThreads, Prediction
from detector_service.replies import Timings

Finished = TypeVar("Finished")


@dataclass(frozen=True)
class Inspection:
    """An image and all that was found out about it."""

    image: np.ndarray
    maps: np.ndarray
    """What the network said, for `Detector.likeliest_class`."""
    analysis: Analysis
    postprocessing: Postprocessing
    since: float
    """When it came, by the performance counter."""
    decode_s: float
    queue_s: float
    forward_s: float
    postprocess_s: float

    def milliseconds(self) -> float:
        """Return how long it took until now."""
        return 1000 * (time.perf_counter() - self.since)

    def timings(self) -> Timings:
        """Return how long it took until now, and in what."""
        return Timings(
            decode=round(1000 * self.decode_s, 3),
            queue=round(1000 * self.queue_s, 3),
            forward=round(1000 * self.forward_s, 3),
            postprocess=round(1000 * self.postprocess_s, 3),
            total=round(self.milliseconds(), 3),
        )


class Analyzer:
    """Looks at images, many at a time.

    Parameters
    ----------
    detector
        The model.
    batch_size
        How many images the network sees at once, at most.
    max_pixels
        Larger images are refused.
    """

    def __init__(self, detector: Detector, batch_size: int, max_pixels: int) -> None:
        self.detector = detector
        self._max_pixels = max_pixels
        self._model = ModelThreads(detector.predict, batch_size, detector.at_once)
        self._workers = ThreadPoolExecutor(processors(), thread_name_prefix="images")

    async def inspect(
        self, data: bytes, options: Options, finish: Callable[[Inspection], Finished]
    ) -> Finished:
        """Decode an image, find its defects, and make something of them in a worker's thread.

        Cancelled, it leaves undone what is not begun.

        Raises
        ------
        ApiError
            If the bytes are no image that is taken.
        """
        since = time.perf_counter()
        loop = asyncio.get_running_loop()
        image, decode_s = await loop.run_in_executor(self._workers, self._decode, data)
        prediction = await asyncio.wrap_future(self._model.submit(image))
        BATCH.observe(prediction.batch)
        return await loop.run_in_executor(
            self._workers,
            lambda: finish(self._interpret(image, prediction, options, since, decode_s)),
        )

    def warm_up(self) -> None:
        """Look at an image, so that the first client's is not the slowest."""
        height, width = (
            self.detector.spec.preprocessing.height,
            self.detector.spec.preprocessing.width,
        )
        self._model.submit(np.zeros((height, width), np.uint8)).result()

    def is_alive(self) -> bool:
        """Tell whether the network still runs."""
        return self._model.is_alive()

    def close(self) -> None:
        """Finish what is begun."""
        self._model.close()
        self._workers.shutdown()

    def _decode(self, data: bytes) -> tuple[np.ndarray, float]:
        begun = time.perf_counter()
        try:
            image = decode_image(data, self._max_pixels)
        except ImageError as error:
            raise _refusal(error) from error
        return image, time.perf_counter() - begun

    def _interpret(
        self,
        image: np.ndarray,
        prediction: Prediction,
        options: Options,
        since: float,
        decode_s: float,
    ) -> Inspection:
        begun = time.perf_counter()
        postprocessing = adjusted(self.detector.spec.postprocessing, options)
        size = image.shape[:2]
        analysis = self.detector.interpret(prediction.maps, size, postprocessing)
        took = time.perf_counter() - begun
        VERDICTS.labels(analysis.verdict).inc()
        STAGE.labels("decode").observe(decode_s)
        STAGE.labels("queue").observe(prediction.queue_s)
        STAGE.labels("forward").observe(prediction.forward_s)
        STAGE.labels("postprocess").observe(took)
        return Inspection(
            image=image,
            maps=prediction.maps,
            analysis=analysis,
            postprocessing=postprocessing,
            since=since,
            decode_s=decode_s,
            queue_s=prediction.queue_s,
            forward_s=prediction.forward_s,
            postprocess_s=took,
        )


def adjusted(postprocessing: Postprocessing, options: Options) -> Postprocessing:
    """Return the release's postprocessing as a request wants it."""
    changes: dict[str, float | int] = {}
    if options.threshold is not None:
        proportion = postprocessing.review_threshold / postprocessing.threshold
        changes["threshold"] = options.threshold
        changes["review_threshold"] = options.threshold * proportion
    if options.min_area_px is not None:
        changes["min_area_px"] = options.min_area_px
    return postprocessing.model_copy(update=changes) if changes else postprocessing


def _refusal(error: ImageError) -> ApiError:
    message = f"the image cannot be used: {error}"
    if isinstance(error, TooManyPixelsError):
        hint = "send a smaller image, or ask the operator to raise DETECTOR_MAX_MEGAPIXELS"
        return ApiError(413, "too_many_pixels", message, hint)
    if isinstance(error, UnknownFormatError):
        return ApiError(415, "unknown_format", message, "send a JPEG, PNG, BMP, TIFF or WebP file")
    return ApiError(422, "unreadable_image", message, "look whether other programs can open it")
