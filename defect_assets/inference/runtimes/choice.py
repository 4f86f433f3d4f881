"""Which runtime answers: the fastest one that is here and says what PyTorch says."""

import logging
from pathlib import Path
from typing import Literal

import numpy as np

from defect_assets.inference.bundle import BundleSpec
from defect_assets.inference.exported import (
    CHECK,
    MIN_AGREEMENT,
    MODEL,
    Exported,
    Sample,
    classes_of,
    read_exported,
)
from defect_assets.inference.runtimes.runtime import Runtime, RuntimeUnavailable, Variant

Choice = Literal["auto", "torch", "openvino", "onnx", "tensorrt"]

ON_CPU = (
    Variant("openvino", "bf16"),
    Variant("openvino", "fp32"),
    Variant("torch", "bf16"),
    Variant("torch", "fp32"),
    Variant("onnx", "fp32"),
)
"""Fastest first, as `benchmarks.runtimes` measures them."""
ON_GPU = (Variant("torch", "bf16"), Variant("torch", "fp16"), Variant("torch", "fp32"))
TENSORRT = (Variant("tensorrt", "fp16"), Variant("tensorrt", "fp32"))

_log = logging.getLogger(__name__)


def load_runtime(
    folder: Path,
    spec: BundleSpec,
    choice: Choice = "auto",
    device: str | None = None,
    threads: int | None = None,
    compiled: bool = False,
) -> Runtime:
    """Load a bundle's network into a runtime, and see that it answers as it should.

    What is not PyTorch in float32 is only taken if it answered as that does on the test split, when
    the bento was built, and does so here, on some of the same images: another processor computes
    otherwise. So the first, slow run is over as well.

    Parameters
    ----------
    folder
        The bundle, with what was exported of it.
    spec
        The bundle's description.
    choice
        Which runtime; ``auto``: PyTorch on a GPU, on a CPU OpenVINO where it can be had.
    device
        ``cpu`` or ``cuda``; by default a GPU where there is one that PyTorch knows of.
    threads
        How many the network may take, on a CPU; by default as many as the runtime thinks best.
    compiled
        Whether PyTorch is to compile the network.

    Raises
    ------
    RuntimeUnavailable
        If there is no such runtime here that answers as it should; the message says why.
    BundleError
        If a file is missing or damaged.
    """
    exported = read_exported(folder)
    device = device or ("cuda" if _gpu() else "cpu")
    why_not = []
    for variant in variants(choice, device):
        try:
            runtime = open_runtime(variant, folder, spec, exported, device, threads, compiled)
            _check(runtime, folder, spec, exported)
        except RuntimeUnavailable as error:
            why_not.append(f"{variant}: {error}")
            continue
        for reason in why_not:
            _log.info("passed over %s", reason)
        return runtime
    raise RuntimeUnavailable(
        f"no runtime ({choice}) can be used on this {device}: {'; '.join(why_not)}"
    )


def variants(choice: Choice, device: str) -> tuple[Variant, ...]:
    """Return what to try, the fastest first."""
    first = ON_CPU if device == "cpu" else ON_GPU
    if choice == "auto":
        return first
    return tuple(v for v in dict.fromkeys(first + ON_CPU + TENSORRT) if v.runtime == choice)


def open_runtime(
    variant: Variant,
    folder: Path,
    spec: BundleSpec,
    exported: Exported | None,
    device: str,
    threads: int | None = None,
    compiled: bool = False,
) -> Runtime:
    """Load a bundle's network into one runtime, in one precision.

    Raises
    ------
    RuntimeUnavailable
        If it is not installed here, the processor does not compute so, nothing was exported, or it
        was refused.
    """
    if exported is not None and str(variant) in exported.refused:
        raise RuntimeUnavailable("it answered otherwise than PyTorch when the bento was built")
    if variant.runtime == "torch":
        try:
            import torch
        except ImportError as error:
            raise RuntimeUnavailable("torch is not installed: pip install it") from error
        from defect_assets.inference.runtimes.pytorch import TorchRuntime

        if threads and device == "cpu":
            torch.set_num_threads(threads)
        return TorchRuntime.load(folder, spec, variant.precision, device, compiled)
    if exported is None or MODEL not in exported.files:
        raise RuntimeUnavailable(f"{folder} has no {MODEL}: it is made when a bento is built")
    model = folder / MODEL
    if variant.runtime == "openvino":
        from defect_assets.inference.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(model, spec.flips, variant.precision, threads)
    if variant.runtime == "tensorrt":
        from defect_assets.inference.runtimes.tensorrt import TensorRtRuntime

        return TensorRtRuntime(model, spec.flips, variant.precision)
    from defect_assets.inference.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(model, spec.flips, threads)


def _check(runtime: Runtime, folder: Path, spec: BundleSpec, exported: Exported | None) -> None:
    """Make sure that a runtime answers as PyTorch in float32 does, on this processor."""
    if exported is None or CHECK not in exported.files:
        if runtime.variant.precision != "fp32":
            raise RuntimeUnavailable(f"{folder} has no {CHECK} to hold it against")
        return
    sample = Sample.load(folder / CHECK)
    found = classes_of(runtime(spec.preprocessing.normalize(sample.fitted)), spec.postprocessing)
    agreement = float(np.mean(found == sample.classes))
    if agreement < MIN_AGREEMENT:
        raise RuntimeUnavailable(
            f"{1 - agreement:.2%} of the pixels are of another class than by PyTorch in fp32"
        )


def _gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()
