"""JoinedMixtures: all edges of a supernet in few operators, for devices that wait for launches.

On a GPU the small operators of a bilevel step take longer to launch than to compute. This is the sum that `net.mixture`
states, equal up to rounding (tests/net/test_joined.py), from fewer and larger operators:
    one softmax serves all edges;
    kernels of all edges are stacked, multiplied and narrowed together before the first edge runs;
    edges that read one input, such as the outer edges of one level, run as one edge of several times the width;
    convolutions of one geometry on one input are one convolution, with one BatchNorm;
    the second convolutions of repeated candidates are a grouped one.
`benchmarks/operators.py` counts. On a CPU wider convolutions are no faster (benchmarks/search_profile.md), so every
edge runs by itself there.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from net.batch_norm import batch_norm
from net.chains import Chain, Unit
from net.mixture import BN_EPS, MixedOp, dense
from net.operations import ChannelAttention, SpatialAttention

Edges = Sequence[MixedOp]
Run = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Stage:
    """Units of one geometry on one input, which run as one convolution.

    Attributes:
        depth: place of the units in their chains; at 0 they read the edge's input.
        chains: those that end here, then those of every child, in that order.
        ends: how many end here.
        children: what follows; a child reads the outputs of its chains here.
    """

    depth: int
    chains: tuple[Chain, ...]
    ends: int
    children: tuple["Stage", ...]

    @property
    def unit(self) -> Unit:
        """One of the units; all have its geometry."""
        return self.chains[0].units[self.depth]

    def walk(self) -> Iterator["Stage"]:
        """This stage, then all below it, in the order of computation."""
        yield self
        for child in self.children:
            yield from child.walk()


def stages(chains: Sequence[Chain], depth: int = 0) -> tuple[Stage, ...]:
    """The stages that chains which share an input consist of, from the unit at `depth` on."""
    alike: dict[object, list[Chain]] = {}
    for chain in chains:
        unit = chain.units[depth]
        alike.setdefault((unit.conv.kernel_size, unit.conv.dilation, unit.conv.padding, unit.eps), []).append(chain)
    found: list[Stage] = []
    for group in alike.values():
        ending = [chain for chain in group if len(chain.units) == depth + 1]
        children = stages([chain for chain in group if len(chain.units) > depth + 1], depth + 1)
        later = [chain for child in children for chain in child.chains]
        found.append(Stage(depth, (*ending, *later), len(ending), children))
    return tuple(found)


class JoinedMixtures:
    """Edges of one search space, prepared together.

    Args:
        groups: edges that read one input, group by group; all have the same candidates, width and relaxation, and the
            same `shared`.
    """

    def __init__(self, groups: Sequence[Edges]) -> None:
        self.groups = [tuple(group) for group in groups]
        self.first = first = self.groups[0][0]
        self.stages = stages(first.chains)
        self._walk = [one for stage in self.stages for one in stage.walk()]
        self.spatial = [index for index in first.others if _plain(first.candidates[index], SpatialAttention)]
        self.channel = [index for index in first.others if _plain(first.candidates[index], ChannelAttention)]
        self.rest = [index for index in first.others if index not in (*self.spatial, *self.channel)]

    def scale_places(self) -> list[int]:
        """For each scale of a BatchNorm, in the order of computation, its place in `_scales`' table of weights."""
        count, places = len(self.first.names), list[int]()
        one = count * sum(map(len, self.groups))  # behind all weights stands a one
        before = 0
        for group in self.groups:
            edges = range(before, before + len(group))
            for columns in self._columns():
                places += [one if column is None else edge * count + column for column in columns for edge in edges]
            before += len(group)
        return places

    def prepare(self, places: Tensor) -> list[Run]:
        """Computes what depends on parameters only; returns for each group a function of its input.

        Args:
            places: `scale_places`, on the device of the parameters.

        The functions map (B, C, H, W) to the output of every edge of the group, each (B, C, H, W).
        """
        alphas = torch.stack([edge.alpha for group in self.groups for edge in group])
        weights = torch.softmax(alphas / self.first.temperature, dim=1)  # (edges, candidates)
        kernels = self._kernels(_computing_dtype(alphas))
        scales = self._scales(weights, places)
        others = weights.split([len(group) for group in self.groups])
        return [_Group(self, *parts).run for parts in zip(self.groups, kernels, scales, others, strict=True)]

    def _columns(self) -> Iterator[list[int | None]]:
        """Candidates whose weights scale each BatchNorm of a group; None for a scale of 1."""
        for stage in self._walk:
            yield [chain.index if number < stage.ends else None for number, chain in enumerate(stage.chains)]
        for index in (*self.first.skips, *self.spatial, *self.channel):
            yield [index]

    def _scales(self, weights: Tensor, places: Tensor) -> list[list[Tensor]]:
        """For each group the scales of its BatchNorms, in the order of computation."""
        table = torch.cat([weights.flatten(), weights.new_ones(1)])
        rows = table.index_select(0, places)[:, None].expand(-1, self.first.width).flatten()
        lengths = [len(columns) * self.first.width for columns in self._columns()]
        parts = iter(rows.split([length * len(group) for group in self.groups for length in lengths]))
        return [[next(parts) for _ in lengths] for _ in self.groups]

    def _kernels(self, dtype: torch.dtype) -> list[list[Tensor]]:
        """For each group its kernels, in the dtype that it computes in."""
        units = _unit_kernels([edge for group in self.groups for edge in group], dtype)
        columns: list[Sequence[Tensor]] = []  # kind of kernel -> group -> kernels of its edges, joined
        for stage in self._walk:
            columns.append(
                _joined([[units[id(unit)] for unit in self._units(stage, one)] for one in self.groups], dtype)
            )
        for index in self.spatial:
            columns += [self._convolution(index, name, dtype) for name in ("attend", "mix")]
        for index in self.channel:
            columns.append(self._convolution(index, "mix", dtype))
            columns += [part for layer in ("squeeze", "excite") for part in self._linear(index, layer, dtype)]
        return [[column[number] for column in columns] for number in range(len(self.groups))]

    def _units(self, stage: Stage, group: Edges) -> Iterator[Unit]:
        for chain in stage.chains:
            place = self.first.chains.index(chain)
            yield from (edge.chains[place].units[stage.depth] for edge in group)

    def _convolution(self, index: int, layer: str, dtype: torch.dtype) -> Sequence[Tensor]:
        """Kernels of a convolution of an attention, by group."""
        wanted = [[getattr(edge.candidates[index], layer).weight for edge in group] for group in self.groups]
        return _joined(wanted, dtype)

    def _linear(self, index: int, layer: str, dtype: torch.dtype) -> list[Sequence[Tensor]]:
        """Weights (k, in, out) and biases (k, 1, out) of a linear layer, by group."""
        layers: list[Any] = [getattr(edge.candidates[index], layer) for group in self.groups for edge in group]
        weight = torch.stack([one.weight for one in layers]).to(dtype).transpose(1, 2)
        bias = torch.stack([one.bias for one in layers]).to(dtype)[:, None]
        lengths = [len(group) for group in self.groups]
        return [weight.split(lengths), bias.split(lengths)]


