"""fastai's side, in its own environment: a DataBlock, a Learner, `fit_one_cycle`."""

import math

import albumentations as A
import numpy as np
from fastai.callback.core import CancelFitException
from fastai.callback.schedule import Callback  # with it, learners have fit_one_cycle
from fastai.data.block import DataBlock
from fastai.data.transforms import IndexSplitter, ItemTransform, Normalize
from fastai.learner import Learner
from fastai.vision.augment import Resize, ResizeMethod, aug_transforms
from fastai.vision.core import PILImageBW, PILMask
from fastai.vision.data import ImageBlock, MaskBlock
from torch import Tensor

from benchmarks.trainers.shared import Job, Meter, PlainLoss, read_mask
from defect_assets.inference.architecture import Architecture
from defect_assets.inference.model import build_model


class Albumentations(ItemTransform):
    """Transforms of albumentations, as fastai's documentation wraps them."""

    split_idx = 0

    def __init__(self, transform: A.Compose) -> None:
        self.transform = transform

    def encodes(self, x):
        """Change an image and its mask."""
        image, mask = x
        changed = self.transform(image=np.array(image), mask=np.array(mask))
        return PILImageBW.create(changed["image"]), PILMask.create(changed["mask"])


class Clock(Callback):
    """Tells the meter of each step, and ends after the last."""

    def __init__(self, meter: Meter, steps: int) -> None:
        self.meter, self.steps = meter, steps

    def before_fit(self) -> None:
        self.meter.tick()

    def after_batch(self) -> None:
        self.meter.tick()
        if self.train_iter == self.steps:
            raise CancelFitException


def main() -> None:
    """Train, and print what it took."""
    job = Job.begin()
    config = job.config
    size = (config["input"]["height"], config["input"]["width"])
    item_transforms = [Resize(size, method=ResizeMethod.Squish)]
    batch_transforms = [Normalize.from_stats([0.5], [0.25])]
    if job.variant["augmentation"] == "albumentations":
        chosen = [
            getattr(A, name)(**arguments)
            for transform in config["augmentation"]
            for name, arguments in transform.items()
        ]
        item_transforms.append(Albumentations(A.Compose(chosen)))
    else:
        # The nearest to flips and brightness; without affine changes it has the least to do.
        own = aug_transforms(
            flip_vert=True, max_lighting=0.15, p_lighting=0.5, p_affine=0, max_warp=0
        )
        batch_transforms = [*own, *batch_transforms]
    block = DataBlock(
        blocks=(ImageBlock(cls=PILImageBW), MaskBlock()),
        get_x=lambda files: files[0],
        get_y=lambda files: read_mask(files[1], files[2]),
        splitter=IndexSplitter([]),
        item_tfms=item_transforms,
        batch_tfms=batch_transforms,
    )
    loaders = block.dataloaders(
        job.images, bs=config["sampling"]["batch_size"], num_workers=job.variant["workers"]
    )
    architecture = Architecture(**config["architecture"])
    network = build_model(architecture, config["input"]["channels"], job.classes)
    terms = PlainLoss(config["loss"])

    def loss(logits: Tensor, masks: Tensor) -> Tensor:
        # fastai's own losses, too, leave its subclasses of tensors behind.
        return terms(logits.as_subclass(Tensor), masks.as_subclass(Tensor))

    meter = Meter(job)
    learner = Learner(
        loaders,
        network,
        loss_func=loss,
        wd=config["optimizer"]["weight_decay"],
        cbs=[Clock(meter, job.total)],
    )
    epochs = math.ceil(job.total / len(loaders.train))
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(epochs, config["optimizer"]["learning_rate"])
    meter.finish()


if __name__ == "__main__":
    main()
