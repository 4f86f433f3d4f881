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
    processors,
)


class OpenVinoRuntime:
    """An exported network in OpenVINO, on the CPU.

    An image that comes alone gets all processors, which is soonest done; images that come while
    others are worked on get one processor each. Threads that share an image wait for each other in
    busy loops: of a U-Net with a ResNet-34 on two processors, that is a fifth of all time.

    Parameters
    ----------
    model
        The ONNX file.
    flips
        Whether to average over mirror images.
    precision
        What it computes in.
    threads
        How many the network may take, for one caller at a time.

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
        self.at_once = 1 if threads else processors()
        self._flips = flips
        hint = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[precision]
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint}
        alone = {"PERFORMANCE_HINT": "LATENCY"}
        if threads:
            # Pinned, the only threads of two processes would share one processor.
            settings |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        self._alone = _Network(core.compile_model(model, "CPU", settings | alone))
        self._beside = self._alone
        if self.at_once > 1:
            streams = {"NUM_STREAMS": self.at_once, "INFERENCE_NUM_THREADS": self.at_once}
            self._beside = _Network(core.compile_model(model, "CPU", settings | streams))
        self._running = 0
        self._lock = threading.Lock()

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        with self._lock:
            network = self._beside if self._running else self._alone
            self._running += 1
        try:
            # What a run returns is overwritten by the next one.
            return averaged(network, inputs) if self._flips else network(inputs).copy()
        finally:
            with self._lock:
                self._running -= 1


class _Network:
    """A compiled network, whose requests can each be run by one thread at a time."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._of_thread = threading.local()

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
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
