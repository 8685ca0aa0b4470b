"""The sample images that ship with the project, as engines take them: for checks and for calibration."""

from pathlib import Path

import torch
from torch import Tensor

import data
from data.image_io import read_image
from data.transforms import prepare_image

FOLDER = Path(data.__file__).parent / "samples"


def prepared_samples(size: int) -> Tensor:
    """All sample images, resized and normalised: (B, 3, size, size)."""
    return torch.stack([prepare_image(read_image(path), size) for path in sorted(FOLDER.glob("*.jpg"))])
