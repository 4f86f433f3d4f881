"""A trained model, ready to look at images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from defect_assets.inference.bundle import WEIGHTS, BundleSpec, read_spec
from defect_assets.inference.model import build_model
from defect_assets.inference.postprocessing import Analysis, Postprocessing
from defect_assets.inference.preprocessing import Preprocessing


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

    runtime = "torch"
    """What runs the network."""

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
        return [
            self.interpret(maps, image.shape[:2])
            for maps, image in zip(self.predict(images), images, strict=True)
        ]

    def predict(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the network on several images, which may differ in size.

        Returns
        -------
        list of numpy.ndarray
            For each image the network's probabilities, for `interpret`: who serves images runs
            the two in different threads.
        """
        fitted = np.stack([self.spec.preprocessing.fit(image) for image in images])
        return list(self.probabilities(fitted))

    def interpret(
        self,
        maps: np.ndarray,
        size: tuple[int, ...],
        postprocessing: Postprocessing | None = None,
    ) -> Analysis:
        """Find the defects in what `predict` returned for an image.

        Parameters
        ----------
        maps
            Of one image.
        size
            Its height and width.
        postprocessing
            What counts as a defect; by default the bundle's.
        """
        full = _Restored(self.spec.preprocessing, maps, size)
        return (postprocessing or self.spec.postprocessing)(full, self.spec.class_map)

    def likeliest_class(self, maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """Return the defect class, uint8 (H, W), that each pixel is most probably of, if of any."""
        full = _Restored(self.spec.preprocessing, maps, size)
        best, likeliest = full[1], np.ones(size[:2], np.uint8)
        for class_id in range(2, len(full)):
            here = full[class_id]
            likeliest[here > best] = class_id
            np.maximum(best, here, out=best)
        return likeliest

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


class _Restored(Sequence[np.ndarray]):
    """Maps of the network's input brought to an image's size, each when it is asked for.

    Most parts are fine, and of those no more than the first is.
    """

    def __init__(
        self, preprocessing: Preprocessing, maps: np.ndarray, size: tuple[int, ...]
    ) -> None:
        self._preprocessing = preprocessing
        self._maps = maps
        self._size = (size[0], size[1])

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, index: Any) -> Any:
        return self._preprocessing.restore(self._maps[index][None], self._size)[0]