def one_output(run: Run) -> Callable[[Tensor], Tensor]:
    """The function of a group of one edge, with its only output."""
    return lambda x: run(x)[0]


class _Group:
    """Edges that read one input. Tensors of k edges have k * C channels, edge after edge."""

    def __init__(
        self, plan: JoinedMixtures, edges: Edges, kernels: Iterable[Tensor], scales: Iterable[Tensor], weights: Tensor
    ) -> None:
        self.plan, self.edges, self.weights = plan, edges, weights
        self.count, self.width = len(edges), plan.first.width
        self._kernels, self._scales = iter(kernels), iter(scales)

    def run(self, x: Tensor) -> tuple[Tensor, ...]:
        """Outputs of all edges; call it once."""
        part = x
        if self.width != x.shape[1]:
            part = x[:, : self.width].contiguous(memory_format=torch.channels_last)
        terms = self._terms(part)
        total = next(terms)
        for number, term in enumerate(terms):
            # The first sum is a tensor of its own; into it the others are added in place.
            total = total + term if number == 0 else total.add_(term)
        outputs = total.split(self.width, 1) if self.count > 1 else (total,)
        if self.width != x.shape[1]:
            for one in outputs:
                if one.requires_grad:
                    one.register_hook(dense)
            outputs = tuple(torch.cat([x[:, self.width :], one], dim=1) for one in outputs)
        auxiliary = self.plan.first.auxiliary
        return tuple(one + auxiliary * x for one in outputs) if auxiliary else tuple(outputs)

    def _terms(self, x: Tensor) -> Iterator[Tensor]:
        """Weighted outputs of all candidates but `none`, each (B, k * C, H, W)."""
        rectified = F.relu(x) if self.plan.stages else x
        for stage in self.plan.stages:
            yield from self._stage(stage, rectified)
        for _ in self.plan.first.skips:
            yield self._normalise(x.repeat(1, self.count, 1, 1) if self.count > 1 else x, BN_EPS)
        for index in self.plan.spatial:
            yield self._spatial(x, self._eps(index))
        for index in self.plan.channel:
            yield self._channel(x, self._eps(index))
        for index in self.plan.rest:
            parts = [
                weight[index].to(x.dtype) * edge.candidates[index](x)
                for edge, weight in zip(self.edges, self.weights, strict=True)
            ]
            yield torch.cat(parts, dim=1) if self.count > 1 else parts[0]

    def _stage(self, stage: Stage, x: Tensor) -> Iterator[Tensor]:
        """Weighted outputs of the chains that pass through a stage."""
        conv, several = stage.unit.conv, len(stage.chains) * self.count
        y = F.conv2d(
            x, next(self._kernels), padding=conv.padding, dilation=conv.dilation, groups=several if stage.depth else 1
        )  # fmt: skip
        y = self._normalise(y, stage.unit.eps)
        wide = self.width * self.count
        parts = iter(y.split([wide] * stage.ends + [wide * len(child.chains) for child in stage.children], 1))
        yield from (next(parts) for _ in range(stage.ends))
        for child, part in zip(stage.children, parts, strict=True):
            yield from self._stage(child, F.relu(part))

    def _spatial(self, x: Tensor, eps: float) -> Tensor:
        """`SpatialAttention`; a weight a position commutes with a 1x1 convolution, so one serves all edges."""
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)  # (B, 2, H, W)
        attend, mix = next(self._kernels), next(self._kernels)
        weight = torch.sigmoid(F.conv2d(pooled, attend, padding=attend.shape[-1] // 2))  # (B, k, H, W)
        mixed = F.conv2d(x, mix).unflatten(1, (self.count, self.width)) * weight[:, :, None]
        return F.relu(self._normalise(mixed.flatten(1, 2), eps))

    def _channel(self, x: Tensor, eps: float) -> Tensor:
        """`ChannelAttention` of all edges."""
        mix, *layers = (next(self._kernels) for _ in range(5))
        y = x.mean((2, 3)).expand(self.count, -1, -1)  # (k, B, C)
        y = F.relu(torch.baddbmm(layers[1], y, layers[0]))
        weight = torch.sigmoid(torch.baddbmm(layers[3], y, layers[2]))  # (k, B, C)
        weighted = x[:, None] * weight.transpose(0, 1)[:, :, :, None, None]  # (B, k, C, H, W)
        return F.relu(self._normalise(F.conv2d(weighted.flatten(1, 2), mix, groups=self.count), eps))

    def _normalise(self, x: Tensor, eps: float) -> Tensor:
        """BatchNorm by the batch, times the next scale."""
        return batch_norm(x, next(self._scales), None, eps, self.plan.first.shared)

    def _eps(self, index: int) -> float:
        module: Any = self.plan.first.candidates[index]
        return module.norm.eps


def _plain(module: nn.Module, kind: type[SpatialAttention | ChannelAttention]) -> bool:
    """Whether a candidate is an attention of the paper, with a BatchNorm that learns nothing."""
    return type(module) is kind and not module.norm.affine


def _computing_dtype(like: Tensor) -> torch.dtype:
    """The dtype of products on that device now."""
    kind = like.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype


def _unit_kernels(edges: Edges, dtype: torch.dtype) -> dict[int, Tensor]:
    """The kernel of every unit, by the unit's id; a pointwise convolution is multiplied into it."""
    units = [unit for edge in edges for chain in edge.chains for unit in chain.units]
    found: dict[int, Tensor] = {}
    for shape in dict.fromkeys(unit.conv.weight.shape for unit in units):
        alike = [unit for unit in units if unit.conv.weight.shape == shape]
        double, single = [one for one in alike if one.pointwise], [one for one in alike if not one.pointwise]
        if single:
            stacked = torch.stack([one.conv.weight for one in single]).to(dtype)
            found |= zip(map(id, single), stacked.unbind(), strict=True)
        if double:
            points = torch.stack([one.pointwise.weight for one in double if one.pointwise]).to(dtype)
            inner = torch.stack([one.conv.weight for one in double]).to(dtype)
            product = torch.bmm(points.flatten(2), inner.flatten(2))  # (units, C, C * k * k)
            found |= zip(map(id, double), product.view(-1, *shape).unbind(), strict=True)
    return found


def _joined(wanted: Sequence[Sequence[Tensor]], dtype: torch.dtype) -> Sequence[Tensor]:
    """For each group its kernels (out, in, k, k), one after the other along the outputs; channels last in memory."""
    flat = [kernel for group in wanted for kernel in group]
    whole = torch.stack(flat).to(dtype).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return whole.split([sum(len(kernel) for kernel in group) for group in wanted])
