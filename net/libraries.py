"""What this project uses of timm and torchvision, imported without PyTorch's compiler and without a client of a hub.

Both libraries load `torch._dynamo` while they are imported: torchvision for one function of `roi_align`, timm for the
decorator of one model. That takes longer than all the rest of both, and maps need none of it. timm also loads
`huggingface_hub`, half of its own time, which only a download of weights needs.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch._compile import _disable_dynamo

from utils.stand_ins import at_call, stand_ins

__all__ = [
    "BatchNormAct2d", "Conv2dSame", "FeatureInfo", "Format", "ResNet50_Weights", "VGG16_BN_Weights",
    "convert_sync_batchnorm", "resnet50", "timm", "vgg16_bn",
]  # fmt: skip

_UTILITIES, _HUB, _HUB_ERRORS = "torch._dynamo.utils", "huggingface_hub", "huggingface_hub.utils"
_ERRORS = ("EntryNotFoundError", "RepositoryNotFoundError")


class _UnloadedError(Exception):
    """An error of the hub's client before the client is loaded: nothing raises it."""


def _download(*arguments: Any, **options: Any) -> str:
    """`huggingface_hub.hf_hub_download`; timm then catches the client's own errors."""
    client, errors = import_module(_HUB), import_module(_HUB_ERRORS)
    vars(sys.modules["timm.models._hub"]).update({name: getattr(errors, name) for name in _ERRORS})
    return client.hf_hub_download(*arguments, **options)


_CLIENT: dict[str, dict[str, object]] = {
    _HUB: {
        "hf_hub_download": _download,
        **{name: at_call(_HUB, name) for name in ("HfApi", "model_info")},
    },
    _HUB_ERRORS: dict.fromkeys(_ERRORS, _UnloadedError),
}  # fmt: skip

with stand_ins({
    **(_CLIENT if find_spec(_HUB) else {}),  # timm works without it
    # PyTorch's own form of the decorator: it loads the compiler at the first call of the decorated function.
    "torch._dynamo": {"disable": lambda fn=None, *_, **__: _disable_dynamo(fn)},
    _UTILITIES: {"is_compile_supported": at_call(_UTILITIES, "is_compile_supported")},
}):  # fmt: skip
    import timm
    from timm.layers.conv2d_same import Conv2dSame
    from timm.layers.format import Format
    from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
    from timm.models import FeatureInfo
    from torchvision.models import ResNet50_Weights, VGG16_BN_Weights, resnet50, vgg16_bn
