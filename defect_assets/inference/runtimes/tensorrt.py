"""TensorRT, as an execution provider of ONNX Runtime.

Not tested where this was written, which has no GPU. What it answers is compared with PyTorch's
whenever it is loaded, as that of every runtime.
"""

from pathlib import Path

from defect_assets.inference.runtimes.onnx import OnnxRuntime
from defect_assets.inference.runtimes.runtime import Precision, Variant


class TensorRtRuntime(OnnxRuntime):
    """An exported network in TensorRT.

    Parameters
    ----------
    model
        The ONNX file.
    flips
        Whether to average over mirror images.
    precision
        What it may compute in.

    Raises
    ------
    RuntimeUnavailable
        If ONNX Runtime is not installed, or not with TensorRT.
    """

    def __init__(self, model: Path, flips: bool, precision: Precision = "fp16") -> None:
        options = {"trt_fp16_enable": str(precision == "fp16")}
        super().__init__(
            model,
            flips,
            variant=Variant("tensorrt", precision),
            provider=("TensorrtExecutionProvider", options),
            device="cuda",
        )
