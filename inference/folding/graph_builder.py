"""Writes a network node by node, computing at once whatever does not depend on the image.

A value is either live, a node of the graph that will run, or a constant, a tensor that is known already.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from inference.folding.algebra import Kernel
from net.fusion_cell import resize

Size = tuple[int, int]


@dataclass(frozen=True)
class Live:
    """A feature that depends on the image.

    Attributes:
        node: what computes it, (B, C, h, w).
        size: (h, w).
        positive: whether no element is negative, so that a ReLU of it is itself.
    """

    node: fx.Node
    size: Size
    positive: bool = False


@dataclass(frozen=True)
class Constant:
    """A feature that is the same for every image: (1, C, h, w), float32."""

    tensor: Tensor


Value = Live | Constant


class Builder:
    """Collects nodes and modules; the same call on the same node is made once.

    Args:
        channels: width C of the features of the decoder.
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.graph = fx.Graph()
        self.modules = nn.ModuleDict()
        self._known: dict[tuple[object, ...], fx.Node] = {}

    def adopt(self, module: nn.Module, name: str) -> str:
        """Makes a module part of the network; returns its name there, which starts with `name`."""
        unique = f"{name}_{len(self.modules)}"
        self.modules[unique] = module
        return unique

    def call(self, method: str, x: fx.Node, *arguments: Any) -> fx.Node:
        """A tensor's method."""
        return self._once((method, x, *arguments), lambda: self.graph.call_method(method, (x, *arguments)))

    def take(self, x: fx.Node, place: tuple[slice, ...]) -> fx.Node:
        """x[place]."""
        key = ("take", x, *((part.start, part.stop, part.step) for part in place))
        return self._once(key, lambda: self.graph.call_method("__getitem__", (x, place)))

    def concatenate(self, parts: Sequence[fx.Node], dimension: int) -> fx.Node:
        """torch.cat."""
        return self._once(("cat", *parts), lambda: self.graph.call_function(torch.cat, (list(parts), dimension)))

    def conv(self, x: Live, kernel: Kernel, name: str = "conv", relu: bool = False) -> Live:
        """A convolution, with ReLU after it if asked for."""
        node = self.graph.call_module(self.adopt(kernel.module(), name), (x.node,))
        reach = kernel.dilation * (kernel.weight.shape[-1] - 1)
        height, width = ((side + 2 * kernel.padding - reach - 1) // kernel.stride + 1 for side in x.size)
        result = Live(node, (height, width))
        return self.relu(result) if relu else result

    def relu(self, x: Live) -> Live:
        """max(x, 0), or x itself where that is the same."""
        return x if x.positive else Live(self.call("relu", x.node), x.size, positive=True)

    def zero(self, size: Size) -> Constant:
        """The feature that is nowhere anything."""
        return Constant(torch.zeros(1, self.channels, *size))

    def resize(self, x: Value, size: Size) -> Value:
        """Bilinear, as `net.fusion_cell.resize`."""
        if isinstance(x, Constant):
            return Constant(resize(x.tensor, size))
        if x.size == size:
            return x
        settings = {"size": size, "mode": "bilinear", "align_corners": False}
        make = lambda: self.graph.call_function(F.interpolate, (x.node,), settings)  # noqa: E731
        return Live(self._once(("resize", x.node, size), make), size, x.positive)

    def add(self, terms: Sequence[Value]) -> Value:
        """The sum of features of one size."""
        constants = [term.tensor for term in terms if isinstance(term, Constant)]
        known = sum(constants[1:], constants[0]) if constants else None
        live = [term for term in terms if isinstance(term, Live)]
        if not live:
            assert known is not None
            return Constant(known)
        positive = all(term.positive for term in live)
        *before, node = (term.node for term in live)
        if known is not None and known.any():
            # First to the last term: a convolution there takes a constant colour into its bias.
            node = self.graph.call_method("add", (node, self._buffer(known)))
            positive = positive and bool((known >= 0).all())
        for other in before:
            node = self.graph.call_method("add", (node, other))
        return Live(node, live[0].size, positive)

    def finish(self, output: Live) -> fx.GraphModule:
        """The network, without what its output does not need."""
        self.graph.output(output.node)
        # fx would keep what could have side effects; in eval mode nothing here has any.
        self.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
        network = fx.GraphModule(self.modules, self.graph, "FoldedNetwork")
        _absorb_constants(network)
        network.delete_all_unused_submodules()
        return network.eval().requires_grad_(False)

    def _once(self, key: tuple[object, ...], make: Any) -> fx.Node:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def _buffer(self, tensor: Tensor) -> fx.Node:
        uniform = bool((tensor == tensor[:, :, :1, :1]).all())
        holder = nn.Module()
        holder.register_buffer("value", tensor[:, :, :1, :1].clone() if uniform else tensor)
        return self.graph.get_attr(f"{self.adopt(holder, 'constant')}.value")


def _absorb_constants(network: fx.GraphModule) -> None:
    """Puts a colour that is added to a convolution alone into its bias."""
    for node in network.graph.find_nodes(op="call_method", target="add"):
        conv, colour = node.args
        if colour.op != "get_attr" or conv.op != "call_module" or len(conv.users) > 1:
            continue
        module, value = network.get_submodule(conv.target), operator.attrgetter(colour.target)(network)
        if isinstance(module, nn.Conv2d) and module.bias is not None and value.shape[-2:] == (1, 1):
            module.bias = nn.Parameter(module.bias + value.flatten())
            node.replace_all_uses_with(conv)
            network.graph.erase_node(node)
    network.graph.eliminate_dead_code()
    network.recompile()
