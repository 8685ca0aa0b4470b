"""The network that an engine runs: folded, if that keeps its maps.

Folding is checked once for each network and size, in float32, against the network as it was trained. A network that
cannot be folded, or whose folded maps differ, runs as it is, with a notice.
"""

import inspect
from pathlib import Path

import torch
from torch import Tensor, nn

import net
from inference.engines import cache
from inference.engines.base import notice, version
from inference.engines.sample_images import prepared_samples
from inference.folding.network import FoldError, fold
from inference.weights import LoadedNetwork
from net.auto_msfnet import AutoMSFNet

FOLDED_WITHIN = 1e-3
"""Largest difference at any pixel between the maps of the folded network and of the network itself."""
ROUNDING = 1e-5
"""Relative distance of their logits that is rounding, however much it moves a map. Random weights can give logits of
25,000: their float32 is 1.3e-6 from float64, and maps of both networks are .002 to .003 away."""

_CHECKED_ON = 2  # sample images


class WholeNetwork(nn.Module):
    """A network as it was trained, with the output of a folded one.

    Shapes:
        image: (B, 3, S, S); returns (B, 1, S, S), the logits of P1. Exporters read the argument's name.
    """

    def __init__(self, network: AutoMSFNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        return self.network(image).p1


def identity(loaded: LoadedNetwork, size: int) -> tuple[object, ...]:
    """All that the result of a conversion depends on, beside the versions of the engine's own packages.

    The source files of the user's own operations and encoders count: weights and names may stay while the code changes.
    """
    packages = tuple((name, version(name)) for name in ("torch", "torchvision", "timm"))
    return loaded.sha256, size, repr(loaded.network), user_sources(loaded.network), packages


def user_sources(network: nn.Module) -> tuple[str, ...]:
    """Hashes of the files that define classes of this network outside this project and the installed packages."""
    files: set[Path] = set()
    for kind in {base for module in network.modules() for base in type(module).__mro__}:
        code = getattr(inspect.unwrap(getattr(kind, "forward", kind)), "__code__", None)
        if code is not None:
            files.add(Path(code.co_filename))
    ours, packages = Path(net.__file__).parent, Path(torch.__file__).parents[1]
    own = [file for file in files if not file.is_relative_to(ours) and not file.is_relative_to(packages)]
    return tuple(sorted(cache.digest([file.read_bytes()]) for file in own if file.is_file()))


def prepare(loaded: LoadedNetwork, size: int) -> nn.Module:
    """The folded network for inputs of side `size`, or the whole one where folding does not keep its maps.

    Raises:
        FoldError: if the genotype reads no level of the encoder.
    """
    name = f"folding-{cache.key('folding', identity(loaded, size))}"
    found = cache.record(name) or {}
    if found.get("folds") is False:
        return WholeNetwork(loaded.network)
    try:
        folded = fold(loaded.network, size)
        reason = "" if found.get("folds") is True else _fault(loaded.network, folded, size)
    except FoldError:
        raise
    except Exception as error:  # folding runs code of the user's encoders and operations
        folded, reason = WholeNetwork(loaded.network), f"{type(error).__name__}: {error}".splitlines()[0][:120]
    if reason:
        notice(f"{loaded.source.name} runs unfolded, which is slower: {reason}.")
    cache.store(name, {"folds": not reason, "reason": reason})
    return WholeNetwork(loaded.network) if reason else folded


@torch.inference_mode()
def _fault(network: AutoMSFNet, folded: nn.Module, size: int) -> str:
    """How far the folded maps are from the network's; empty if they are equal but for rounding."""
    images = prepared_samples(size)[:_CHECKED_ON]
    ours, theirs = (torch.cat([run(image) for image in images.split(1)]) for run in (folded, WholeNetwork(network)))
    if ours.shape != theirs.shape:
        return f"the folded network returns {tuple(ours.shape)}, not {tuple(theirs.shape)}"
    difference = (ours.sigmoid() - theirs.sigmoid()).abs().max().item()
    same = difference <= FOLDED_WITHIN or (ours - theirs).norm() <= ROUNDING * theirs.norm()
    return "" if same else f"folding changes its map by up to {difference:.4f}"
