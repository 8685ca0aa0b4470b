"""A module as a graph of torch.fx, with BatchNorm folded into a plain convolution before it."""

import copy

from torch import fx, nn
from torch.fx.node import Argument, map_arg

from inference.folding.algebra import norm_terms, understood
from net.libraries import BatchNormAct2d, Conv2dSame

_CONVOLUTIONS = (nn.Conv2d, Conv2dSame)  # all multiply their weight as it is; a subclass may change it first
_NORMS = (nn.BatchNorm2d, BatchNormAct2d)


class _Tracer(fx.Tracer):
    """Keeps convolutions and norms whole, whatever library defines their class."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def trace(module: nn.Module) -> fx.GraphModule:
    """The graph of a copy of a module of one input, in eval mode, with BatchNorm folded where that is exact.

    A module that torch.fx cannot trace, or that takes more than one input, becomes a graph of one node, unfolded.
    """
    copied = copy.deepcopy(module).eval().requires_grad_(False)
    tracer = _Tracer()
    try:
        graph = tracer.trace(copied)
    except Exception:  # the module's own code runs on proxies, so it may raise anything
        return opaque(module)
    if len(graph.find_nodes(op="placeholder")) != 1:
        return opaque(module)
    traced = fx.GraphModule(tracer.root, graph)
    _fold_norms(traced)
    return traced


def opaque(module: nn.Module) -> fx.GraphModule:
    """A graph of one node that calls a copy of the module, in eval mode."""
    graph = fx.Graph()
    graph.output(graph.call_module("whole", (graph.placeholder("x"),)))
    whole = copy.deepcopy(module).eval().requires_grad_(False)
    return fx.GraphModule(nn.ModuleDict({"whole": whole}), graph)


def _fold_norms(traced: fx.GraphModule) -> None:
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        source = node.args[0] if node.args else None
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or not isinstance(source, fx.Node):
            continue
        conv = modules.get(str(source.target)) if source.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d) or not understood(conv, *_CONVOLUTIONS) or not understood(norm, *_NORMS):
            continue
        # A module that is called twice, or whose output is read elsewhere, keeps its own weights.
        if len(source.users) == 1 and _calls(traced, source) == _calls(traced, node) == 1:
            _fold_into(conv, norm)
            _replace_norm(traced, node, source, norm)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()


def _calls(traced: fx.GraphModule, node: fx.Node) -> int:
    """How many nodes read the module of a node: calls of it and uses of its parameters."""
    name = str(node.target)
    return sum(other.target == name or str(other.target).startswith(f"{name}.") for other in traced.graph.nodes)


def _fold_into(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """norm(conv(x)) as conv(x): exact for any stride, padding and groups."""
    scale, shift = norm_terms(norm)
    weight = conv.weight.detach().double() * scale[:, None, None, None]
    bias = shift if conv.bias is None else conv.bias.detach().double() * scale + shift
    conv.weight = nn.Parameter(weight.float(), requires_grad=False)
    conv.bias = nn.Parameter(bias.float(), requires_grad=False)


def _replace_norm(traced: fx.GraphModule, node: fx.Node, source: fx.Node, norm: nn.BatchNorm2d) -> None:
    """Replaces a norm by its activation, which timm's norms have, or by nothing."""
    activation = getattr(norm, "act", None)
    if activation is None or isinstance(activation, nn.Identity):
        node.replace_all_uses_with(source)
        traced.graph.erase_node(node)
        return
    traced.set_submodule(str(node.target), activation)


def inline(graph: fx.Graph, traced: fx.GraphModule, prefix: str, source: fx.Node) -> Argument:
    """Copies the nodes of a traced module of one input into another graph.

    Args:
        graph: the graph to write to.
        traced: the module; its submodules must be under `prefix` in the owner of `graph`.
        prefix: name of the module there.
        source: its input.

    Returns:
        The module's output, as nodes of `graph`.
    """
    values: dict[fx.Node, fx.Node] = {}
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            values[node] = source
        elif node.op == "output":
            return map_arg(node.args[0], lambda n: values[n])
        else:
            values[node] = graph.node_copy(node, lambda n: values[n])
            if node.op in ("call_module", "get_attr"):
                values[node].target = f"{prefix}.{node.target}"
    raise AssertionError("a graph without an output")
