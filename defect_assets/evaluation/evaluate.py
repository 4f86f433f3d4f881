"""The evaluation of a detector."""

from collections.abc import Iterable

from defect_assets.dataset.description import DatasetDescription
from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.counter import Counter, Evaluation
from defect_assets.inference.detector import Detector


def evaluate(
    detector: Detector, images: Iterable[LabelledImage], description: DatasetDescription
) -> Evaluation:
    """Run a detector over labelled images, of which there is at least one."""
    class_map = detector.spec.class_map
    counter = Counter(class_map, detector.spec.postprocessing.threshold)
    for image in images:
        truth = image if class_map == description.class_map else image.as_binary()
        counter.add(truth, detector.analyze(truth.image))
    return counter.counted()
