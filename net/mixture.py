"""Mixture: one edge of the supernet, a weighted sum over all candidate operations.

Source: DARTS (arXiv 1806.09055), equation 2. Candidates have BatchNorm without scale and shift and with the statistics
of the batch, as in its public code, `skip_connect` included, so that the weights compare like with like.
The sum is that of the definition, but no work is done twice or for nothing:
    `none` is left out: it adds nothing to the sum, only its weight counts;
    one ReLU serves all convolutions of the edge's input;
    a 3x3 and the 1x1 behind it, with nothing between, are one 3x3 with the product of their kernels;
    the weights of the sum are the scales of the last BatchNorms, whose backward pass gives their gradient anyway;
    every term is added at once, while it is in the cache, and let go.
Convolutions of one geometry run one by one: joined into a wider one they are no faster on the CPU that we measured
(benchmarks/search_profile.md, last section), and what follows would have to take them apart again.
Partial channels are PC-DARTS' (arXiv 1907.05737), the auxiliary skip is DARTS-' (arXiv 2009.01027).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from net import operations
from utils.errors import UserError

BN_EPS = nn.BatchNorm2d(1).eps


class SpaceError(UserError):
    """A search space that holds nothing to choose from, or does not fit the network."""


@dataclass(frozen=True)
class Unit:
    """ReLU, convolution, optional 1x1, BatchNorm: a part of a chain that runs as one convolution.

    Attributes:
        conv: square, stride 1, no groups, no bias.
        pointwise: a 1x1 without bias right behind it, or None.
        eps: of the BatchNorm.
    """

    conv: nn.Conv2d
    pointwise: nn.Conv2d | None
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """Both convolutions of a rectified input; (B, C, H, W) -> the same."""
        conv, pointwise = self.conv, self.pointwise
        padding, dilation = conv.padding, conv.dilation
        if pointwise is None:
            return F.conv2d(x, conv.weight, padding=padding, dilation=dilation)
        # The product of the kernels costs as much as the 1x1 on one pixel for each of the k * k * C entries of a row.
        if x.shape[0] * x.shape[2] * x.shape[3] < conv.weight[0].numel():
            return F.conv2d(F.conv2d(x, conv.weight, padding=padding, dilation=dilation), pointwise.weight)
        kernel = pointwise.weight.flatten(1) @ conv.weight.flatten(1)  # (C, C) @ (C, C * k * k)
        return F.conv2d(x, kernel.view_as(conv.weight), padding=padding, dilation=dilation)


@dataclass(frozen=True)
class Chain:
    """A candidate that is units and nothing else; `index` is its place among the weights."""

    index: int
    units: tuple[Unit, ...]


class Mixture(nn.Module):
    """One edge: candidates, their alphas and the weighted sum.

    Args:
        names: candidate operations, by registered name.
        channels: width C of input and output.
        partial: K; the first C / K channels go through the candidates, the others pass by. 1 is exact DARTS.

    Attributes:
        alpha: (number of candidates,), the architecture parameters of this edge.
        temperature: of the softmax over alpha.
        auxiliary: factor of the input that is added outside the softmax; 0 without DARTS-.

    Shapes:
        x: (B, C, H, W), returns the same.

    Raises:
        SpaceError: if there is no operation but `none`, one stands twice, or C / K is no whole number.
        OperationError: if a name is not registered.
    """

    def __init__(self, names: Sequence[str], channels: int, partial: int = 1) -> None:
        super().__init__()
        check_space(names, channels, partial)
        self.names = tuple(names)
        self.width = channels // partial
        self.alpha = nn.Parameter(1e-3 * torch.randn(len(names)))  # DARTS' start: next to uniform
        self.candidates = nn.ModuleList(build_candidate(name, self.width) for name in names)
        self.temperature = 1.0
        self.auxiliary = 0.0
        self._chains, self._skips, self._others = self._sort()

    def forward(self, x: Tensor) -> Tensor:
        """The weighted sum at the input's own resolution."""
        if self.width == x.shape[1]:
            mixed = self._mix(x)
        else:
            # The mixed channels go last instead of PC-DARTS' shuffle: the next edge takes others, and nothing is
            # gathered channel by channel, which is slow where channels are innermost in memory.
            part = self._mix(x[:, : self.width].contiguous(memory_format=torch.channels_last))
            if part.requires_grad:
                part.register_hook(_dense)  # the gradient comes as a slice: copied once, not by every BatchNorm
            mixed = torch.cat([x[:, self.width :], part], dim=1)
        return mixed + self.auxiliary * x if self.auxiliary else mixed

    def weights(self) -> Tensor:
        """(number of candidates,): softmax of the alphas, in their order."""
        return torch.softmax(self.alpha / self.temperature, dim=0)

    def _mix(self, x: Tensor) -> Tensor:
        """Sum over the candidates of their weight times their output."""
        terms = self._terms(x, self.weights())
        total = next(terms)
        for term in terms:
            total += term  # in place: neither a product nor BatchNorm needs its output again
        return total

    def _terms(self, x: Tensor, weights: Tensor) -> Iterator[Tensor]:
        """Weighted outputs of all candidates but `none`, each a tensor of its own."""
        for index in self._skips:
            yield self._normalise(x, weights[index], BN_EPS)
        for index in self._others:
            yield weights[index].to(x.dtype) * self.candidates[index](x)
        rectified = F.relu(x) if self._chains else x
        one = weights.new_ones(())
        for chain in self._chains:
            y = rectified
            for unit in chain.units[:-1]:
                y = F.relu(self._normalise(unit(y), one, unit.eps))
            last = chain.units[-1]
            yield self._normalise(last(y), weights[chain.index], last.eps)

    def _normalise(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """BatchNorm by the batch, times a scalar weight."""
        # Contiguous: PyTorch's channels-last kernel reads past the memory of an expanded scale.
        scale = weight.expand(self.width).contiguous()
        return F.batch_norm(x, None, None, scale, None, training=True, eps=eps)

    def _sort(self) -> tuple[list[Chain], list[int], list[int]]:
        """Chains, skips and all others but `none`."""
        chains: list[Chain] = []
        skips: list[int] = []
        others: list[int] = []
        for index, module in enumerate(self.candidates):
            units = _units(module)
            if units:
                chains.append(Chain(index, units))
            elif type(module) is nn.BatchNorm2d and not module.affine:
                skips.append(index)
            elif not isinstance(module, operations.Zero):
                others.append(index)
        return chains, skips, others


def _dense(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)


def check_space(names: Sequence[str], channels: int, partial: int) -> None:
    """Refuses a search space that can't work.

    Raises:
        SpaceError, OperationError: see `Mixture`.
    """
    unknown = [name for name in names if name not in operations.names()]
    if unknown:
        raise operations.OperationError(
            f"space.operations: '{unknown[0]}' is not registered. Known: {', '.join(operations.names())}."
        )
    if not set(names) - {"none"}:
        raise SpaceError(
            f"space.operations: [{', '.join(names)}] leaves nothing to choose from. Name at least one operation "
            f"besides none, of {', '.join(operations.names())}."
        )
    doubled = [name for name in names if list(names).count(name) > 1]
    if doubled:
        raise SpaceError(f"space.operations: '{doubled[0]}' stands there twice. Name every operation once.")
    if partial < 1 or channels % partial:
        raise SpaceError(
            f"space.partial: {partial} does not divide space.channels {channels}. Take a divisor, 1 for all channels."
        )


def build_candidate(name: str, channels: int) -> nn.Module:
    """An operation for the supernet: BatchNorm without affine on batch statistics, around `skip_connect` as well."""
    module = operations.build(name, channels, affine=False)
    if type(module) is nn.Identity:
        module = nn.BatchNorm2d(channels, affine=False)
    use_batch_statistics(module)
    return module


def use_batch_statistics(module: nn.Module) -> None:
    """Makes every BatchNorm below a module normalise by the batch in any mode and keep no running statistics.

    Source: DARTS, appendix A.1.1: the architecture changes all the time, so there is nothing to average.
    """
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None


def _units(module: nn.Module) -> tuple[Unit, ...]:
    """The units that a candidate consists of; none if there is anything else in it."""
    if not isinstance(module, nn.Sequential):
        return ()
    units: list[Unit] = []
    layers = list(module)
    while layers:
        taken = 4 if len(layers) > 3 and isinstance(layers[2], nn.Conv2d) else 3
        unit = _unit(layers[:taken])
        if unit is None:
            return ()
        units.append(unit)
        layers = layers[taken:]
    return tuple(units)


def _unit(layers: Sequence[nn.Module]) -> Unit | None:
    """The unit that layers form, or None."""
    # Exact types: a subclass may compute something else.
    if len(layers) < 3 or type(layers[0]) is not nn.ReLU:
        return None
    norm, convolutions = layers[-1], [layer for layer in layers[1:-1] if type(layer) is nn.Conv2d and _plain(layer)]
    if type(norm) is not nn.BatchNorm2d or norm.affine:
        return None
    if len(convolutions) != len(layers) - 2 or any(conv.kernel_size != (1, 1) for conv in convolutions[1:]):
        return None
    return Unit(convolutions[0], convolutions[1] if len(convolutions) == 2 else None, norm.eps)


def _plain(conv: nn.Conv2d) -> bool:
    """Whether a convolution keeps width and resolution, has no groups, no bias and zero padding."""
    kept = all(
        pad * 2 == step * (side - 1)
        for pad, step, side in zip(_pair(conv.padding), conv.dilation, conv.kernel_size, strict=True)
    )
    return (
        kept
        and conv.in_channels == conv.out_channels
        and conv.stride == (1, 1)
        and conv.groups == 1
        and conv.bias is None
        and conv.padding_mode == "zeros"
    )


def _pair(padding: str | tuple[int, ...]) -> tuple[int, int]:
    """Padding in numbers; text ("same") counts as none, so such a convolution is not joined."""
    return (-1, -1) if isinstance(padding, str) else (padding[0], padding[1])
