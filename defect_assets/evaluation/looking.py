"""Looking at stored samples with a stored model, on whatever machine."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.images import LabelledImage, read_images
from defect_assets.inference.detector import Detector
from defect_assets.inference.postprocessing import Analysis
from defect_assets.spreading import Spread
from defect_assets.store import Digest, Store
from defect_assets.store.objects import write_tree

TOGETHER = 64
"""Samples that are looked at by one task."""

Looked = tuple[LabelledImage, Analysis]

_loaded: dict[Digest, Detector] = {}
"""The model that this process used last."""


def look_at(
    store: Store, bundle: Digest, samples: pa.Table, description: DatasetDescription, spread: Spread
) -> Iterator[Looked]:
    """Yield samples in their order, and what a model makes of them.

    Parameters
    ----------
    store
        Where images and model are.
    bundle
        The model.
    samples
        As `defect_assets.dataset.images.read_images` takes them.
    description
        How masks are read.
    spread
        Divides the work.

    Raises
    ------
    Corrupted
        If an image, a mask or the model is damaged or gone.
    """
    some = (pa.Table.from_batches([b]) for b in samples.to_batches(max_chunksize=TOGETHER))
    for looked in spread(_Look(store, bundle, description), some):
        yield from looked


@dataclass(frozen=True)
class _Look:
    store: Store
    bundle: Digest
    description: DatasetDescription

    def __call__(self, samples: pa.Table) -> list[Looked]:
        detector = self._detector()
        images = read_images(self.store, samples, self.description)
        return [(image, detector.analyze(image.image)) for image in images]

    def _detector(self) -> Detector:
        if self.bundle not in _loaded:
            with tempfile.TemporaryDirectory() as folder:
                write_tree(self.store.objects.get_tree(self.bundle), Path(folder))
                detector = Detector.load(Path(folder))
            _loaded.clear()
            _loaded[self.bundle] = detector
        return _loaded[self.bundle]
