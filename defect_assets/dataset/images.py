"""Reading samples back from the store."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.masks import decode_mask
from defect_assets.inference.images import decode_image
from defect_assets.store import Corrupted, NotInStore, Store


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
    batch: str = ""
    """The delivery that it is from, where that was asked for."""

    def as_binary(self) -> "LabelledImage":
        """Return the same image, in whose mask any defect is of class 1."""
        return replace(self, mask=(self.mask > 0).astype(np.uint8))


def read_images(
    store: Store, samples: pa.Table, description: DatasetDescription
) -> Iterator[LabelledImage]:
    """Yield the samples of a table in its order, each image verified against its digest.

    Parameters
    ----------
    store
        Where the images lie.
    samples
        Columns as `defect_assets.dataset.samples.samples_of` gives them; ``batch`` may be one.
    description
        How masks are read.

    Raises
    ------
    Corrupted
        If an image or a mask is damaged or gone; the message names the sample.
    """
    # In chunks, so that a slow reader does not fill the memory with decoded images.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for chunk in samples.to_batches(max_chunksize=64):
            rows = chunk.to_pylist()
            files = iter(_files(store, rows))
            pairs = [(next(files), next(files) if row["mask"] else None) for row in rows]
            yield from pool.map(_decode, rows, pairs, [description] * len(rows))


def damaged_files(store: Store, samples: pa.Table) -> list[str]:
    """Return the images and masks of some samples that are missing or damaged, by name."""
    damaged = []
    for row in samples.to_pylist():
        for kind in ("image", "mask"):
            try:
                if row[kind]:
                    store.objects.get_many([row[kind]])
            except (Corrupted, NotInStore):
                damaged.append(row[f"{kind}_name"])
    return damaged


def _files(store: Store, rows: list[dict[str, str]]) -> list[bytes]:
    """Return the image and, where there is one, the mask of each row, one after the other."""
    digests = [row[kind] for row in rows for kind in ("image", "mask") if row[kind]]
    try:
        return store.objects.get_many(digests)
    except (Corrupted, NotInStore):
        for row in rows:  # which one is it?
            for kind in ("image", "mask"):
                _read_alone(store, row, kind)
        raise


def _read_alone(store: Store, row: dict[str, str], kind: str) -> None:
    try:
        if row[kind]:
            store.objects.get(row[kind])
    except Corrupted as error:
        raise Corrupted(f"the {kind} of {row['sample']}, {error.what}", error.how) from error
    except NotInStore as error:
        raise Corrupted(f"the {kind} of {row['sample']}, {error.args[0]},", "is gone") from error


def _decode(
    row: dict[str, str], files: tuple[bytes, bytes | None], description: DatasetDescription
) -> LabelledImage:
    image = decode_image(files[0])
    mask = decode_mask(files[1], row["class"], (image.shape[0], image.shape[1]), description)
    return LabelledImage(
        row["sample"],
        row["class"],
        row["group"],
        row["exposure"],
        image,
        mask,
        row.get("batch", ""),
    )
