"""Builds a graph node by node and computes at once what does not depend on the image.

A value is either live (a node of the graph) or constant (a tensor that is known already).
"""

import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from inference.folding.algebra import Kernel, understood
from net.fusion_cell import resize

Size = tuple[int, int]


@dataclass(frozen=True)
class Live:
    """A feature that depends on the image.

    Attributes:
        node: the node that computes it, (B, C, h, w).
        size: (h, w).
        positive: whether no element is negative, so that ReLU changes nothing.
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
    """Collects nodes and modules; a repeated call on the same node becomes one node.

    Args:
        channels: width C of the features of the decoder.
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.graph = fx.Graph()
        self.modules = nn.ModuleDict()
        self._known: dict[tuple[object, ...], fx.Node] = {}
        self._shifts: list[fx.Node] = []  # additions of a constant

    def adopt(self, module: nn.Module, name: str) -> str:
        """Adds a module to the network; returns its name there, which starts with `name`."""
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
        """A convolution, followed by ReLU if `relu`."""
        node = self.graph.call_module(self.adopt(kernel.module(), name), (x.node,))
        reach = kernel.dilation * (kernel.weight.shape[-1] - 1)
        height, width = ((side + 2 * kernel.padding - reach - 1) // kernel.stride + 1 for side in x.size)
        result = Live(node, (height, width))
        return self.relu(result) if relu else result

    def relu(self, x: Live) -> Live:
        """max(x, 0), or x itself where x is positive."""
        return x if x.positive else Live(self.call("relu", x.node), x.size, positive=True)

    def zero(self, size: Size) -> Constant:
        """A feature of zeros."""
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

    def resize_map(self, x: Live, size: Size, name: str) -> Live:
        """`resize` of a feature of one channel, as two matrix products.

        Libraries resize several channels at a time, so a single one costs them as much as many.

        Args:
            x: (B, 1, h, w).
            size: height and width of the result.
            name: start of the names of the matrices.
        """
        if x.size == size:
            return x
        rows, columns = (resize_matrix(old, new) for old, new in zip(x.size, size, strict=True))
        wide = self.graph.call_function(torch.matmul, (x.node, self._buffer(columns.T.contiguous(), name)))
        return Live(self.graph.call_function(torch.matmul, (self._buffer(rows, name), wide)), size)

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
            # Added to the last term first: a convolution there takes a constant colour into its bias.
            node = self.graph.call_method("add", (node, self._buffer(_one_pixel(known), "constant")))
            self._shifts.append(node)
            positive = positive and bool((known >= 0).all())
        for other in before:
            node = self.graph.call_method("add", (node, other))
        return Live(node, live[0].size, positive)

    def finish(self, output: Live) -> fx.GraphModule:
        """The network, without the nodes that its output does not need."""
        self.graph.output(output.node)
        # fx keeps nodes that may have side effects; in eval mode nothing here has any.
        self.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
        network = fx.GraphModule(self.modules, self.graph, "FoldedNetwork")
        _absorb_constants(network, self._shifts)
        network.delete_all_unused_submodules()
        return network.eval().requires_grad_(False)

    def _once(self, key: tuple[object, ...], make: Any) -> fx.Node:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def _buffer(self, tensor: Tensor, name: str) -> fx.Node:
        holder = nn.Module()
        holder.register_buffer("value", tensor)
        return self.graph.get_attr(f"{self.adopt(holder, name)}.value")


def resize_matrix(old: int, new: int) -> Tensor:
    """The bilinear resize of a line of pixels as a matrix, (new, old): what `net.fusion_cell.resize` does to each unit
    vector."""
    return resize(torch.eye(old)[:, None, :, None], (new, 1))[:, 0, :, 0].T.contiguous()


def _one_pixel(feature: Tensor) -> Tensor:
    """A feature of one colour as a single pixel, (1, C, 1, 1); any other as it is."""
    pixel = feature[:, :, :1, :1]
    return pixel.clone() if bool((feature == pixel).all()) else feature


def _absorb_constants(network: fx.GraphModule, shifts: Sequence[fx.Node]) -> None:
    """Moves a constant colour into the bias of the convolution that it is added to.

    Args:
        network: the network.
        shifts: additions of a feature and a constant of the builder's own.
    """
    living = set(network.graph.nodes)
    calls = Counter(str(node.target) for node in network.graph.nodes)
    for node in (node for node in shifts if node in living):
        conv, colour = cast(tuple[fx.Node, fx.Node], node.args)
        if conv.op != "call_module" or len(conv.users) > 1 or calls[str(conv.target)] > 1:
            continue
        module, value = network.get_submodule(str(conv.target)), operator.attrgetter(str(colour.target))(network)
        plain = isinstance(module, nn.Conv2d) and understood(module, nn.Conv2d)
        if plain and module.bias is not None and value.shape[-2:] == (1, 1):
            module.bias = nn.Parameter(module.bias + value.flatten())
            node.replace_all_uses_with(conv)
            network.graph.erase_node(node)
    network.graph.eliminate_dead_code()
    network.recompile()
