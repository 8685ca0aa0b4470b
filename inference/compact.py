"""ONNX files at half their size: weights are stored as the float16 kernels that they were folded from.

A released network holds its kernels in float16. Folding multiplies them by the scale of their BatchNorm, and a 3x3 by
the 1x1 convolution that follows it, in float64; the products are float32 and twice as long. Here the file holds the
factors and the graph holds the products, in the same order and precision. ONNX Runtime computes them once, when it
opens the file. So a compact file has the weights of the plain one to the bit (tested in
tests/inference/test_compact.py), and its maps.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from inference.engines.base import require
from inference.folding.algebra import Kernel, norm_terms, then_affine, then_pointwise

SMALLEST = 1024  # elements; below that the extra nodes cost more than they save

Factors = tuple[nn.Conv2d, nn.Conv2d | None, Tensor]
"""A convolution, the 1x1 after it if there is one, and the scale of the BatchNorm after both, (O,) float64."""


def compact(model: Any, network: nn.Module) -> int:
    """Replaces, in place, float32 weights of a model by products of the network's float16 kernels.

    A weight that is no such product, or whose kernels float16 does not hold exactly, stays as it is.

    Args:
        model: an onnx.ModelProto of the folded network.
        network: the network that was folded, float32.

    Returns:
        The number of weights that are products now.
    """
    onnx = require("onnx", "ONNX")
    known = {_folded(*factors).numpy().tobytes(): factors for factors in _factors(network)}
    nodes, replaced = [], []
    for weight in model.graph.initializer:
        factors = known.get(onnx.numpy_helper.to_array(weight).tobytes())
        if factors is not None:
            nodes += _product(onnx, model.graph, weight.name, factors)
            replaced.append(weight)
    for weight in replaced:
        model.graph.initializer.remove(weight)
    for position, node in enumerate(nodes):  # before the nodes that read them
        model.graph.node.insert(position, node)
    return len(replaced)


def _factors(network: nn.Module) -> Iterator[Factors]:
    """Every convolution, or pair with a 1x1, that a BatchNorm follows in the order of registration."""
    units = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    for index, norm in enumerate(units):
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        scale = norm_terms(norm)[0]
        last, first = (units[index - back] if index >= back else None for back in (1, 2))
        if not isinstance(last, nn.Conv2d) or not _fits(last) or last.out_channels != len(scale):
            continue
        yield last, None, scale
        if isinstance(first, nn.Conv2d) and _fits(first) and _chained(first, last):
            yield first, last, scale


def _fits(conv: nn.Conv2d) -> bool:
    """Whether float16 holds a kernel exactly, and it is worth it."""
    return conv.weight.numel() >= SMALLEST and torch.equal(conv.weight, conv.weight.half().float())


def _chained(first: nn.Conv2d, second: nn.Conv2d) -> bool:
    return (
        second.kernel_size == (1, 1) and second.in_channels == first.out_channels and first.groups == second.groups == 1
    )


def _folded(first: nn.Conv2d, second: nn.Conv2d | None, scale: Tensor) -> Tensor:
    """The weight as `inference.folding` computes it, float32."""
    kernel = Kernel.of(first)
    if second is not None:
        kernel = then_pointwise(kernel, Kernel.of(second))
    return then_affine(kernel, scale).weight.float()


def _product(onnx: Any, graph: Any, name: str, factors: Factors) -> list[Any]:
    """Nodes that compute `_folded` and give it the name of the weight; their constants go into the graph."""
    first, second, scale = factors
    kernel = first.weight.detach().half()
    shape = [len(scale), *kernel.shape[1:]]
    make, nodes = onnx.helper.make_node, []

    def constant(part: str, values: Any) -> str:
        graph.initializer.append(onnx.numpy_helper.from_array(values, f"{name}/{part}"))
        return f"{name}/{part}"

    def node(operator: str, inputs: list[str], output: str, **settings: Any) -> str:
        nodes.append(make(operator, inputs, [output], name=output, **settings))
        return output

    def double(part: str, values: Tensor) -> str:
        return node("Cast", [constant(part, values.numpy())], f"{name}/{part}/double", to=onnx.TensorProto.DOUBLE)

    if second is None:
        product = double("kernel", kernel)
    else:
        flat = node("MatMul", [double("mix", second.weight.detach().half().flatten(1)),
                               double("kernel", kernel.flatten(1))], f"{name}/mixed")  # fmt: skip
        product = node("Reshape", [flat, constant("shape", torch.tensor(shape).numpy())], f"{name}/shaped")
    scaled = node("Mul", [product, constant("scale", scale[:, None, None, None].numpy())], f"{name}/scaled")
    node("Cast", [scaled], name, to=onnx.TensorProto.FLOAT)
    return nodes
