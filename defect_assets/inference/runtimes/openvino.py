"""OpenVINO: the fastest on a CPU, above all where the processor computes in bf16."""

import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from defect_assets.inference.runtimes.runtime import (
    Precision,
    RuntimeUnavailable,
    Variant,
    averaged,
)


class OpenVinoRuntime:
    """An exported network in OpenVINO, on the CPU.

    Parameters
    ----------
    model
        The ONNX file.
    flips
        Whether to average over mirror images.
    precision
        What it computes in.
    threads
        How many the network may take; by default a thread per core.

    Raises
    ------
    RuntimeUnavailable
        If OpenVINO is not installed, or the processor does not compute in this precision.
    """

    device = "cpu"

    def __init__(
        self, model: Path, flips: bool, precision: Precision = "fp32", threads: int | None = None
    ) -> None:
        core = _core()
        if precision.upper() not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise RuntimeUnavailable(f"this processor does not compute in {precision}")
        self.variant = Variant("openvino", precision)
        self._flips = flips
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[precision],
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled = core.compile_model(model, "CPU", settings)
        self._of_thread = threading.local()  # a request can only be run by one thread at a time

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        # What a run returns is overwritten by the next one.
        return averaged(self._run, inputs) if self._flips else self._run(inputs).copy()

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        request = self._of_thread.request
        request.infer([inputs], share_inputs=True, share_outputs=True)
        return request.get_output_tensor().data


@cache
def _core() -> Any:
    """Return OpenVINO's core, one for as long as the process lives.

    Each core gives the main thread a stack of its own for signal handlers, and takes it away at its
    end. Where cores end in another order than they began, the one that is left is gone, and the
    next signal that Python handles ends the process (openvino 2026.4).
    """
    try:
        import openvino
    except ImportError as error:
        raise RuntimeUnavailable("openvino is not installed: pip install it") from error
    return openvino.Core()
