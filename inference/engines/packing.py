"""A folded network made faster on x86 processors, with oneDNN's own convolutions.

PyTorch's eager convolution lays its weights out anew at every call, and runs what follows it in a pass of its own.
Here weights are laid out once, and the addition and the ReLU behind a convolution are done while it writes its result.
The operators are the ones that torch.compile uses on CPUs; unlike it, this needs no compiler and no time.
"""

import copy
import operator

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

Activation = tuple[str, list[float]]

NONE: Activation = ("none", [])
RELU: Activation = ("relu", [])
RELU6: Activation = ("hardtanh", [0.0, 6.0])


def available() -> bool:
    """Whether this build of PyTorch has the operators."""
    names = ("_convolution_pointwise", "_reorder_convolution_weight")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)


@torch.inference_mode()
def pack(network: fx.GraphModule, example: Tensor) -> fx.GraphModule:
    """Rewrites a network for inputs of one shape.

    Args:
        network: convolutions and what stands between them; left as it is.
        example: an input, (B, 3, S, S) channels last.

    Returns:
        A network that gives the same result for any input of the example's shape.
    """
    network = copy.deepcopy(network)
    ShapeProp(network).propagate(example)
    for node in list(network.graph.nodes):
        if node.op == "call_module" and _packable(network.get_submodule(node.target)):
            _pack_one(network, node)
    network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    network.recompile()
    return network


class PackedConv(nn.Module):
    """activation(conv(x) + other), its weights laid out for one input shape.

    Shapes:
        x: as the example's; other, if given: as the result's.
    """

    def __init__(self, conv: nn.Conv2d, activation: Activation, shape: torch.Size) -> None:
        super().__init__()
        self.steps = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight, *self.steps, list(shape))
        self.bias = conv.bias
        self.kind, self.scalars = activation

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """See the class."""
        convolve = torch.ops.mkldnn._convolution_pointwise
        if other is None:
            return convolve(x, self.weight, self.bias, *self.steps, self.kind, self.scalars, "")
        kind = None if self.kind == "none" else self.kind
        return convolve.binary(x, other, self.weight, self.bias, *self.steps, "add", 1.0, kind, self.scalars, "")


class NarrowConv(nn.Module):
    """A convolution of stride 1 to a single channel, in which oneDNN would leave most of its registers empty.

    Every tap as a 1x1 convolution of its own, then moved to its place and summed.

    Shapes:
        x: (B, C, H, W); returns (B, 1, H, W).
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.side = conv.kernel_size[0]
        # What conv reads at an offset, fold writes at its opposite: the taps turned by half a circle.
        self.taps = conv.weight.detach()[0].flip(1, 2).permute(1, 2, 0).flatten(0, 1)[:, :, None, None].contiguous()
        self.bias = conv.bias.detach() if conv.bias is not None else torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        parts = F.conv2d(x, self.taps).flatten(2)  # (B, k * k, H * W)
        return F.fold(parts, x.shape[-2:], self.side, padding=self.side // 2) + self.bias


def _packable(module: nn.Module) -> bool:
    """Whether a module is a convolution that oneDNN's operators compute as PyTorch does."""
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _keeps_size(conv: nn.Conv2d) -> bool:
    side, other = conv.kernel_size
    plain = conv.stride == conv.dilation == (1, 1) and conv.groups == 1
    return plain and side == other and side % 2 == 1 and conv.padding == (side // 2,) * 2


def _pack_one(network: fx.GraphModule, node: fx.Node) -> None:
    conv = network.get_submodule(str(node.target))
    assert isinstance(conv, nn.Conv2d)
    if conv.out_channels == 1 and conv.in_channels > 16 and _keeps_size(conv):
        network.set_submodule(str(node.target), NarrowConv(conv))
        return
    last, other = _added(node)
    activation, last = _activated(network, last)
    name = f"packed_{node.name}"
    source = node.args[0]
    assert isinstance(source, fx.Node)
    network.add_submodule(name, PackedConv(conv, activation, source.meta["tensor_meta"].shape))
    with network.graph.inserting_after(last):
        packed = network.graph.call_module(name, (source,) if other is None else (source, other))
    packed.meta = dict(last.meta)
    last.replace_all_uses_with(packed)
    network.graph.eliminate_dead_code()


def _added(node: fx.Node) -> tuple[fx.Node, fx.Node | None]:
    """The addition that alone reads a convolution, and its other term, if the two have one shape and type."""
    users = list(node.users)
    if len(users) != 1 or users[0].target not in ("add", "add_", operator.add, operator.iadd, torch.add):
        return node, None
    add = users[0]
    terms = [term for term in add.args if term is not node]
    if len(add.args) != 2 or len(terms) != 1 or not isinstance(terms[0], fx.Node):
        return node, None
    ours, theirs = node.meta["tensor_meta"], terms[0].meta["tensor_meta"]
    same = ours.shape == theirs.shape and ours.dtype == theirs.dtype
    return (add, terms[0]) if same else (node, None)


def _activated(network: fx.GraphModule, node: fx.Node) -> tuple[Activation, fx.Node]:
    """The activation that alone reads a node, and its node; none, and the node itself, where there is none."""
    users = list(node.users)
    if len(users) == 1:
        target = users[0].target
        kind = type(network.get_submodule(str(target))) if users[0].op == "call_module" else target
        if kind in ("relu", "relu_", nn.ReLU, F.relu, torch.relu):
            return RELU, users[0]
        if kind is nn.ReLU6:
            return RELU6, users[0]
    return NONE, node
