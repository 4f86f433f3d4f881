"""A trained model, ready to look at images."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from defect_assets.inference.bundle import BundleSpec, read_spec
from defect_assets.inference.postprocessing import Analysis, Postprocessing
from defect_assets.inference.preprocessing import Preprocessing
from defect_assets.inference.runtimes.runtime import Runtime
from defect_assets.inference.tiling import Tiling, tiling_of

WINDOWS_AT_ONCE = 8
"""Windows of a large image that the network sees in one batch: more take memory, not less time."""


class Detector:
    """Finds defects in images. Any number of threads may use it.

    Parameters
    ----------
    run
        What runs the network.
    spec
        How to feed the network and how to read it.
    """

    def __init__(self, run: Runtime, spec: BundleSpec) -> None:
        self.spec = spec
        self._run = run

    @classmethod
    def load(
        cls, folder: Path, runtime: str | None = None, device: str | None = None, **options: Any
    ) -> "Detector":
        """Load a bundle from its folder.

        Parameters
        ----------
        folder
            The bundle.
        runtime
            ``auto``, ``torch``, ``openvino``, ``onnx`` or ``tensorrt``, for those who serve. None:
            PyTorch in float32, as a model is evaluated.
        device
            ``cpu`` or ``cuda``; by default a GPU where there is one.
        options
            See `defect_assets.inference.runtimes.choice.load_runtime`.

        Raises
        ------
        BundleError
            If the folder holds no bundle, or a damaged file.
        RuntimeUnavailable
            If the runtime cannot be used here, or does not answer as PyTorch does.
        """
        spec = read_spec(folder)
        if runtime is None:
            from defect_assets.inference.runtimes.pytorch import TorchRuntime

            return cls(TorchRuntime.load(folder, spec, device=device), spec)
        # By its name: how a model is served is no part of the code that trains and evaluates, and a
        # change there must not make models out of date (`defect_assets.registry.code`).
        choice = importlib.import_module("defect_assets.inference.runtimes.choice")
        return cls(choice.load_runtime(folder, spec, runtime, device, **options), spec)

    @property
    def runtime(self) -> str:
        """What answers, e.g. ``openvino bf16``."""
        return str(self._run.variant)

    @property
    def device(self) -> str:
        """Where it computes, ``cpu`` or ``cuda``."""
        return self._run.device

    @property
    def at_once(self) -> int:
        """How many threads gain by asking it at once; any number may."""
        return self._run.at_once

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

        Those that are not too large are one batch.

        Returns
        -------
        list of numpy.ndarray
            For each image the network's probabilities, for `interpret`: who serves images runs
            the two in different threads.
        """
        tilings = [self._tiling(image.shape[:2]) for image in images]
        whole = [
            self.spec.preprocessing.fit(image)
            for image, tiling in zip(images, tilings, strict=True)
            if tiling is None
        ]
        fitted = iter(self.probabilities(np.stack(whole)) if whole else ())
        return [
            next(fitted) if tiling is None else self._slide(image, tiling)
            for image, tiling in zip(images, tilings, strict=True)
        ]

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
        full = self._restored(maps, size)
        return (postprocessing or self.spec.postprocessing)(full, self.spec.class_map)

    def likeliest_class(self, maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """Return the defect class, uint8 (H, W), that each pixel is most probably of, if of any."""
        full = self._restored(maps, size)
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
        return self._run(self.spec.preprocessing.normalize(fitted))

    def _slide(self, image: np.ndarray, tiling: Tiling) -> np.ndarray:
        windows = tiling.windows(image)
        return tiling.blend(
            self.probabilities(windows[i : i + WINDOWS_AT_ONCE])
            for i in range(0, len(windows), WINDOWS_AT_ONCE)
        )

    def _restored(self, maps: np.ndarray, size: tuple[int, ...]) -> "_Restored":
        tiling = self._tiling(size)
        canvas = self.spec.preprocessing if tiling is None else tiling.canvas
        return _Restored(canvas, maps, size)

    def _tiling(self, size: tuple[int, ...]) -> Tiling | None:
        return tiling_of((size[0], size[1]), self.spec.preprocessing, self.spec.trained_on)


class _Restored(Sequence[np.ndarray]):
    """Maps of what the network was shown, brought to an image's size, each when it is asked for.

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
