"""What this project uses of timm and torchvision, imported without PyTorch's compiler.

Both libraries load `torch._dynamo` while they are imported: torchvision for one function of `roi_align`, timm for the
decorator of one model. That takes longer than all the rest of both, and maps need none of it.
"""

from torch._compile import _disable_dynamo

from utils.stand_ins import at_call, stand_ins

__all__ = [
    "BatchNormAct2d", "Conv2dSame", "FeatureInfo", "Format", "ResNet50_Weights", "VGG16_BN_Weights",
    "convert_sync_batchnorm", "resnet50", "timm", "vgg16_bn",
]  # fmt: skip

_UTILITIES = "torch._dynamo.utils"

with stand_ins({
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
