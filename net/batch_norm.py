"""BatchNorm by the statistics of the batch, without running ones, over the images of this process or of all.

A supernet normalises so, see `net.supernet`. With several processes each sees a share of the batch. Over all images the
shares give what one process gives for the whole batch, but every BatchNorm then communicates twice a step.
PyTorch's SyncBatchNorm has no CPU version, and it keeps running statistics.
"""

from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from net.libraries import BatchNormAct2d


def batch_norm(x: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float, shared: bool = False) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * scale + shift, the moments taken over all but the channels.

    Args:
        x: (B, C, H, W).
        scale: (C,) or None for 1.
        shift: (C,) or None for 0.
        eps: added to the variance.
        shared: take the moments over the batches of all processes; all must call, in the same order.

    Returns:
        (B, C, H, W), in the dtype of x.
    """
    if not shared or not distributed.is_initialized():
        return F.batch_norm(x, None, None, scale, shift, training=True, eps=eps)
    wide = torch.promote_types(x.dtype, torch.float32)
    scale = torch.ones(x.shape[1], dtype=wide, device=x.device) if scale is None else scale.to(wide)
    y: Tensor = _SharedNorm.apply(x, scale, eps)  # pyright: ignore[reportAssignmentType]
    return y if shift is None else y + shift.to(y.dtype)[:, None, None]


class BatchNorm(nn.BatchNorm2d):
    """`batch_norm` as a module with the parameters of a BatchNorm2d.

    Args:
        like: its scale and shift stay the same objects, as do the drop path and activation of timm's kind.

    Attributes:
        shared: see `batch_norm`.
    """

    def __init__(self, like: nn.BatchNorm2d) -> None:
        super().__init__(like.num_features, like.eps, affine=False, track_running_stats=False)
        self.weight, self.bias, self.affine = like.weight, like.bias, like.affine
        self.shared = False
        self.after: nn.Module = nn.Identity()
        if isinstance(like, BatchNormAct2d):
            timm_norm: Any = like  # its parts have no types
            self.after = nn.Sequential(timm_norm.drop, timm_norm.act)

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return self.after(batch_norm(input, self.weight, self.bias, self.eps, self.shared))


def use_batch_statistics(module: nn.Module) -> nn.Module:
    """Makes every BatchNorm of a module normalise by the batch in any mode and keep no running statistics.

    Source: DARTS, appendix A.1.1: the architecture changes all the time, so there is nothing to average.

    Returns:
        The module with a `BatchNorm` in the place of PyTorch's and timm's; a `BatchNorm` if it is one itself. One of
        another class stays, and always normalises by the images of its process.
    """
    if type(module) in (nn.BatchNorm2d, BatchNormAct2d):
        return BatchNorm(cast(nn.BatchNorm2d, module))
    if isinstance(module, nn.BatchNorm2d):
        module.track_running_stats = False
        module.running_mean = module.running_var = module.num_batches_tracked = None
    for name, child in module.named_children():
        setattr(module, name, use_batch_statistics(child))
    return module


class _SharedNorm(torch.autograd.Function):
    """Normalises by the moments of all processes; the gradient is that of the sum of the processes' losses."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, eps: float) -> Tensor:
        values = x.to(scale.dtype)
        count = values.new_full((1,), x.numel() / x.shape[1])
        moments = torch.cat([_sum(values), _sum(values.square()), count])
        distributed.all_reduce(moments)
        mean, square = (moments[:-1] / moments[-1]).chunk(2)
        inverse = (square - mean.square()).clamp(min=0).add(eps).rsqrt()  # (C,)
        ctx.save_for_backward(x, scale, mean, inverse, moments[-1:])
        factor = inverse * scale
        return (values * _wide(factor) - _wide(mean * factor)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, scale, mean, inverse, count = ctx.saved_tensors
        gradient = gradients[0].to(scale.dtype)
        normal = (x.to(scale.dtype) - _wide(mean)) * _wide(inverse)
        own = torch.cat([_sum(gradient), _sum(gradient * normal)])
        total = own.clone()
        distributed.all_reduce(total)
        shift, along = (total / count).chunk(2)
        for_x = _wide(inverse * scale) * (gradient - _wide(shift) - normal * _wide(along))
        return for_x.to(x.dtype), own[len(scale) :], None


def _sum(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (C,)."""
    return x.sum((0, 2, 3))


def _wide(values: Tensor) -> Tensor:
    """(C,) -> (C, 1, 1)."""
    return values[:, None, None]
