"""What a training needs of the machine, estimated before it begins."""

from typing import NamedTuple

from defect_assets.training.config import TrainingConfig

WORKING = 2**29
"""Bytes for the libraries, the batches and what the network remembers between its layers."""
_STATE = 16
"""Bytes a parameter: itself, its gradient and two moments of Adam; a checkpoint holds as much."""


class Needs(NamedTuple):
    """Bytes that must be free."""

    memory: int
    disk: int
    gpu: int


def needs(config: TrainingConfig, images: int, classes: int) -> Needs:
    """Estimate what a training takes at its peak.

    Parameters
    ----------
    config
        What is trained, and at which resolution.
    images
        Number of images that are held, for training and validation.
    classes
        Number of defect classes.

    Raises
    ------
    ValueError
        If the network cannot be built; the message says why.
    """
    pixels = config.input.height * config.input.width
    fitted = images * pixels * (config.input.channels + 1)  # and the mask
    state = _STATE * parameters(config, classes)
    return Needs(
        memory=2 * fitted + state + WORKING,  # the images one by one, and stacked
        disk=2 * (fitted + state),  # the new checkpoint beside the old one, and the bundle
        gpu=state + WORKING,
    )


def parameters(config: TrainingConfig, classes: int) -> int:
    """Return how many parameters a configuration's network has.

    Raises
    ------
    ValueError
        If it cannot be built; the message says why.
    """
    from defect_assets.inference.model import build_model

    try:
        # For real: not every encoder can be built on PyTorch's device without memory.
        network = build_model(config.architecture, config.input.channels, 1 + classes)
    except (KeyError, RuntimeError) as error:  # an encoder that nobody knows
        raise ValueError(str(error)) from error
    return sum(weight.numel() for weight in network.parameters())
