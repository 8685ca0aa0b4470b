"""Encoders: image -> four feature levels E2, E3, E4, E5.

Source: paper Figure 2 takes E2 to E5 of ResNet-50 or VGG-16. The VGG-16 layout (BatchNorm, pools that round up,
no fifth pool, so strides 2 to 16) is the released code's. Any other network is timm's `features_only`.
"""

import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast
from urllib.error import URLError

import torch
from torch import Tensor, nn

from net.libraries import FeatureInfo, Format, ResNet50_Weights, VGG16_BN_Weights, resnet50, timm, vgg16_bn
from net.state_dicts import check_values, fitting
from net.wiring import CELL_STRIDES
from settings.plugins import Registry
from utils.checkpoint import load_checkpoint
from utils.errors import UserError

LEVELS = 4  # E2..E5
_OTHER = "Choose another encoder, such as resnet50 or mobilenetv3_large_100."


class EncoderError(UserError):
    """An encoder that is unknown or unsuitable, or whose weights are not available or don't fit."""


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
    """The last four levels of a timm network built with `features_only=True`; channels-last features are transposed.

    Raises:
        EncoderError: before any download, if it has no features, or lacks a level at a cell's stride.
    """

    def __init__(self, name: str, pretrained: bool = False) -> None:
        super().__init__()
        self.name = name
        if pretrained:
            with torch.device("meta"):
                _check_levels(name, _features(name, pretrained=False))
        self.body = _features(name, pretrained)
        info = _check_levels(name, self.body)
        self.channels, self.strides = tuple(info.channels()[-LEVELS:]), tuple(info.reduction()[-LEVELS:])
        self.channels_last = getattr(self.body, "output_fmt", Format.NCHW) == Format.NHWC

    def forward(self, image: Tensor) -> list[Tensor]:
        """See `Encoder.forward`.

        Raises:
            EncoderError: if the network does not take images of that size.
        """
        try:
            levels = self.body(image)[-LEVELS:]
        except AssertionError as error:  # timm checks sizes by assertions
            raise _wrong_size(self.name, image.shape[-2:], error) from None
        return [level.permute(0, 3, 1, 2) for level in levels] if self.channels_last else levels


def check_sizes(name: str, sizes: Iterable[int]) -> None:
    """Checks that an encoder takes square images of these sides, without computing or downloading anything.

    Raises:
        EncoderError: as `build`, or naming the size that is not supported.
    """
    if name in REGISTRY.names():
        return
    with torch.device("meta"), torch.no_grad():
        encoder = _architecture(name, imagenet=False).eval()
        for side in sizes:
            try:
                encoder(torch.empty(1, 3, side, side))
            except RuntimeError as error:  # a table of positions of another size
                raise _wrong_size(name, (side, side), error) from None


def _features(name: str, pretrained: bool) -> nn.Module:
    """timm's network, without its check of the image's size where it has such an option."""
    config = timm.get_pretrained_cfg(name)
    options = [{"strict_img_size": False}, {}] if config is not None and config.fixed_input_size else [{}]
    for option in options:
        try:
            return timm.create_model(name, pretrained=pretrained, features_only=True, **option)
        except TypeError as error:
            if not option:
                raise EncoderError(f"encoder '{name}': timm can't build its features ({error}). {_OTHER}") from None
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise EncoderError(f"encoder '{name}': timm can't build its features ({reason}). {_OTHER}") from None
    raise AssertionError("the last option raises or returns")


def _check_levels(name: str, body: nn.Module) -> FeatureInfo:
    info = cast(FeatureInfo, body.feature_info)
    check_strides(f"encoder '{name}'", info.reduction()[-LEVELS:])
    return info


def check_strides(name: str, strides: Sequence[int]) -> None:
    """Refuses an encoder without four levels, or without one at a cell's stride.

    Raises:
        EncoderError: naming the strides that there are.
    """
    if len(strides) < LEVELS or any(stride not in strides for stride in CELL_STRIDES):
        raise EncoderError(
            f"{name} has levels at strides {', '.join(map(str, strides))}; four are needed, and the cells are at "
            f"{', '.join(map(str, CELL_STRIDES))}. {_OTHER}"
        )


def _wrong_size(name: str, size: Sequence[int], error: Exception) -> EncoderError:
    reason = str(error).partition("\n")[0].rstrip(".")
    return EncoderError(
        f"encoder '{name}' does not take images of {size[0]} x {size[1]} pixels ({reason}). Change the size of the "
        f"images, or choose another encoder."
    )


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
    """The first convolution and the BatchNorm after it, which F3Net freezes.

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
        name: `resnet50` or `vgg16` (torchvision), or any timm model that supports `features_only`.
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
    target.load_state_dict(
        {key: found[key].to(value.dtype) if key in found else value for key, value in wanted.items()}
    )
