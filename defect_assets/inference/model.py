"""The networks."""

import itertools

import torch
from torch import Tensor, nn

from defect_assets.inference.architecture import Architecture


def build_model(
    architecture: Architecture, in_channels: int, classes: int, pretrained: bool = False
) -> nn.Module:
    """Return a network: (n, in_channels, H, W) → logits (n, classes, H, W).

    Parameters
    ----------
    architecture
        Which one.
    in_channels
        Channels of the input.
    classes
        Channels of the output, the background among them.
    pretrained
        Whether to fetch the architecture's `encoder_weights`, as the start of a training.
    """
    if architecture.name == "compact_unet":
        return CompactUNet(in_channels, classes, architecture.widths)
    # It brings timm and torchvision along, which the compact network does without.
    import segmentation_models_pytorch as smp

    return smp.create_model(
        architecture.name,
        encoder_name=architecture.encoder,
        encoder_weights=architecture.encoder_weights if pretrained else None,
        in_channels=in_channels,
        classes=classes,
    )


class CompactUNet(nn.Module):
    """A U-Net for small data and few cores.

    After Ronneberger et al. 2015, with a first layer of stride 2 and a sub-pixel head (Shi et al.
    2016), so that no convolution runs at full resolution.

    Parameters
    ----------
    in_channels
        Channels of the input.
    classes
        Channels of the output.
    widths
        Channels per level; the first level has half the input's resolution.
    """

    def __init__(self, in_channels: int, classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = _convolution(in_channels, widths[0], stride=2)
        self.encoder = nn.ModuleList(
            _block(before, after, stride=2) for before, after in itertools.pairwise(widths)
        )
        self.decoder = nn.ModuleList(
            _block(deep + shallow, shallow)
            for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Sequential(nn.Conv2d(widths[0], 4 * classes, 1), nn.PixelShuffle(2))

    def forward(self, images: Tensor) -> Tensor:
        features = [self.stem(images)]
        for block in self.encoder:
            features.append(block(features[-1]))
        x = features.pop()
        for block in self.decoder:
            shallow = features.pop()
            x = nn.functional.interpolate(x, size=shallow.shape[-2:], mode="nearest")
            x = block(torch.cat([x, shallow], dim=1))
        return self.head(x)


def _convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


def _block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_convolution(before, after, stride), _convolution(after, after))
