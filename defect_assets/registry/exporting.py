"""Exporting a model for other runtimes than PyTorch, and comparing what they answer.

A runtime that does not answer as PyTorch in float32 does, with which the model was evaluated, is
refused: it would serve another model than the one that was released.
"""

import hashlib
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.overlap import dice
from defect_assets.inference.bundle import BundleSpec, read_spec
from defect_assets.inference.detector import Detector
from defect_assets.inference.exported import (
    CHECK,
    EXPORTED,
    MIN_AGREEMENT,
    MODEL,
    Exported,
    Sample,
    classes_of,
)
from defect_assets.inference.postprocessing import Analysis
from defect_assets.inference.runtimes.choice import ON_CPU, open_runtime
from defect_assets.inference.runtimes.pytorch import load_network
from defect_assets.inference.runtimes.runtime import RuntimeUnavailable

MAX_DICE_DIFFERENCE = 0.005
"""By how much the Dice on the truth may differ. Where defects are few and small, masks agree in
nearly all pixels though the defects are lost."""
OF_EACH_CLASS = 8
"""Images of each class of the test split that are compared."""
IN_CHECK = 8
"""Images among them that travel with the model, to be compared again wherever it is loaded."""


class Comparison(BaseModel):
    """What a runtime answers, held against PyTorch in float32."""

    model_config = ConfigDict(frozen=True)

    runtime: str
    """E.g. ``openvino bf16``."""
    images: int
    agreement: float
    """Share of the pixels of all images that are of the same class."""
    dice: float
    """On the truth, pooled over all pixels, any class of defect against none."""
    dice_of_pytorch: float
    verdicts: int
    """Images that got the same verdict."""

    @property
    def passed(self) -> bool:
        """Whether it may be served."""
        return (
            self.agreement >= MIN_AGREEMENT
            and abs(self.dice - self.dice_of_pytorch) <= MAX_DICE_DIFFERENCE
        )


def export_runtimes(folder: Path, images: Sequence[LabelledImage]) -> list[Comparison]:
    """Add to a bundle's folder what other runtimes than PyTorch need.

    Parameters
    ----------
    folder
        The bundle; gets the files that `defect_assets.inference.exported` describes. The ONNX file
        is left out if all that would read it are refused.
    images
        Of the test split.

    Returns
    -------
    list of Comparison
        One for each runtime and precision that can be had on this machine's processor.
    """
    spec = read_spec(folder)
    detector = Detector.load(folder, device="cpu")
    export_onnx(load_network(folder, spec), spec, folder / MODEL)
    (folder / CHECK).write_bytes(_sample(detector, images).save())
    exported = _describe(folder)
    expected = [detector.analyze(image.image) for image in images]
    comparisons = []
    for variant in (v for v in ON_CPU if str(v) != detector.runtime):
        with suppress(RuntimeUnavailable):
            runtime = Detector(open_runtime(variant, folder, spec, exported, "cpu"), spec)
            found = [runtime.analyze(image.image) for image in images]
            comparisons.append(_compare(runtime.runtime, images, found, expected))
    refused = [c.runtime for c in comparisons if not c.passed]
    if not any(c.passed and not c.runtime.startswith("torch") for c in comparisons):
        (folder / MODEL).unlink()
    _describe(folder, refused)
    return comparisons


def export_onnx(network: nn.Module, spec: BundleSpec, path: Path) -> None:
    """Write a network with a softmax behind it as an ONNX file, for batches of any size.

    By PyTorch's older exporter: the newer one takes ten seconds instead of a half, and writes the
    paths of the sources into the file.
    """
    shape = (2, spec.preprocessing.channels, spec.preprocessing.height, spec.preprocessing.width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is the older one
        torch.onnx.export(
            nn.Sequential(network, nn.Softmax(dim=1)).eval(),
            (torch.zeros(shape),),
            path,
            dynamo=False,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_axes={"images": {0: "n"}, "probabilities": {0: "n"}},
        )


def _sample(detector: Detector, images: Sequence[LabelledImage]) -> Sample:
    """Return what travels with the model."""
    chosen = images[:: -(-len(images) // IN_CHECK)]
    fitted = np.stack([detector.spec.preprocessing.fit(image.image) for image in chosen])
    probabilities = detector.probabilities(fitted)
    return Sample(fitted, classes_of(probabilities, detector.spec.postprocessing))


def _describe(folder: Path, refused: Sequence[str] = ()) -> Exported:
    """Write which exported files there are."""
    paths = [folder / name for name in (MODEL, CHECK) if (folder / name).exists()]
    exported = Exported(
        files={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
        refused=tuple(refused),
    )
    (folder / EXPORTED).write_text(exported.model_dump_json(indent=1))
    return exported


def _compare(
    runtime: str,
    images: Sequence[LabelledImage],
    found: Sequence[Analysis],
    expected: Sequence[Analysis],
) -> Comparison:
    pairs = list(zip(found, expected, strict=True))
    same = sum(int((f.mask == e.mask).sum()) for f, e in pairs)
    return Comparison(
        runtime=runtime,
        images=len(images),
        agreement=same / sum(image.mask.size for image in images),
        dice=_dice(images, found),
        dice_of_pytorch=_dice(images, expected),
        verdicts=sum(f.verdict == e.verdict for f, e in pairs),
    )


def _dice(images: Sequence[LabelledImage], found: Sequence[Analysis]) -> float:
    pairs = [(i.mask > 0, f.mask > 0) for i, f in zip(images, found, strict=True)]
    return dice(
        tp=sum(int((truth & mask).sum()) for truth, mask in pairs),
        fp=sum(int((~truth & mask).sum()) for truth, mask in pairs),
        fn=sum(int((truth & ~mask).sum()) for truth, mask in pairs),
    )
