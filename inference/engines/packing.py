"""Makes a folded network faster on x86 processors, with oneDNN's own convolutions.

PyTorch's eager convolution reorders its weights at every call and runs the layers after it in passes of their own.
Here weights are reordered once, and the addition and the ReLU after a convolution are fused into it. The operators are
those that torch.compile uses on CPUs; unlike torch.compile, this needs no compiler and no time.

These operators are private to PyTorch. `unavailable` checks that the installed version has them and that they compute a
convolution. Where they do not, the network runs in PyTorch's public operators, slower and with the same maps.
"""

import copy
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from inference.folding.algebra import understood

Activation = tuple[str, list[float]]

NONE: Activation = ("none", [])
RELU: Activation = ("relu", [])
RELU6: Activation = ("hardtanh", [0.0, 6.0])

_FORM = "form"  # of a tensor in a node's `meta`: its shape and type


def unavailable() -> str:
    """Why the operators cannot be used here; empty if they can."""
    if not torch.backends.mkldnn.is_available():
        return "this build of PyTorch has no oneDNN"
    names = ("_convolution_pointwise", "_reorder_convolution_weight")
    missing = [name for name in names if not hasattr(torch.ops.mkldnn, name)]
    if missing:
        return f"PyTorch {torch.__version__} has no operator mkldnn.{missing[0]}"
    conv = nn.Conv2d(8, 8, 3, padding=1).requires_grad_(False)
    x = torch.linspace(-1, 1, 8 * 36).view(1, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            fused = PackedConv(conv, RELU, x.shape)(x, x)
            same = torch.allclose(fused, (conv(x) + x).relu(), atol=1e-4)
    except (RuntimeError, TypeError, AttributeError) as error:
        return f"the operators of mkldnn changed in PyTorch {torch.__version__} ({str(error).splitlines()[0][:80]})"
    return "" if same else f"the operators of mkldnn in PyTorch {torch.__version__} compute another convolution"


@torch.inference_mode()
def pack(network: fx.GraphModule, example: Tensor) -> fx.GraphModule:
    """Rewrites a network for inputs of one shape.

    Args:
        network: a folded network; not changed.
        example: an input, (B, 3, S, S) channels last.

    Returns:
        A network with the same result for every input of the example's shape.
    """
    network = fx.GraphModule(network, copy.deepcopy(network.graph))  # modules that are not packed are shared
    _Shapes(network).run(example)
    for node in list(network.graph.nodes):
        if _packable(network, node):
            _pack_one(network, node)
    network.delete_all_unused_submodules()
    network.recompile()
    return network


class _Shapes(fx.Interpreter):
    """Runs a graph and notes the shape and type of every tensor; torch.fx's own pass imports SymPy, which is slow."""

    def run_node(self, n: fx.Node) -> Any:
        """See fx.Interpreter."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta[_FORM] = (result.shape, result.dtype)
        return result


class PackedConv(nn.Module):
    """activation(conv(x) + other), with weights in the layout for one input shape.

    Shapes:
        x: that input shape; other, if given: the shape of the result.
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


def _packable(network: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node calls a convolution that oneDNN's operators compute as PyTorch does, on one positional input."""
    if node.op != "call_module" or len(node.args) != 1 or node.kwargs:
        return False
    conv, (source,) = network.get_submodule(str(node.target)), node.args
    if not isinstance(conv, nn.Conv2d) or not understood(conv, nn.Conv2d) or not isinstance(source, fx.Node):
        return False
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str) and _FORM in source.meta


def _pack_one(network: fx.GraphModule, node: fx.Node) -> None:
    conv = network.get_submodule(str(node.target))
    assert isinstance(conv, nn.Conv2d)
    add, other = _added(node)
    activation, last = _activated(network, add)
    name = f"packed_{node.name}"
    source = node.args[0]
    assert isinstance(source, fx.Node)
    network.add_submodule(name, PackedConv(conv, activation, source.meta[_FORM][0]))
    with network.graph.inserting_after(last):
        packed = network.graph.call_module(name, (source,) if other is None else (source, other))
    packed.meta = dict(last.meta)
    last.replace_all_uses_with(packed)
    for done in dict.fromkeys((last, add, node)):  # from the last to the first: none is read any more
        network.graph.erase_node(done)


def _added(node: fx.Node) -> tuple[fx.Node, fx.Node | None]:
    """The addition that is the only reader of a convolution, and its other term, if both terms have one shape and type.

    Not fused: a scaled addition (`alpha=`), and one that writes into the other term.
    """
    users = list(node.users)
    if len(users) != 1 or users[0].target not in ("add", "add_", operator.add, operator.iadd, torch.add):
        return node, None
    add = users[0]
    terms = [term for term in add.args if term is not node]
    in_place = add.target in ("add_", operator.iadd)
    other_changes = in_place and add.args[0] is not node
    if add.kwargs or len(add.args) != 2 or len(terms) != 1 or not isinstance(terms[0], fx.Node) or other_changes:
        return node, None
    return (add, terms[0]) if node.meta[_FORM] == terms[0].meta.get(_FORM) else (node, None)


def _activated(network: fx.GraphModule, node: fx.Node) -> tuple[Activation, fx.Node]:
    """The activation that is the only reader of a node, with its node; `NONE` and the node itself if there is none."""
    users = list(node.users)
    if len(users) == 1:
        target = users[0].target
        kind = type(network.get_submodule(str(target))) if users[0].op == "call_module" else target
        if kind in ("relu", "relu_", nn.ReLU, F.relu, torch.relu):
            return RELU, users[0]
        if kind is nn.ReLU6:
            return RELU6, users[0]
    return NONE, node
