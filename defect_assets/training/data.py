"""Images and masks at the network's resolution: decoded once, then memory-mapped."""

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from defect_assets.dataset import masks
from defect_assets.dataset.images import LabelledImage, read_images
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import read_snapshot
from defect_assets.inference import images
from defect_assets.inference import preprocessing as fitting
from defect_assets.inference.preprocessing import Preprocessing
from defect_assets.store import Digest, Store, canonical_json, digest_of

KEPT = 4
"""Sets of fitted images that stay on disk; of more, those that were made first are removed."""


@dataclass(frozen=True)
class FittedImages:
    """Images as the network sees them, before normalization."""

    images: np.ndarray
    """uint8 of shape (n, height, width, channels)."""
    masks: np.ndarray
    """uint8 of shape (n, height, width): class ids."""
    classes: np.ndarray
    """int64 of shape (n,): the class id of each image, 0 for defect-free."""
    groups: np.ndarray
    """int64 of shape (n,): which images show one part."""
    samples: np.ndarray
    """str of shape (n,): their ids."""
    sizes: np.ndarray
    """int64 of shape (n, 2): height and width of each image before it was fitted."""
    rows: np.ndarray
    """int64 of shape (m,): which of the images this set consists of; the others are not read."""

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, samples: Iterable[str]) -> "FittedImages":
        """Return the set that consists of some samples."""
        chosen = np.flatnonzero(np.isin(self.samples, list(samples)))
        return replace(self, rows=chosen)

    def as_binary(self) -> "FittedImages":
        """Return the same images, in whose masks any defect is of class 1."""
        return replace(self, masks=(self.masks > 0).astype(np.uint8))


def fit_snapshot(
    store: Store, snapshot: Digest, preprocessing: Preprocessing, folder: Path
) -> FittedImages:
    """Return all images of a snapshot at the network's resolution.

    Parameters
    ----------
    store
        Where they lie.
    snapshot
        Which one.
    preprocessing
        The network's resolution.
    folder
        What was fitted before is taken from here, and what was not is kept here: decoding is then
        done once for any number of trainings, and what is not used takes no memory.

    Raises
    ------
    Corrupted
        If an image or a mask is damaged or gone; the message names the sample.
    """
    header = read_snapshot(store, snapshot)
    table = samples_of(store, header.batches)
    files = _kept(store, snapshot, table, preprocessing, folder)
    class_ids = header.description.class_ids
    return FittedImages(
        images=np.load(files / "images.npy", mmap_mode="r"),
        masks=np.load(files / "masks.npy", mmap_mode="r"),
        classes=np.array([class_ids[name] for name in table["class"].to_pylist()], np.int64),
        groups=np.unique(table["group"].to_pylist(), return_inverse=True)[1],
        samples=np.array(table["sample"].to_pylist()),
        sizes=np.load(files / "sizes.npy"),
        rows=np.arange(len(table)),
    )


def fit_images(
    samples: Iterable[LabelledImage], preprocessing: Preprocessing, class_ids: dict[str, int]
) -> FittedImages:
    """Bring some images to the network's resolution, in memory."""
    held = list(samples)
    return FittedImages(
        images=np.stack([preprocessing.fit(i.image) for i in held]),
        masks=np.stack([fit_mask(i.mask, preprocessing) for i in held]),
        classes=np.array([class_ids[i.class_name] for i in held], np.int64),
        groups=np.unique([i.group for i in held], return_inverse=True)[1],
        samples=np.array([i.sample for i in held]),
        sizes=np.array([i.mask.shape for i in held], np.int64).reshape(-1, 2),
        rows=np.arange(len(held)),
    )


def fit_mask(mask: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Return a mask at the network's resolution: each pixel has the class that covers most of it.

    (Nearest-neighbour sampling would tear thin cracks into dots.)
    """
    ids = [0, *(int(i) for i in np.unique(mask) if i)]
    covers = [preprocessing.fit_cover((mask == i).astype(np.float32)) for i in ids]
    return np.array(ids, np.uint8)[np.argmax(covers, axis=0)]


def _kept(
    store: Store, snapshot: Digest, table: pa.Table, preprocessing: Preprocessing, folder: Path
) -> Path:
    """Return the folder with the fitted images of a snapshot, made where there is none."""
    shape = (preprocessing.height, preprocessing.width)
    key = digest_of(
        canonical_json([snapshot, shape, preprocessing.channels, preprocessing.resizing, _code()])
    )
    kept = folder / key
    if kept.is_dir():
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        count = len(table)
        pixels = _create(partial / "images.npy", (count, *shape, preprocessing.channels))
        ids = _create(partial / "masks.npy", (count, *shape))
        sizes = np.empty((count, 2), np.int64)
        description = read_snapshot(store, snapshot).description
        for i, sample in enumerate(read_images(store, table, description)):
            pixels[i] = preprocessing.fit(sample.image)
            ids[i] = fit_mask(sample.mask, preprocessing)
            sizes[i] = sample.mask.shape
        pixels.flush()
        ids.flush()
        np.save(partial / "sizes.npy", sizes)
        try:
            partial.rename(kept)
        except OSError:  # someone else made the same meanwhile
            if not kept.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _make_room(folder, kept)
    return kept


@cache
def _code() -> Digest:
    """Return a digest of the code that decodes and fits: what it made before it changed is old."""
    sources = [Path(__file__), *(Path(str(module.__file__)) for module in (images, masks, fitting))]
    return digest_of(b"".join(source.read_bytes() for source in sources))


def _create(path: Path, shape: tuple[int, ...]) -> np.memmap:
    array: np.memmap = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    return array


def _make_room(folder: Path, newest: Path) -> None:
    others = [path for path in folder.iterdir() if path.name[0] != "." and path != newest]
    others.sort(key=lambda path: path.stat().st_mtime)
    for path in others[: max(0, len(others) - KEPT + 1)]:
        shutil.rmtree(path, ignore_errors=True)
