"""Reading samples back from the store."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.masks import decode_mask
from defect_assets.inference.images import decode_image
from defect_assets.store import Store


@dataclass(frozen=True)
class LabelledImage:
    """A sample's image and mask, decoded."""

    sample: str
    class_name: str
    group: str
    exposure: str
    image: np.ndarray
    """uint8, H × W or H × W × 3 (RGB)."""
    mask: np.ndarray
    """uint8 of shape (H, W): class ids, 0 for none."""


def read_images(
    store: Store, samples: pd.DataFrame, description: DatasetDescription
) -> Iterator[LabelledImage]:
    """Yield the samples of a table in its order, each image verified against its digest.

    Parameters
    ----------
    store
        Where the images lie.
    samples
        Columns as `defect_assets.dataset.snapshot.samples_of` gives them.
    description
        How masks are read.
    """

    def read(row: dict[str, str]) -> LabelledImage:
        image = decode_image(store.objects.get(row["image"]))
        data = store.objects.get(row["mask"]) if row["mask"] else None
        mask = decode_mask(data, row["class"], (image.shape[0], image.shape[1]), description)
        return LabelledImage(
            row["sample"], row["class"], row["group"], row["exposure"], image, mask
        )

    rows = iter(samples.to_dict("records"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # In chunks, so that a slow reader does not fill the memory with decoded images.
        while chunk := list(islice(rows, 64)):
            yield from pool.map(read, chunk)
