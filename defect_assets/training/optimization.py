"""Optimizers and schedules of the learning rate."""

import math

import torch
from torch import nn
from torch.optim import Optimizer as TorchOptimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from defect_assets.training.config import Optimizer, Schedule


def build_optimizer(network: nn.Module, config: Optimizer) -> TorchOptimizer:
    """Return the optimizer of a network's weights."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        return torch.optim.SGD(groups, config.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, config.learning_rate, fused=True)


def build_schedule(optimizer: TorchOptimizer, config: Schedule, steps: int) -> LRScheduler:
    """Return the schedule of a training of some steps."""
    if config.name == "one_cycle":
        rates = [group["lr"] for group in optimizer.param_groups]
        # A rise of no step at all is a division by zero.
        rise = max(config.warmup, 1.5 / max(steps, 2))
        return OneCycleLR(optimizer, rates, total_steps=max(steps, 2), pct_start=rise)
    warmup = config.warmup * steps

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if config.name == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))

    return LambdaLR(optimizer, factor)
