"""Entry points of torch.hub.

    network = torch.hub.load("OWNER/REPO", "lite")                      nn.Module: prepared images to logits
    predictor = torch.hub.load("OWNER/REPO", "predictor")               images of any kind to saliency maps
    predictor = torch.hub.load("/path/to/checkout", "predictor", source="local")

The packages of this project have common names, such as `utils` and `data`. They are imported beside modules of the
caller that have the same names, and the caller's are put back. torch.hub lists every public callable here as an entry
point, hence the underscores.
"""

import importlib
import sys
import typing
from collections.abc import Iterator as _Iterator
from contextlib import contextmanager as _contextmanager
from pathlib import Path as _Path
from types import ModuleType as _ModuleType

import torch

if typing.TYPE_CHECKING:
    from inference.predictor import Predictor

dependencies = ["torch", "timm", "numpy", "cv2", "PIL", "safetensors"]

_ROOT = _Path(__file__).resolve().parent
_PACKAGES = ("utils", "settings", "net", "data", "evaluation", "inference", "training", "nas")
_imported: dict[str, _ModuleType] = {}  # our modules between two calls


@_contextmanager
def _our_modules() -> _Iterator[None]:
    """In its body `import net` imports ours; afterwards the caller's modules of these names are in place again."""
    theirs = _take_out()
    sys.modules.update(_imported)
    sys.path.insert(0, str(_ROOT))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(_ROOT))
        _imported.update(_take_out())
        sys.modules.update(theirs)


def _take_out() -> dict[str, _ModuleType]:
    """Removes the modules with the names of our packages from Python's table and returns them."""
    names = [name for name in sys.modules if name.partition(".")[0] in _PACKAGES]
    return {name: sys.modules.pop(name) for name in names}


def _network(encoder: str, weights: str | _Path | None, encoder_weights: str | _Path | None) -> torch.nn.Module:
    with _our_modules():
        from inference.weights import load_network
        from net.auto_msfnet import build_network
        from net.settings import NetworkConfig

        if weights is not None:
            return load_network(weights).network
        return build_network(NetworkConfig(encoder, encoder), encoder_weights).eval()


def base() -> torch.nn.Module:
    """The trained network of weights/base.safetensors; see `lite`.

    Raises:
        UserError: this checkout has no such file.
    """
    return _network("", "base", None)


def lite() -> torch.nn.Module:
    """The trained network of weights/lite.safetensors, in eval mode, on the CPU.

    Shapes:
        image: (B, 3, 256, 256) float32, ImageNet mean and deviation; other sizes from 32 work too.
        returns: logits `p1`, `p2`, `p3`, each (B, 1, 256, 256); the saliency map is the sigmoid of `p1`.
    """
    return _network("", "lite", None)


def auto_msfnet_resnet50(
    weights: str | _Path | None = None, encoder_weights: str | _Path | None = None
) -> torch.nn.Module:
    """The paper's network with ResNet-50, in eval mode, on the CPU; shapes as `lite`.

    Args:
        weights: a checkpoint of the authors or of train.py; without it the network is not trained.
        encoder_weights: `imagenet`, or a file of encoder weights, for a network that is not trained.

    Raises:
        UserError: a file is missing or does not fit.
    """
    return _network("resnet50", weights, encoder_weights)


def auto_msfnet_vgg16(
    weights: str | _Path | None = None, encoder_weights: str | _Path | None = None
) -> torch.nn.Module:
    """The paper's network with VGG-16; see `auto_msfnet_resnet50`."""
    return _network("vgg16", weights, encoder_weights)


def predictor(source: str | _Path = "lite", **settings: typing.Any) -> "Predictor":
    """Images to saliency maps at their own size; see `inference.predictor.Predictor.from_pretrained`.

    Args:
        source: a name in weights/, or a file of weights.
        settings: `device`, `precision`, `size`, `engine` and others of `from_pretrained`.

    Returns:
        a callable: RGB array (H, W, 3) uint8, Pillow image or path to (H, W) float32 in [0, 1].
    """
    with _our_modules():
        from inference.predictor import Predictor

        return Predictor.from_pretrained(source, **settings)
