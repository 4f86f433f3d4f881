"""A trained model, ready to look at images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from defect_assets.inference.bundle import WEIGHTS, BundleSpec, read_spec
from defect_assets.inference.model import build_model
from defect_assets.inference.postprocessing import Analysis


class Detector:
    """Finds defects in images.

    Parameters
    ----------
    network
        (n, channels, height, width) → logits (n, 1 + classes, height, width).
    spec
        How to feed the network and how to read it.
    device
        Where to run, ``cpu`` or ``cuda``; by default a GPU where there is one.
    """

    def __init__(self, network: nn.Module, spec: BundleSpec, device: str | None = None) -> None:
        self.spec = spec
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._network = network.to(self.device).eval()

    @classmethod
    def load(cls, folder: Path, device: str | None = None) -> "Detector":
        """Load a bundle from its folder.

        Raises
        ------
        BundleError
            If the folder holds no bundle.
        """
        spec = read_spec(folder)
        network = build_model(
            spec.architecture, spec.preprocessing.channels, 1 + len(spec.class_map)
        )
        network.load_state_dict(load_file(folder / WEIGHTS))
        return cls(network, spec, device)

    def analyze(self, image: np.ndarray) -> Analysis:
        """Find the defects of one image, uint8 of shape H × W or H × W × 3 (RGB)."""
        return self.analyze_batch([image])[0]

    def analyze_batch(self, images: Sequence[np.ndarray]) -> list[Analysis]:
        """Find the defects of several images, which may differ in size."""
        fitted = np.stack([self.spec.preprocessing.fit(image) for image in images])
        probabilities = self.probabilities(fitted)
        return [
            self._interpret(p, image.shape[:2])
            for p, image in zip(probabilities, images, strict=True)
        ]

    def probabilities(self, fitted: np.ndarray) -> np.ndarray:
        """Return each pixel's probabilities at the network's resolution.

        Parameters
        ----------
        fitted
            uint8 of shape (n, height, width, channels), from `Preprocessing.fit`.

        Returns
        -------
        numpy.ndarray
            float32 of shape (n, 1 + classes, height, width), each pixel summing to one.
        """
        inputs = torch.from_numpy(self.spec.preprocessing.normalize(fitted)).to(self.device)
        with torch.inference_mode():
            return self._predict(inputs).float().cpu().numpy()

    def _predict(self, inputs: Tensor) -> Tensor:
        views: list[tuple[int, ...]] = [(), (3,), (2,), (2, 3)] if self.spec.flips else [()]
        total = torch.zeros(())
        for axes in views:
            total = total + self._network(inputs.flip(axes)).softmax(dim=1).flip(axes)
        return total / len(views)

    def _interpret(self, probabilities: np.ndarray, size: tuple[int, ...]) -> Analysis:
        full = self.spec.preprocessing.restore(probabilities, (size[0], size[1]))
        return self.spec.postprocessing(full, self.spec.class_map)
