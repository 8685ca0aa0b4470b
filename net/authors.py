"""Converts the authors' checkpoint layout to ours, for both backbones, strictly.

Source: the state-dict keys of the checkpoints that the authors publish. There, encoder and laterals are one module
(`resnet.*` or `vgg16.*`). Outer operation N = 4 * cell + level, and cells are named by the levels they join (54, 43,
32). The last cell's operations are registered twice (`feafusion._nodes.*`); the copies are checked and dropped.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from net import encoder as encoders
from net.auto_msfnet import AutoMSFNet
from net.genotype import load
from utils.errors import UserError

INPUT_SIZE = 256  # the released test code resizes every image to this square
_BODY = {"resnet50": "resnet", "vgg16": "vgg16"}
_CELLS = {"54": 0, "43": 1, "32": 2}
_HEADS = {"conv66": 0, "conv55": 1, "conv44": 2}  # coarse to fine, as our cells
_ATTENTION = {
    "conv11": "mix", "bn11": "norm", "bn1": "norm", "linear_1": "squeeze", "linear_2": "excite",
}  # fmt: skip
_VGG_CONVOLUTIONS = (2, 2, 3, 3, 3)  # a block


class AuthorsError(UserError):
    """A checkpoint that looks like the authors', but has missing, extra or different tensors."""


def recognise(state: Mapping[str, Any]) -> str | None:
    """The backbone (`resnet50` or `vgg16`) if this state dict is the authors', else None."""
    if not any(key.removeprefix("module.").startswith("feafusion.") for key in state):
        return None
    for name, body in _BODY.items():
        if any(key.removeprefix("module.").startswith(f"{body}.") for key in state):
            return name
    return None


def convert(state: Mapping[str, Tensor], name: str, origin: str = "checkpoint") -> dict[str, Tensor]:
    """Maps the authors' state dict onto the keys of our network with that backbone's published genotype.

    Args:
        state: their state dict; a `module.` prefix of DataParallel is allowed.
        name: `resnet50` or `vgg16`.
        origin: name of the checkpoint in errors.

    Raises:
        AuthorsError: if a key is missing, extra or of another shape, or a repeated tensor is not equal.
    """
    theirs = {key.removeprefix("module."): value for key, value in state.items()}
    _check_repeats(theirs, origin)
    ours = {_rename(key, name, theirs): value for key, value in theirs.items() if "._nodes." not in key}
    _check_complete(ours, name, origin)
    return ours


def _check_repeats(state: Mapping[str, Tensor], origin: str) -> None:
    for key, value in state.items():
        twin = key.replace("feafusion._nodes.", "feafusion.featurefusioncell32._ops.")
        if twin != key and (twin not in state or not torch.equal(value, state[twin])):
            raise AuthorsError(f"{origin}: '{key}' repeats '{twin}' in the authors' layout, but here they differ.")


def _check_complete(ours: Mapping[str, Tensor], name: str, origin: str) -> None:
    with torch.device("meta"):
        wanted = AutoMSFNet(encoders.build(name), load(name)).state_dict()
    missing = [key for key in wanted if key not in ours]
    extra = [key for key in ours if key not in wanted]
    if missing or extra:
        raise AuthorsError(
            f"{origin}: looks like the authors' {name} network, but {len(missing)} tensors are missing "
            f"({', '.join(missing[:3])}) and {len(extra)} are extra ({', '.join(extra[:3])}). Download it again."
        )
    for key, value in wanted.items():
        if ours[key].shape != value.shape:
            raise AuthorsError(
                f"{origin}: '{key}' has the shape {tuple(ours[key].shape)}, expected {tuple(value.shape)}."
            )


def _rename(key: str, name: str, state: Mapping[str, Tensor]) -> str:
    """Our key for one of theirs; a key of unknown form keeps its name, and is reported as extra."""
    body = _BODY[name]
    if match := re.fullmatch(rf"{body}\.(conv|bn)([2-5])\.(.+)", key):
        kind, level, rest = match.groups()
        return f"laterals.{5 - int(level)}.{0 if kind == 'conv' else 1}.{rest}"  # E5 first
    if match := re.fullmatch(rf"{body}\.(.+)", key):
        return f"encoder.{_vgg_key(match[1]) if name == 'vgg16' else match[1]}"
    if match := re.fullmatch(r"feafusion\._ops\.(\d+)\.(.+)", key):
        cell, level = divmod(int(match[1]), 4)
        return f"cells.{cell}.outer.{level}.{_operation_key(key, match[2], state)}"
    if match := re.fullmatch(r"feafusion\.featurefusioncell(54|43|32)\._ops\.(\d+)\.(.+)", key):
        return f"cells.{_CELLS[match[1]]}.inner.{match[2]}.{_operation_key(key, match[3], state)}"
    if match := re.fullmatch(r"feafusion\.featurefusioncell(54|43|32)\.(conv11|bn11)\.(.+)", key):
        return f"cells.{_CELLS[match[1]]}.fuse.{0 if match[2] == 'conv11' else 1}.{match[3]}"
    if match := re.fullmatch(r"(conv66|conv55|conv44)\.(.+)", key):
        return f"heads.{_HEADS[match[1]]}.{match[2]}"
    return key


def _operation_key(key: str, rest: str, state: Mapping[str, Tensor]) -> str:
    if rest.startswith("op."):
        return rest.removeprefix("op.")
    layer, _, parameter = rest.partition(".")
    if layer == "conv1":  # the 7x7 of spatial attention, but the 1x1 of channel attention
        return f"{'attend' if state[key].shape[-1] == 7 else 'mix'}.{parameter}"
    return f"{_ATTENTION.get(layer, layer)}.{parameter}"


def _vgg_key(rest: str) -> str:
    """`conv3_2.weight` -> `features.17.weight`, torchvision's numbering."""
    match = re.fullmatch(r"(conv|bn)(\d)_(\d)\.(.+)", rest)
    if not match:
        return rest
    block, place = int(match[2]) - 1, int(match[3]) - 1
    before = 3 * sum(_VGG_CONVOLUTIONS[:block]) + block  # conv, bn, relu each, and a pool a block
    return f"features.{before + 3 * place + (match[1] == 'bn')}.{match[4]}"
