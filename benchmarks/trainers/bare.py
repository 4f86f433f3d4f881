"""The limit: forward, loss and backward on one batch that stays on the device, and nothing else."""

import torch
from torch import Tensor, nn

from benchmarks.trainers.ours import read_files
from benchmarks.trainers.shared import TILES, Job, Meter
from defect_assets.dataset.description import DatasetDescription
from defect_assets.inference.model import build_model
from defect_assets.settings import read_settings
from defect_assets.training.batches import Batches
from defect_assets.training.config import TrainingConfig
from defect_assets.training.data import fit_images
from defect_assets.training.loss import Loss


def repeat(
    network: nn.Module, loss: nn.Module, inputs: Tensor, masks: Tensor, job: Job, meter: Meter
) -> None:
    """Take the gradient of one batch again and again."""
    for _ in meter.watch(range(job.total)):
        with torch.autocast(job.device, torch.bfloat16, enabled=job.bf16):
            logits = network(inputs)
        network.zero_grad()
        loss(logits.float(), masks).backward()


def main() -> None:
    """Make one batch of ours, and print what its steps take."""
    job = Job.begin()
    config = TrainingConfig(**job.config)
    description = read_settings(TILES, DatasetDescription)
    images = fit_images(read_files(job.images, description), config.input, description.class_ids)
    inputs, masks = Batches(images, config, description.class_map)[1]
    network = build_model(config.architecture, config.input.channels, job.classes)
    network = network.to(job.device, memory_format=torch.channels_last).train()
    inputs = inputs.to(job.device, memory_format=torch.channels_last)
    meter = Meter(job)
    repeat(network, Loss(config.loss), inputs, masks.to(job.device), job, meter)
    meter.finish()


if __name__ == "__main__":
    main()
