"""What the mixtures of finished searches by `darts` say: the weight of each candidate on each edge."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from net.derive import strongest
from net.genotype import Genotype, load
from net.settings import SpaceConfig
from utils.checkpoint import load_checkpoint


def final_mixture(search: Path) -> Tensor | None:
    """Weights of the candidates of every edge that a search's genotype was derived from, (31, operations).

    Not those of the last epoch where a collapse ended the search. None for another strategy than `darts`.
    """
    epoch = load(search / "genotype.json").provenance.get("epoch")
    if epoch is None:
        return None
    return torch.tensor(load_checkpoint(search / "last.pt")["history"][epoch - 1]["probabilities"])


def vote(searches: Sequence[Path], space: SpaceConfig) -> Genotype:
    """The genotype of the mean weights that finished searches by `darts` in one space ended with."""
    mixtures = [mixture for search in searches if (mixture := final_mixture(search)) is not None]
    return strongest(torch.stack(mixtures).mean(0), space, {"mean of": [folder.name for folder in searches]})


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of what two searches prefer: logarithms of the weights, less their mean on each edge.

    A function of the alphas' order and size alone, whatever the temperature was. Shapes: (31, operations) each.
    """
    first, second = (np.log(np.maximum(weights, 1e-12)) for weights in (one, other))
    first, second = (values - values.mean(1, keepdims=True) for values in (first, second))
    return float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum()))
