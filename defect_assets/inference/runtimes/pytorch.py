"""PyTorch: what the model was trained and measured with, and what all others are held against."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from defect_assets.inference.bundle import WEIGHTS, BundleSpec
from defect_assets.inference.model import build_model
from defect_assets.inference.runtimes.runtime import Precision, RuntimeUnavailable, Variant

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchRuntime:
    """A network of PyTorch.

    Parameters
    ----------
    network
        (n, channels, height, width) → logits (n, 1 + classes, height, width).
    flips
        Whether to average over mirror images.
    precision
        What convolutions compute in; weights and probabilities are float32.
    device
        ``cpu`` or ``cuda``; by default a GPU where there is one.
    compiled
        Whether to compile the network. It takes up to a minute, at the first call, and a C
        compiler.

    Raises
    ------
    RuntimeUnavailable
        If the processor does not compute in this precision.
    """

    at_once = 1

    def __init__(
        self,
        network: nn.Module,
        flips: bool = False,
        precision: Precision = "fp32",
        device: str | None = None,
        compiled: bool = False,
    ) -> None:
        self.variant = Variant("torch", precision)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        _check_precision(precision, self.device)
        self._flips = flips
        self._type = _TYPES[precision]
        network = network.to(self.device).to(memory_format=torch.channels_last).eval()
        self._network = torch.compile(network, dynamic=True) if compiled else network

    @classmethod
    def load(
        cls,
        folder: Path,
        spec: BundleSpec,
        precision: Precision = "fp32",
        device: str | None = None,
        compiled: bool = False,
    ) -> "TorchRuntime":
        """Load the network of a bundle from its folder."""
        return cls(load_network(folder, spec), spec.flips, precision, device, compiled)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(inputs)
        if self.device != "cpu":  # from pinned memory, the copy does not wait for the GPU
            images = images.pin_memory().to(self.device, non_blocking=True)
        with (
            torch.inference_mode(),
            torch.autocast(self.device, self._type, enabled=self._type != torch.float32),
        ):
            return self._predict(images).float().cpu().numpy()

    def _predict(self, images: Tensor) -> Tensor:
        if not self._flips:
            return self._softmax(images)
        views = torch.cat([images, images.flip(3), images.flip(2), images.flip(2, 3)])
        seen = self._softmax(views).unflatten(0, (4, len(images)))
        return (seen[0] + seen[1].flip(3) + seen[2].flip(2) + seen[3].flip(2, 3)) / 4

    def _softmax(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        return self._network(images).float().softmax(dim=1)


def load_network(folder: Path, spec: BundleSpec) -> nn.Module:
    """Load the network of a bundle, to be evaluated rather than trained."""
    network = build_model(spec.architecture, spec.preprocessing.channels, 1 + len(spec.class_map))
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network.eval()


def _check_precision(precision: Precision, device: str) -> None:
    if device == "cpu":
        native = precision == "fp32" or (
            precision == "bf16"
            and torch.backends.mkldnn.is_available()
            and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
    else:
        native = precision != "bf16" or torch.cuda.is_bf16_supported(including_emulation=False)
    if not native:
        raise RuntimeUnavailable(f"PyTorch does not compute in {precision} on this {device}")
