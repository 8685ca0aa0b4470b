"""What a search spends, in units that are alike for all strategies."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

PASSES = 3
"""A training step counts as three forward passes: the backward pass computes about twice as much."""


@dataclass
class Account:
    """What a search has spent so far.

    Attributes:
        supernet_steps: optimizer steps of a supernet.
        trainings: genotypes that were trained on their own.
        scored: genotypes or sub-networks that were scored.
        gmac: billions of multiply-accumulates over all images seen, see `PASSES`.
        minutes: of computing, over all starts of the search.
    """

    supernet_steps: int = 0
    trainings: int = 0
    scored: int = 0
    gmac: float = 0.0
    minutes: float = 0.0

    def see(self, images: int, macs: float, passes: int = 1) -> None:
        """Adds passes of some images through a network of so many multiply-accumulates an image."""
        self.gmac += images * macs * passes / 1e9

    def state_dict(self) -> dict[str, Any]:
        """The account as plain values, for provenance, checkpoint and page."""
        return asdict(self)

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Puts back what `state_dict` returned."""
        for name, value in state_dict.items():
            setattr(self, name, value)
