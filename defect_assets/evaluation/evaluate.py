"""The evaluation of a detector."""

from collections.abc import Iterable

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.counter import Counter, Evaluation
from defect_assets.inference.bundle import BundleSpec
from defect_assets.inference.detector import Detector
from defect_assets.inference.postprocessing import Analysis


def evaluate(
    detector: Detector, images: Iterable[LabelledImage], description: DatasetDescription
) -> Evaluation:
    """Run a detector over labelled images, of which there is at least one."""
    looked_at = ((image, detector.analyze(image.image)) for image in images)
    return count(looked_at, detector.spec, description)


def count(
    looked_at: Iterable[tuple[LabelledImage, Analysis]],
    spec: BundleSpec,
    description: DatasetDescription,
) -> Evaluation:
    """Count images, at least one, and what a detector made of them.

    Parameters
    ----------
    looked_at
        The images and what was found in them.
    spec
        Of the detector's bundle.
    description
        Of the dataset; the masks have its classes.
    """
    counter = Counter(spec.class_map, spec.postprocessing.threshold)
    for image, analysis in looked_at:
        truth = image if spec.class_map == description.class_map else image.as_binary()
        counter.add(truth, analysis)
    return counter.counted()
