"""Architect: the step of the architecture parameters, first or second order.

Source: DARTS (arXiv 1806.09055), section 2.3 and its public code. First order takes the gradient of the validation loss
at the present weights. Second order takes it at the weights after one virtual step of their own optimizer, momentum and
weight decay included, and corrects it by a Hessian-vector product from finite differences.
Differs from the public code: in the first order nothing but the alphas gets a gradient, so neither the encoder nor any
kernel takes part in the backward pass. In the second no copy of the network is made. The virtual step includes
Nesterov's momentum, rates that differ between groups and clipping, as our optimizer's step does.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from net.settings import ArchitectConfig
from net.supernet import SuperNet
from utils.errors import UserError

Batch = TypeVar("Batch")
Average = Callable[[Sequence[Tensor]], None]
CLIP_EPS = 1e-6  # of nn.utils.clip_grad_norm_


class ArchitectError(UserError):
    """Settings of the architecture step that contradict each other."""


class ArchitectStep(NamedTuple):
    """What a step measured: validation loss, cost term (0 without one), norm of the gradient before clipping."""

    loss: Tensor
    cost: Tensor
    norm: Tensor


class Architect(Generic[Batch]):
    """Trains the alphas of a supernet.

    Args:
        network: the supernet.
        optimizer: of its weights; only the second order reads it.
        config: see there.
        loss: (batch) -> scalar loss of the network at its present parameters.
        cost: () -> scalar that is added to the validation loss, weight included, or None.
        average: averages tensors over all processes in place, so that all ranks take the same step.
        validation_loss: as `loss`, on the batches that train the alphas; None for the same.
        clip: greatest norm of the weights' gradient in their own step, which the virtual step shares; 0 for none.

    Attributes:
        optimizer: Adam over the alphas; its state belongs in a checkpoint.
        loss: as given.

    Raises:
        ArchitectError: for the second order, if the optimizer is not SGD, whose step is linear in the gradient.
    """

    def __init__(
        self,
        network: SuperNet,
        optimizer: torch.optim.Optimizer,
        config: ArchitectConfig,
        loss: Callable[[Batch], Tensor],
        cost: Callable[[], Tensor] | None = None,
        average: Average = lambda tensors: None,
        validation_loss: Callable[[Batch], Tensor] | None = None,
        clip: float = 0.0,
    ) -> None:
        if config.order == "second" and not isinstance(optimizer, torch.optim.SGD):
            raise ArchitectError(
                f"architect.order: second order needs weights trained by sgd, optim.name gives "
                f"{type(optimizer).__name__}. Set optim.name to sgd or architect.order to first."
            )
        self.network, self.config = network, config
        self.optimizer = torch.optim.Adam(
            network.alphas(), lr=config.lr, betas=config.betas, weight_decay=config.weight_decay
        )
        self.loss = loss
        self.validation_loss = loss if validation_loss is None else validation_loss
        self._weights_optimizer, self._cost, self._average, self._clip = optimizer, cost, average, clip

    def step(self, training: Batch, validation: Batch) -> ArchitectStep:
        """One step of the alphas.

        Args:
            training: batch for the virtual step; the first order does not read it.
            validation: batch that the alphas are trained on, from the other half of the data.
        """
        second = self.config.order == "second"
        gradients, loss, cost = self.second_order(training, validation) if second else self.first_order(validation)
        self._average(gradients)
        alphas = self.network.alphas()
        for alpha, gradient in zip(alphas, gradients, strict=True):
            alpha.grad = gradient
        norm = nn.utils.clip_grad_norm_(alphas, self.config.clip or float("inf"))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return ArchitectStep(loss, cost, norm)

    def first_order(self, validation: Batch) -> tuple[list[Tensor], Tensor, Tensor]:
        """Gradient of the validation loss by the alphas at the present weights; the loss; the cost."""
        with only(self.network, self.network.alphas()):
            loss, cost = self.validation_loss(validation), self._cost_now()
            return self._gradients(loss + cost, self.network.alphas()), loss.detach(), cost.detach()

    def second_order(self, training: Batch, validation: Batch) -> tuple[list[Tensor], Tensor, Tensor]:
        """Gradient through one virtual step of the weights; the loss after that step; the cost.

        The weights are restored before it returns.
        """
        alphas, weights = self.network.alphas(), self._moving_weights()
        with only(self.network, weights):
            descent = self._gradients(self.loss(training), weights)
        self._average(descent)
        before = [weight.detach().clone() for weight in weights]
        try:
            rates = self._virtual_step(weights, clipped(descent, self._clip))
            with only(self.network, [*alphas, *weights]):
                loss, cost = self.validation_loss(validation), self._cost_now()
                gradients = self._gradients(loss + cost, [*alphas, *weights])
            direct, direction = gradients[: len(alphas)], gradients[len(alphas) :]
            self._average(direction)
            direction = [rate * slope for rate, slope in zip(rates, direction, strict=True)]
            direction = through_clipping(descent, self._clip, direction)
            implicit = self._hessian_vector(training, weights, before, direction)
        finally:
            _set(weights, before)
        total = [one - other for one, other in zip(direct, implicit, strict=True)]
        return total, loss.detach(), cost.detach()

    def _virtual_step(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[float]:
        """Moves the weights as their optimizer would; returns for each how far it moves by a unit of gradient."""
        groups = {id(weight): group for group in self._weights_optimizer.param_groups for weight in group["params"]}
        rates: list[float] = []
        for weight, gradient in zip(weights, gradients, strict=True):
            group = groups[id(weight)]
            rate, momentum = group["lr"], group["momentum"]
            velocity = self._weights_optimizer.state.get(weight, {}).get("momentum_buffer")
            with torch.no_grad():
                descent = gradient + group["weight_decay"] * weight
                moved = descent if velocity is None else momentum * velocity + descent
                weight.sub_(rate * (descent + momentum * moved if group["nesterov"] else moved))
            rates.append(rate * (1 + momentum if group["nesterov"] else 1))
        return rates

    def _hessian_vector(
        self, training: Batch, weights: Sequence[Tensor], before: Sequence[Tensor], direction: Sequence[Tensor]
    ) -> list[Tensor]:
        """Mixed second derivative of the training loss by alphas and weights, times `direction`, by a difference."""
        radius = self.config.radius / nn.utils.get_total_norm(direction).clamp(min=1e-12)  # a scalar on the device
        sides = []
        for sign in (1, -1):
            _set(weights, [start + sign * radius * slope for start, slope in zip(before, direction, strict=True)])
            with only(self.network, self.network.alphas()):
                sides.append(self._gradients(self.loss(training), self.network.alphas()))
        return [(plus - minus) / (2 * radius) for plus, minus in zip(*sides, strict=True)]

    def _moving_weights(self) -> list[nn.Parameter]:
        """The weights that their optimizer changes, without those of a frozen encoder."""
        return [weight for weight in self.network.weights() if weight.requires_grad]

    def _gradients(self, loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(parameters), materialize_grads=True))

    def _cost_now(self) -> Tensor:
        alpha = self.network.alphas()[0]
        return alpha.new_zeros(()) if self._cost is None else self._cost()


def clipped(gradients: Sequence[Tensor], greatest: float) -> list[Tensor]:
    """Gradients scaled as `nn.utils.clip_grad_norm_` scales them; 0 clips nothing."""
    if not greatest:
        return list(gradients)
    scale = (greatest / (nn.utils.get_total_norm(gradients) + CLIP_EPS)).clamp(max=1)
    return [scale * gradient for gradient in gradients]


def through_clipping(gradients: Sequence[Tensor], greatest: float, direction: Sequence[Tensor]) -> list[Tensor]:
    """The direction that, times a change of the gradients, gives `direction` times the change of `clipped` gradients.

    With n the norm and c = greatest / (n + eps): the Jacobian of clipping, c (I - g g^T / (n (n + eps))), times
    the direction. It is symmetric. Where nothing is clipped, it is the identity.
    """
    if not greatest:
        return list(direction)
    norm = nn.utils.get_total_norm(gradients)
    unclipped = norm + CLIP_EPS <= greatest  # chosen on the device: a branch would make the host wait
    along = sum((one * other).sum() for one, other in zip(gradients, direction, strict=True)) / norm
    scale, pull = greatest / (norm + CLIP_EPS), along / (norm + CLIP_EPS)
    return [
        torch.where(unclipped, way, scale * (way - pull * gradient))
        for way, gradient in zip(direction, gradients, strict=True)
    ]


@contextmanager
def only(network: nn.Module, parameters: Sequence[Tensor]) -> Iterator[None]:
    """Within the context only these parameters of the network require gradients, so no others are computed."""
    chosen = {id(parameter) for parameter in parameters}
    before = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    for parameter, _ in before:
        parameter.requires_grad_(id(parameter) in chosen)
    try:
        yield
    finally:
        for parameter, wanted in before:
            parameter.requires_grad_(wanted)


@torch.no_grad()
def _set(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)
