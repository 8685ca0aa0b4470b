"""Global context on E5: every position of the coarsest level learns what the whole image holds.

Not in the paper; our addition, off by default. What it is worth: docs/recipes.md. A block works on E5 after its lateral
convolution, (B, C, h, w) with few positions: stride 32 for most encoders, 16 for VGG-16. It starts as the identity,
because its last projection starts at zero. So a network that takes trained weights starts from exactly their maps.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from net.settings import Context

REDUCTION = 4  # of the gate's hidden layer, as in MobileNetV3 (arXiv 1905.02244); 16 of 64 channels
HEADS = 4


def build_context(kind: Context, channels: int) -> nn.Module:
    """The block of that kind for features of that width; `none` is the identity, without parameters."""
    if kind == "none":
        return nn.Identity()
    return ContextGate(channels) if kind == "gate" else ContextAttention(channels)


class ContextGate(nn.Module):
    """Weighs and shifts every channel by the mean of all channels: y = x * 2 sigmoid(a) + b, (a, b) = W2 relu(W1 mean).

    Source: squeeze and excitation, Hu et al. (arXiv 1709.01507). Differs: the shift b is added, so that a channel can
    be turned up where it is zero; the factor is doubled, so that it is 1 while W2 is zero.

    Args:
        channels: width C.

    Shapes:
        x: (B, C, h, w), any size; returns the same shape.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // REDUCTION, 1)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, 2 * channels)
        _start_at_zero(self.excite)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        hidden = F.relu(self.squeeze(x.mean((2, 3))))  # (B, hidden)
        terms = self.excite(hidden)[:, :, None, None].chunk(2, 1)  # two of (B, C, 1, 1)
        return x * (2 * torch.sigmoid(terms[0])) + terms[1]


class ContextAttention(nn.Module):
    """Self-attention among all positions, with normalisation before and a residual: y = x + W attention(norm(x + P x)).

    Source: Vaswani et al. (arXiv 1706.03762), pre-norm as in ViT. The position of a token is encoded by P, a depthwise
    3x3 convolution whose zero padding shows the borders, so any size works (Chu et al., arXiv 2102.10882). Differs: no
    feed-forward layer follows, since the cells mix channels.

    The products are written out, since PyTorch does not count the operations of its fused attention on CPUs. Memory
    for the weights of an image: HEADS * (h * w)^2 numbers, 1 MiB at 512 pixels and 256 MiB at 2048 in float32.

    Args:
        channels: width C. There are `HEADS` heads, or fewer where C is not divisible by that.

    Shapes:
        x: (B, C, h, w), any size; returns the same shape.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = math.gcd(HEADS, channels)
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = nn.LayerNorm(channels)
        self.attend = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        _start_at_zero(self.project)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        tokens = self.norm((x + self.position(x)).flatten(2).transpose(1, 2))  # (B, N, C), N = h * w
        parts = self.attend(tokens).chunk(3, 2)
        # Four dimensions: OpenVINO 2026.4 permutes five wrongly where N equals the number of heads.
        query, key, value = (parts[i].unflatten(2, (self.heads, -1)).transpose(1, 2) for i in range(3))
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)  # (B, heads, N, N)
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)  # (B, N, C)
        return x + self.project(mixed).transpose(1, 2).unflatten(2, (x.shape[2], x.shape[3]))


def _start_at_zero(linear: nn.Linear) -> None:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
