"""A module as a graph of torch.fx, with every BatchNorm that follows a convolution folded into it."""

import copy

from torch import fx, nn
from torch.fx.node import Argument, map_arg
from torch.fx.proxy import TraceError

from inference.folding.algebra import Kernel, norm_terms, then_affine


class _Tracer(fx.Tracer):
    """Convolutions and norms stay whole, whatever library their class comes from."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def trace(module: nn.Module) -> fx.GraphModule:
    """The graph of a copy of a module in eval mode, its BatchNorms folded where a convolution alone feeds them.

    A module whose Python code depends on its tensors can't be traced; it becomes a graph of one node, unfolded.
    """
    module = copy.deepcopy(module).eval().requires_grad_(False)
    tracer = _Tracer()
    try:
        graph = tracer.trace(module)
    except (TypeError, ValueError, RuntimeError, AttributeError, AssertionError, TraceError):
        graph, module = _opaque(module)
        return fx.GraphModule(module, graph)
    traced = fx.GraphModule(tracer.root, graph)
    _fold_norms(traced)
    return traced


def _opaque(module: nn.Module) -> tuple[fx.Graph, nn.Module]:
    graph = fx.Graph()
    graph.output(graph.call_module("whole", (graph.placeholder("x"),)))
    return graph, nn.ModuleDict({"whole": module})


def _fold_norms(traced: fx.GraphModule) -> None:
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        norm = modules.get(node.target) if node.op == "call_module" else None
        source = node.args[0] if node.args else None
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or not isinstance(source, fx.Node):
            continue
        conv = modules.get(str(source.target)) if source.op == "call_module" else None
        # A module that is called twice, or whose output is read elsewhere, must keep its own weights.
        calls = sum(other.target == source.target for other in traced.graph.nodes)
        if isinstance(conv, nn.Conv2d) and len(source.users) == 1 and calls == 1:
            _take_in(conv, norm)
            _replace_norm(traced, node, source, norm)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()


def _take_in(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    kernel = then_affine(Kernel.of(conv), *norm_terms(norm))
    conv.weight = nn.Parameter(kernel.weight.float(), requires_grad=False)
    conv.bias = nn.Parameter(kernel.bias.float(), requires_grad=False)


def _replace_norm(traced: fx.GraphModule, node: fx.Node, source: fx.Node, norm: nn.BatchNorm2d) -> None:
    """Puts what a norm does beyond normalising (timm's have an activation) in its place."""
    activation = getattr(norm, "act", None)
    if activation is None or isinstance(activation, nn.Identity):
        node.replace_all_uses_with(source)
        traced.graph.erase_node(node)
        return
    traced.set_submodule(str(node.target), activation)


def inline(graph: fx.Graph, traced: fx.GraphModule, prefix: str, *inputs: fx.Node) -> Argument:
    """Copies a traced module's nodes into another graph; its submodules are to stand under `prefix` there.

    Returns:
        What the module returns, as nodes of `graph`.
    """
    values: dict[fx.Node, fx.Node] = {}
    arguments = iter(inputs)
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            values[node] = next(arguments)
        elif node.op == "output":
            return map_arg(node.args[0], lambda n: values[n])
        else:
            values[node] = graph.node_copy(node, lambda n: values[n])
            if node.op in ("call_module", "get_attr"):
                values[node].target = f"{prefix}.{node.target}"
    raise AssertionError("a graph without an output")
