"""Reverse-mode differentiation in Python: calls autograd's nodes one by one.

PyTorch's own engine asks the CUDA driver for streams, which fake tensors on a machine without CUDA do not have. This
one also checks what the engine would correct silently: device, type and shape of every gradient.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


def backward(tensors: Tensor | Sequence[Tensor], *_: Any, **__: Any) -> None:
    """As `torch.autograd.backward`: adds to `grad` of every leaf."""
    roots = _listed(tensors)
    found = _gradients(roots)
    for leaf in _leaves(roots):
        gradient = found.get(id(leaf))
        if gradient is not None:
            check(leaf, gradient)
            leaf.grad = gradient.detach() if leaf.grad is None else leaf.grad + gradient


def grad(
    outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], grad_outputs: None = None,
    materialize_grads: bool = False, **_: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    """As `torch.autograd.grad` of leaves."""
    assert grad_outputs is None
    found = _gradients(_listed(outputs))
    results = []
    for one in _listed(inputs):
        gradient = found.get(id(one))
        if gradient is None:
            assert materialize_grads, "an input has no gradient"
            gradient = torch.zeros_like(one)
        check(one, gradient)
        results.append(gradient)
    return tuple(results)


def check(leaf: Tensor, gradient: Tensor) -> None:
    """A gradient has the device, type and shape of its leaf."""
    assert (leaf.device, leaf.dtype, leaf.shape) == (gradient.device, gradient.dtype, gradient.shape), (
        f"gradient {gradient.dtype} {gradient.device} {tuple(gradient.shape)} "
        f"of a leaf {leaf.dtype} {leaf.device} {tuple(leaf.shape)}"
    )


def _gradients(roots: Sequence[Tensor]) -> dict[int, Tensor]:
    """Gradient of the sum of all roots by every leaf, by the leaf's id."""
    waiting = Counter(other for node in _nodes(roots) for other, _ in node.next_functions if other is not None)
    arrived: dict = defaultdict(dict)  # node -> number of its output -> gradient
    for root in roots:
        arrived[root.grad_fn][root.output_nr] = torch.ones_like(root)
    ready: deque[Any] = deque({root.grad_fn for root in roots})
    leaves: dict[int, Tensor] = {}
    with torch.no_grad():
        while ready:
            node = ready.popleft()
            mine = arrived.pop(node, {})
            if hasattr(node, "variable"):
                if mine:
                    leaves[id(node.variable)] = mine[0]
                continue
            for (other, number), gradient in zip(node.next_functions, _results(node, mine), strict=True):
                if other is None:
                    continue
                if gradient is not None:
                    fitted = _fitted(gradient, other._input_metadata[number], node)
                    before = arrived[other].get(number)
                    arrived[other][number] = fitted if before is None else before + fitted
                waiting[other] -= 1
                if not waiting[other]:
                    ready.append(other)
    return leaves


def _results(node: Any, mine: dict[int, Tensor]) -> Sequence[Tensor | None]:
    """Gradients of a node's inputs from those of its outputs."""
    given = [mine.get(number) for number in range(len(node._input_metadata))]
    if all(one is None for one in given):
        return [None] * len(node.next_functions)
    results = node(*given)
    return results if isinstance(results, tuple) else (results,)


def _fitted(gradient: Tensor, expected: Any, node: Any) -> Tensor:
    """As PyTorch's engine: a gradient of a broadcast input is summed, one of another type is cast."""
    assert gradient.device == expected.device, f"{node.name()}: {gradient.device}, expected {expected.device}"
    if gradient.shape != expected.shape:
        gradient = gradient.sum_to_size(tuple(expected.shape))
    return gradient.to(expected.dtype)


def _nodes(roots: Sequence[Tensor]) -> Iterator[Any]:
    """Every node of the graph once."""
    seen, stack = set(), [root.grad_fn for root in roots]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            stack += [other for other, _ in node.next_functions]


def _leaves(roots: Sequence[Tensor]) -> list[Tensor]:
    return [node.variable for node in _nodes(roots) if hasattr(node, "variable")]


def _listed(tensors: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)
