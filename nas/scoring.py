"""Scores of a trained network on datasets, by the evaluation's measures, at the size of the masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from data.layouts import Pair
from data.masks import read_mask
from evaluation.metrics import score_pair, summarise
from inference.predictor import Predictor
from inference.saliency import to_8bit

MEASURES = ("mae", "sm", "wfm", "maxf")


def score_weights(weights: Path, datasets: Mapping[str, Sequence[Pair]]) -> dict[str, dict[str, float]]:
    """Weighted F, S, MAE and maximal F of saved weights on each dataset; nothing is loaded for none.

    Args:
        weights: file that train.py wrote.
        datasets: name -> images and masks.
    """
    if not datasets:
        return {}
    predictor = Predictor.from_pretrained(weights, engine="torch", precision="fp32")  # the same on every processor
    return {name: score(predictor, pairs, name) for name, pairs in datasets.items()}


def score(predictor: Predictor, pairs: Sequence[Pair], title: str) -> dict[str, float]:
    """Weighted F, maximal F, S and MAE of maps at the size of the masks.

    Args:
        predictor: the network.
        pairs: images and masks.
        title: of the progress bar.
    """
    found = [
        score_pair(to_8bit(predictor(pair.image)), read_mask(pair.mask, pair.coding), pair.name, MEASURES)
        for pair in tqdm(pairs, title, unit="image", disable=None, leave=False)
    ]
    return summarise(found)
