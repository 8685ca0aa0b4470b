"""MixedOp: one edge of the supernet, a weighted sum over all candidate operations.

Source: DARTS (arXiv 1806.09055), equation 2, with the name of its public code. Candidates have BatchNorm without scale
and shift and with the statistics of the batch, as in that code. `skip_connect` gets one as well, so that all weights
compare outputs of the same scale. Partial channels are PC-DARTS' (arXiv 1907.05737), the auxiliary skip is DARTS-'
(arXiv 2009.01027).

`MixedOp.definition` is the equation. `MixedOp.forward` computes the same sum faster:
    `none` is left out: it adds zeros to the sum, only its weight counts;
    all convolutions of the edge's input share one ReLU;
    a 3x3 and the 1x1 directly after it are one 3x3 with the product of their kernels;
    the weights of the sum are the scales of the last BatchNorms, whose backward pass yields their gradient;
    every term is added in place as soon as it is computed, and freed.
Convolutions of one geometry run one by one: joined into a wider one they were no faster on the CPU that we measured
(benchmarks/search_profile.md, last section). On a GPU `net.joined` computes all edges of a supernet together.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from net import operations
from net.batch_norm import BatchNorm, batch_norm, use_batch_statistics
from net.chains import Chain, units_of
from settings.limits import SettingError

BN_EPS = nn.BatchNorm2d(1).eps


class SpaceError(SettingError):
    """A search space that leaves nothing to choose from, or does not fit the network."""


class MixedOp(nn.Module):
    """One edge: candidates, their alphas and the weighted sum.

    Args:
        names: candidate operations, by registered name.
        channels: width C of input and output.
        partial: K; the first C / K channels go through the candidates, the others bypass them. 1 is exact DARTS.

    Attributes:
        alpha: (number of candidates,), the architecture parameters of this edge.
        temperature: of the softmax over alpha.
        auxiliary: factor of the input that is added outside the softmax; 0 without DARTS-.
        shared: whether its BatchNorms are over the images of all processes, see `net.batch_norm`.
        chains, skips, others: the candidates but `none` by kind; of the last two their places.

    Shapes:
        x: (B, C, H, W), returns the same.

    Raises:
        OperationError: if an operation does not support C / K channels.
        SpaceError: if there is no operation but `none`, a name is listed twice or not registered, or K is no
            divisor of C.
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
        self.shared = False
        self.chains, self.skips, self.others = self._sort()

    def weights(self) -> Tensor:
        """(number of candidates,): softmax of the alphas, in their order."""
        return torch.softmax(self.alpha / self.temperature, dim=0)

    def definition(self, x: Tensor) -> Tensor:
        """DARTS' equation 2: sum over the candidates o of softmax(alpha)_o * o(x); slow, for reading and testing."""
        part, bypass = x[:, : self.width], x[:, self.width :]
        mixed = torch.zeros_like(part)
        for weight, candidate in zip(self.weights(), self.candidates, strict=True):
            mixed = mixed + weight * candidate(part)
        return torch.cat([bypass, mixed], dim=1) + self.auxiliary * x

    def forward(self, x: Tensor) -> Tensor:
        """Equal to `definition`, tested in tests/net/test_mixture.py, and faster."""
        if self.width == x.shape[1]:
            mixed = self._mix(x)
        else:
            # The mixed channels go last instead of PC-DARTS' shuffle. The next edge mixes other channels, and no
            # channel is gathered by itself, which is slow where channels are innermost in memory.
            part = self._mix(x[:, : self.width].contiguous(memory_format=torch.channels_last))
            if part.requires_grad:
                part.register_hook(dense)
            mixed = torch.cat([x[:, self.width :], part], dim=1)
        return mixed + self.auxiliary * x if self.auxiliary else mixed

    def _mix(self, x: Tensor) -> Tensor:
        """Sum over the candidates of their weight times their output."""
        terms = self._terms(x, self.weights())
        total = next(terms)
        for term in terms:
            total += term  # in place: neither a product nor BatchNorm needs its output again
        return total

    def _terms(self, x: Tensor, weights: Tensor) -> Iterator[Tensor]:
        """Weighted outputs of all candidates but `none`, each a tensor of its own."""
        for index in self.skips:
            yield self._normalise(x, weights[index], BN_EPS)
        for index in self.others:
            yield weights[index].to(x.dtype) * self.candidates[index](x)
        rectified = F.relu(x) if self.chains else x
        one = weights.new_ones(())
        for chain in self.chains:
            y = rectified
            for unit in chain.units[:-1]:
                y = F.relu(self._normalise(unit(y), one, unit.eps))
            last = chain.units[-1]
            yield self._normalise(last(y), weights[chain.index], last.eps)

    def _normalise(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """BatchNorm by the batch, times a scalar weight."""
        # Contiguous: PyTorch's channels-last kernel reads past the memory of an expanded scale.
        scale = weight.expand(self.width).contiguous()
        return batch_norm(x, scale, None, eps, self.shared)

    def _sort(self) -> tuple[list[Chain], list[int], list[int]]:
        """Chains, skips and all others but `none`."""
        chains: list[Chain] = []
        skips: list[int] = []
        others: list[int] = []
        for index, module in enumerate(self.candidates):
            units = units_of(module)
            if units:
                chains.append(Chain(index, units))
            elif type(module) is BatchNorm and not module.affine:
                skips.append(index)
            elif not isinstance(module, operations.Zero):
                others.append(index)
        return chains, skips, others


def dense(gradient: Tensor) -> Tensor:
    """A gradient in channels-last memory: copied once where it is a slice, not by every BatchNorm that reads it."""
    return gradient.contiguous(memory_format=torch.channels_last)


def check_space(names: Sequence[str], channels: int, partial: int) -> None:
    """Refuses a search space that can't work.

    Raises:
        SpaceError, OperationError: see `MixedOp`.
    """
    unknown = [name for name in names if name not in operations.names()]
    if unknown:
        raise SpaceError(
            "operations", f"'{unknown[0]}' is not registered. Registered: {', '.join(operations.names())}."
        )
    if not set(names) - {"none"}:
        raise SpaceError(
            "operations",
            f"[{', '.join(names)}] leaves nothing to choose from. Name at least one operation besides none, of "
            f"{', '.join(operations.names())}.",
        )
    doubled = [name for name in names if list(names).count(name) > 1]
    if doubled:
        raise SpaceError("operations", f"'{doubled[0]}' is listed twice. Name every operation once.")
    if partial < 1 or channels % partial:
        raise SpaceError(
            "partial", f"{partial} does not divide channels {channels}. Give a divisor; 1 mixes all channels."
        )
    operations.check(names, channels // partial)


def build_candidate(name: str, channels: int) -> nn.Module:
    """An operation for the supernet: BatchNorm without affine on batch statistics, around `skip_connect` as well."""
    module = operations.build(name, channels, affine=False)
    if type(module) is nn.Identity:
        module = nn.BatchNorm2d(channels, affine=False)
    return use_batch_statistics(module)
