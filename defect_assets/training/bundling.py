"""From a trained network to a bundle, its threshold chosen on the validation split."""

import json
from collections.abc import Iterable

from safetensors.torch import save

from defect_assets.dataset.images import LabelledImage
from defect_assets.evaluation.thresholds import choose_threshold
from defect_assets.inference.bundle import HISTORY, SPEC, WEIGHTS, BundleSpec
from defect_assets.inference.detector import Detector
from defect_assets.inference.postprocessing import Postprocessing
from defect_assets.inference.runtimes.pytorch import TorchRuntime
from defect_assets.inference.tiling import TrainingSizes
from defect_assets.training.config import TrainingConfig
from defect_assets.training.loop import TrainingResult


def make_bundle(
    result: TrainingResult,
    config: TrainingConfig,
    class_map: dict[int, str],
    val_images: Iterable[LabelledImage],
    sizes: TrainingSizes,
) -> dict[str, bytes]:
    """Return the files of a bundle.

    Parameters
    ----------
    result
        The trained network.
    config
        How it was trained.
    class_map
        Class ids, from 1 on, and their names.
    val_images
        The validation split in its original sizes, on which the threshold is chosen for the
        configuration's goal. The review threshold is half of it.
    sizes
        How large the images were that it was trained on.
    """
    spec = BundleSpec(
        architecture=config.architecture,
        preprocessing=config.input,
        postprocessing=Postprocessing(min_area_px=config.min_area_px),
        class_map=class_map,
        flips=config.flips,
        trained_on=sizes,
    )
    detector = Detector(TorchRuntime(result.network, spec.flips), spec)
    threshold = choose_threshold(
        ((detector.analyze(image.image).probability, image.mask > 0) for image in val_images),
        config.threshold_goal,
        config.min_area_px,
    )
    spec = spec.model_copy(
        update={
            "postprocessing": Postprocessing(
                threshold=threshold,
                review_threshold=round(threshold / 2, 4),
                min_area_px=config.min_area_px,
                goal=config.threshold_goal,
            )
        }
    )
    weights = {name: tensor.contiguous() for name, tensor in result.network.state_dict().items()}
    history = [point.model_dump() for point in result.history]
    return {
        WEIGHTS: save(weights),
        SPEC: spec.model_dump_json(indent=1).encode(),
        HISTORY: json.dumps(history, indent=1).encode(),
    }
