"""The model that looks, as it is sent to those who look with it."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from defect_assets.inference.detector import Detector
from defect_assets.store.objects import write_tree


@dataclass(frozen=True)
class Model:
    """A model as it is sent to those who look with it."""

    files: Mapping[str, bytes]
    """Of a bundle's folder."""
    runtime: str | None
    """See `Detector.load`; None: PyTorch in float32, as a model is evaluated."""

    def load(self, callers: int) -> Detector:
        """Load it for so many threads, none of which makes the network take more than its own.

        Raises
        ------
        BundleError
            If the bundle is damaged.
        """
        with tempfile.TemporaryDirectory(prefix="defect-scoring-") as name:
            folder = Path(name)
            write_tree(self.files, folder)
            if self.runtime is None:
                return Detector.load(folder)
            detector = Detector.load(folder, self.runtime, threads=None if callers > 1 else 1)
            if detector.device == "cpu" and detector.at_once < callers:
                # What gives an image all processors gives each of several images one.
                detector = Detector.load(folder, self.runtime, threads=1)
            return detector
