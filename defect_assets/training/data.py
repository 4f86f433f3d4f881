"""Images and masks at the network's resolution, decoded once and held in memory."""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

from defect_assets.dataset.images import LabelledImage
from defect_assets.inference.preprocessing import Preprocessing
from defect_assets.training.config import Sampling

T = TypeVar("T")


@dataclass(frozen=True)
class FittedImages:
    """Images as the network sees them, before normalization."""

    images: np.ndarray
    """uint8 of shape (n, height, width, channels)."""
    masks: np.ndarray
    """uint8 of shape (n, height, width): class ids."""
    classes: np.ndarray
    """int64 of shape (n,): the class id of each image, 0 for defect-free."""

    def __len__(self) -> int:
        return len(self.images)


def fit_images(
    samples: Iterable[LabelledImage], preprocessing: Preprocessing, class_ids: dict[str, int]
) -> FittedImages:
    """Bring samples to the network's resolution."""
    images, masks, classes = [], [], []
    for sample in samples:
        images.append(preprocessing.fit(sample.image))
        masks.append(fit_mask(sample.mask, preprocessing))
        classes.append(class_ids[sample.class_name])
    return FittedImages(np.stack(images), np.stack(masks), np.array(classes))


def fit_mask(mask: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Return a mask at the network's resolution: each pixel has the class that covers most of it.

    (Nearest-neighbour sampling would tear thin cracks into dots.)
    """
    size = (preprocessing.width, preprocessing.height)
    ids = [0, *(int(i) for i in np.unique(mask) if i)]
    covers = [
        cv2.resize((mask == i).astype(np.float32), size, interpolation=cv2.INTER_AREA) for i in ids
    ]
    return np.array(ids, np.uint8)[np.argmax(covers, axis=0)]


def batches(data: FittedImages, sampling: Sampling, seed: int) -> Iterator[np.ndarray]:
    """Yield, without end, the indexes of each step's images, int64 of shape (batch_size,).

    Defect-free images have their share; the others are drawn class by class.
    """
    rng = np.random.default_rng(seed)
    members = {int(c): np.flatnonzero(data.classes == c) for c in np.unique(data.classes)}
    defects = [c for c in members if c > 0]
    while True:
        free = rng.random(sampling.batch_size) < sampling.defect_free
        if 0 not in members:
            free[:] = False
        if not defects:
            free[:] = True
        classes = np.where(free, 0, rng.choice(defects or [0], sampling.batch_size))
        yield np.array([rng.choice(members[int(c)]) for c in classes])


def prefetch(make: Callable[[], T]) -> Generator[T, None, None]:
    """Yield, without end, what ``make`` returns; the next one is made while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(make)
        while True:
            made = future.result()
            future = pool.submit(make)
            yield made
