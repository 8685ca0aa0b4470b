"""Encoders: image -> four feature levels E2, E3, E4, E5.

Source: paper Figure 2 takes E2 to E5 of ResNet-50 or VGG-16. The VGG-16 layout (BatchNorm, pools that round up,
no fifth pool, so strides 2 to 16) is the released code's. Any other network is timm's `features_only`.
"""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast
from urllib.error import URLError

import timm
from timm.models import FeatureInfo
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, VGG16_BN_Weights, resnet50, vgg16_bn

from net.state_dicts import check_values, fitting
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.plugins import Registry

LEVELS = 4  # E2..E5


class EncoderError(UserError):
    """An encoder that is not known, or whose weights can't be had or don't fit."""


class Encoder(nn.Module):
    """Base of all encoders.

    Attributes:
        channels: widths of E2, E3, E4, E5.
        strides: their strides in pixels of the image.
    """

    channels: Sequence[int]
    strides: Sequence[int]

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> E2..E5, each (B, channels[i], about H / strides[i], about W / strides[i])."""
        raise NotImplementedError


class ResNet50(Encoder):
    """torchvision's ResNet-50 without its classifier; state-dict keys are torchvision's."""

    channels = (256, 512, 1024, 2048)
    strides = (4, 8, 16, 32)

    def __init__(self, weights: ResNet50_Weights | None = None) -> None:
        super().__init__()
        body = resnet50(weights=weights)
        self.conv1, self.bn1, self.relu, self.maxpool = body.conv1, body.bn1, body.relu, body.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            body.layer1,
            body.layer2,
            body.layer3,
            body.layer4,
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """See `Encoder.forward`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))  # (B, 64, H / 4, W / 4)
        levels: list[Tensor] = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            levels.append(x)
        return levels


class VGG16(Encoder):
    """torchvision's vgg16_bn up to the last convolution of block 5; keys are torchvision's `features.*`."""

    channels = (128, 256, 512, 512)
    strides = (2, 4, 8, 16)
    taps = (12, 22, 32, 42)  # the last ReLU of blocks 2, 3, 4, 5

    def __init__(self, weights: VGG16_BN_Weights | None = None) -> None:
        super().__init__()
        layers = list(vgg16_bn(weights=weights).features.children())
        self.features = nn.Sequential(*layers[: self.taps[-1] + 1])
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = True  # as in the released code: odd sizes keep their last row

    def forward(self, image: Tensor) -> list[Tensor]:
        """See `Encoder.forward`."""
        x, levels = image, []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                levels.append(x)
        return levels


class Timm(Encoder):
    """The last four levels of a timm network built with `features_only=True`."""

    def __init__(self, name: str, pretrained: bool = False) -> None:
        super().__init__()
        self.body = timm.create_model(name, pretrained=pretrained, features_only=True)
        info = cast(FeatureInfo, self.body.feature_info)
        self.channels, self.strides = tuple(info.channels()[-LEVELS:]), tuple(info.reduction()[-LEVELS:])
        if len(self.channels) < LEVELS:
            raise EncoderError(
                f"encoder '{name}' has {len(self.channels)} levels, {LEVELS} are needed. Choose another."
            )

    def forward(self, image: Tensor) -> list[Tensor]:
        """See `Encoder.forward`."""
        return self.body(image)[-LEVELS:]


Factory = Callable[[bool], Encoder]
REGISTRY: Registry[Factory] = Registry("encoder", EncoderError)
"""Factories of encoders by name; argument: whether the library's ImageNet weights are wanted."""


def encoder(name: str, source: str = "user") -> Callable[[Factory], Factory]:
    """Registers a factory `(imagenet) -> Encoder` under a name for `--network.encoder`.

    The encoder sets `channels` and `strides`, and has levels at strides 16, 8 and 4, where the cells are.

    Raises:
        EncoderError: if the name is taken.
    """
    return REGISTRY.register(name, source)


def stem(encoder: Encoder) -> list[nn.Module]:
    """The first convolution and the BatchNorm after it, which F3Net leaves as they come from ImageNet.

    Raises:
        EncoderError: if the encoder has no such pair.
    """
    kinds = (nn.Conv2d, nn.modules.batchnorm._BatchNorm)
    found = [next((part for part in encoder.modules() if isinstance(part, kind)), None) for kind in kinds]
    if None in found:
        raise EncoderError(f"{type(encoder).__name__}: no convolution with a BatchNorm. Set freeze_stem to false.")
    return [part for part in found if part is not None]


def build(name: str, weights: str | Path | None = None) -> Encoder:
    """Builds an encoder.

    Args:
        name: `resnet50` or `vgg16` (torchvision), or any timm model that has `features_only`.
        weights: `imagenet` for the library's own weights (downloaded once), a path to a .safetensors or a
            weights-only .pt file in the library's layout, or None for random weights.

    Raises:
        EncoderError: if the name is unknown, the weights can't be downloaded, or they do not fit.
    """
    imagenet = str(weights) == "imagenet"
    try:
        encoder = _architecture(name, imagenet)
    except (URLError, OSError) as error:
        raise EncoderError(
            f"ImageNet weights of encoder '{name}' can't be downloaded ({error}). Connect once, or give the path of "
            f"a weights file, or 'none' to start from random weights."
        ) from None
    if weights is not None and not imagenet:
        _load_weights(encoder, name, Path(weights))
    return encoder


@encoder("resnet50", source="torchvision")
def _resnet50(imagenet: bool) -> Encoder:
    return ResNet50(ResNet50_Weights.IMAGENET1K_V1 if imagenet else None)


@encoder("vgg16", source="torchvision")
def _vgg16(imagenet: bool) -> Encoder:
    return VGG16(VGG16_BN_Weights.IMAGENET1K_V1 if imagenet else None)


def _architecture(name: str, imagenet: bool) -> Encoder:
    if name in REGISTRY.names():
        return REGISTRY.find(name)(imagenet)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, [*REGISTRY.names(), *timm.list_models()], 1)
        raise EncoderError(
            f"encoder '{name}' is neither {', '.join(REGISTRY.names())} nor a timm model (timm.list_models())."
            + (f" Did you mean {near[0]}?" if near else "")
        )
    return Timm(name, pretrained=imagenet)


def _load_weights(encoder: Encoder, name: str, path: Path) -> None:
    """Loads a library's checkpoint; tensors beyond the encoder's (the classifier) are left out."""
    target = encoder.body if isinstance(encoder, Timm) else encoder
    wanted = target.state_dict()
    found = fitting(load_checkpoint(path), wanted)
    check_values(found, wanted, path)
    missing = [
        key for key, value in wanted.items()
        if not key.endswith("num_batches_tracked") and (key not in found or found[key].shape != value.shape)
    ]  # fmt: skip
    if missing:
        raise EncoderError(
            f"{path}: not weights of encoder '{name}': {len(missing)} of {len(wanted)} tensors are missing or of "
            f"another shape, '{missing[0]}' the first. Give a file of that network, or change network.encoder."
        )
    target.load_state_dict({key: found.get(key, value).to(value.dtype) for key, value in wanted.items()})
