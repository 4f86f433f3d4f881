"""ONNX Runtime."""

from pathlib import Path

import numpy as np

from defect_assets.inference.runtimes.runtime import RuntimeUnavailable, Variant, averaged

Provider = tuple[str, dict[str, str]]


class OnnxRuntime:
    """An exported network in ONNX Runtime.

    Parameters
    ----------
    model
        The ONNX file.
    flips
        Whether to average over mirror images.
    threads
        How many the network may take; by default a thread per core.
    variant
        What it is called; what it computes in is the provider's business.
    provider
        An execution provider of ONNX Runtime and its options.
    device
        Where that computes.

    Raises
    ------
    RuntimeUnavailable
        If ONNX Runtime or the provider is not installed.
    """

    at_once = 1

    def __init__(
        self,
        model: Path,
        flips: bool,
        threads: int | None = None,
        variant: Variant = Variant("onnx", "fp32"),
        provider: Provider = ("CPUExecutionProvider", {}),
        device: str = "cpu",
    ) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise RuntimeUnavailable("onnxruntime is not installed: pip install it") from error
        if provider[0] not in onnxruntime.get_available_providers():
            raise RuntimeUnavailable(
                f"the installed onnxruntime has no {provider[0]}: install onnxruntime-gpu"
            )
        self.variant = variant
        self.device = device
        self._flips = flips
        options = onnxruntime.SessionOptions()
        if threads:
            options.intra_op_num_threads = threads
        # Threads that wait in busy loops take the processor from those who decode images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(model, options, providers=[provider])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return averaged(self._run, inputs) if self._flips else self._run(inputs)

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self._input: inputs})[0]
