"""A small network that was trained for some seconds, for tests in which it matters what it says."""

from functools import lru_cache

from defect_assets.dataset.images import LabelledImage
from defect_assets.dataset.masks import decode_mask
from defect_assets.dataset.synthetic import synthetic_samples
from defect_assets.home import known_description
from defect_assets.inference.architecture import Architecture
from defect_assets.inference.images import decode_image
from defect_assets.inference.preprocessing import Preprocessing
from defect_assets.inference.tiling import TrainingSizes
from defect_assets.training.config import Sampling, TrainingConfig

CONFIG = TrainingConfig(
    architecture=Architecture(widths=(8, 16, 32)),
    input=Preprocessing(height=64, width=64),
    steps=400,
    sampling=Sampling(batch_size=8),
)


def tiles(first: int, count: int) -> list[LabelledImage]:
    """Return all exposures of some synthetic tiles."""
    description = known_description("synthetic-tiles")
    found = []
    for s in synthetic_samples(0, first, count):
        image = decode_image(s.image)
        mask = decode_mask(s.mask, s.class_name, (image.shape[0], image.shape[1]), description)
        found.append(LabelledImage(s.sample, s.class_name, s.group, s.exposure, image, mask))
    return found


@lru_cache
def unseen_tiles() -> list[LabelledImage]:
    """Return tiles that the network was not trained on."""
    return tiles(500, 16)


@lru_cache
def trained_bundle() -> dict[str, bytes]:
    """Return the files of the network's bundle."""
    from defect_assets.training.bundling import make_bundle
    from defect_assets.training.data import fit_images
    from defect_assets.training.loop import train

    description = known_description("synthetic-tiles")
    images = fit_images(tiles(1, 60), CONFIG.input, description.class_ids)
    result = train(CONFIG, images, images.only([]), description.class_map)
    sizes = TrainingSizes.of(images.sizes.tolist())
    return make_bundle(result, CONFIG, description.class_map, tiles(400, 8), sizes)
