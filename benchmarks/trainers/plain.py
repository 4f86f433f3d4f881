"""A plain PyTorch loop with a DataLoader over files, in our environment."""

import itertools
from collections.abc import Iterator

import albumentations as A
import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.trainers.shared import Job, Meter, PlainLoss, read_mask
from defect_assets.inference.model import build_model
from defect_assets.training.augmentation import build_transform
from defect_assets.training.config import TrainingConfig


class Tiles(Dataset):
    """Images and masks, decoded whenever they are asked for."""

    def __init__(self, files: list[tuple[str, str, int]], config: TrainingConfig) -> None:
        self._files = files
        self._input = config.input
        self._transform = A.Compose(
            [
                A.Resize(config.input.height, config.input.width, interpolation=cv2.INTER_AREA),
                *map(build_transform, config.augmentation),
            ]
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        path, mask_path, class_id = self._files[index]
        image = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
        changed = self._transform(image=image, mask=read_mask(mask_path, class_id))
        inputs = self._input.normalize(changed["image"][None, ..., None])[0]
        return torch.from_numpy(inputs), torch.from_numpy(changed["mask"]).long()


def endless(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from loader


def main() -> None:
    """Train, and print what it took."""
    job = Job.begin()
    config = TrainingConfig(**job.config)
    workers = job.variant["workers"]
    loader = DataLoader(
        Tiles(job.images, config),
        batch_size=config.sampling.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=job.device == "cuda",
    )
    layout = torch.channels_last if job.variant["channels_last"] else torch.contiguous_format
    network = build_model(config.architecture, config.input.channels, job.classes)
    network = network.to(job.device, memory_format=layout).train()
    loss_function = PlainLoss(dict(config.loss))
    rate, decay = config.optimizer.learning_rate, config.optimizer.weight_decay
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=job.total)
    meter = Meter(job)
    for inputs, masks in meter.watch(itertools.islice(endless(loader), job.total)):
        inputs = inputs.to(job.device, memory_format=layout)
        with torch.autocast(job.device, torch.bfloat16, enabled=job.bf16):
            logits = network(inputs)
        loss = loss_function(logits, masks.to(job.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    meter.finish()


if __name__ == "__main__":
    main()
