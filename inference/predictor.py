"""Pictures in, saliency maps at their own size out: the network with what stands before and behind it.

    picture (H, W, 3)  ->  prepare (3, S, S)  ->  logits (S, S)  ->  restore (H, W), 0 to 1

A run over many pictures calls the three parts itself, so that they overlap (`inference.pipeline`). Only `logits`
touches the network; what stands before and behind it is the same for whatever computes it.

Source: the authors' test code: bilinear to a square, logits resized to the picture bilinearly, then the sigmoid.
Never stretched to its own extremes: an empty scene gives a dark map.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from data.image_io import Pixels, from_pillow, read_image
from data.transforms import prepare_image
from inference.engines.base import Engine, EngineName, EnginePrecision
from inference.engines.choice import build_engine, engine_device
from inference.saliency import Saliency, restore
from inference.weights import LoadedNetwork, load_network
from utils.errors import UserError
from utils.settings import DeviceName

Picture = Pixels | Image.Image | str | Path

SMALLEST = 32  # the coarsest level of the encoders has stride 32


class PredictorError(UserError):
    """A picture or a setting that the predictor cannot take."""


class Predictor:
    """A trained network that gives the saliency map of a picture.

    Example:
        >>> predictor = Predictor.from_pretrained("lite")
        >>> saliency = predictor(np.zeros((300, 400, 3), np.uint8))
        >>> saliency.shape, saliency.dtype
        ((300, 400), dtype('float32'))

    Args:
        engine: what computes the logits, see `inference.engines`.
        flip: whether to average with the logits of the mirror image, for twice the time.
    """

    def __init__(self, engine: Engine, flip: bool = False) -> None:
        self.engine, self.flip = engine, flip
        self.size, self.device, self.precision = engine.size, engine.device, engine.precision

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "lite",
        device: DeviceName = "auto",
        precision: EnginePrecision = "auto",
        size: int | None = None,
        engine: EngineName = "auto",
        calibration: Iterable[Picture] = (),
        flip: bool = False,
    ) -> Self:
        """A predictor from a shipped name, a .safetensors or .pt of this project, or an authors' .pth.

        Args:
            source: name or path.
            device: `auto` takes CUDA, then MPS, then the CPU.
            precision: `auto` takes bfloat16 where the hardware computes in it.
            size: side S of the square that pictures are resized to, another than that of the training; at least 32.
            engine: `auto` takes the fastest that is installed and keeps the maps; its choice is remembered.
            calibration: typical pictures, which int8 needs.
            flip: see `Predictor`.

        Raises:
            CheckpointError, DeviceError, EngineError, PredictorError: what was asked for is not there or does not fit.
        """
        chosen = engine_device(engine, device)  # before the weights: a wrong device should not cost their loading
        return cls.from_loaded(load_network(source), chosen, precision, size, engine, calibration, flip=flip)

    @classmethod
    def from_loaded(
        cls,
        loaded: LoadedNetwork,
        device: torch.device,
        precision: EnginePrecision = "auto",
        size: int | None = None,
        engine: EngineName = "auto",
        calibration: Iterable[Picture] = (),
        streams: int = 1,
        flip: bool = False,
        compile: bool = False,
    ) -> Self:
        """A predictor from a network that `inference.weights.load_network` has read; see `from_pretrained`.

        Args:
            streams: how many threads will call `logits` at once; 1 is for the shortest wait.
            flip: see `Predictor`.
            compile: hand the network to torch.compile; see `build_engine`.
        """
        size = loaded.size if size is None else size
        if size < SMALLEST:
            raise PredictorError(
                f"size {size}: the network needs at least {SMALLEST} x {SMALLEST} pixels. Give {SMALLEST} or more."
            )
        pictures = [prepare_image(as_pixels(picture), size) for picture in calibration]
        return cls(build_engine(loaded, engine, precision, device, size, pictures, streams, compile), flip)

    def __call__(self, image: Picture) -> Saliency:
        """The map of one picture.

        Args:
            image: RGB array, Pillow picture, or path of a file.

        Shapes:
            image: (H, W, 3) uint8.
            returns: (H, W) float32 in [0, 1].

        Raises:
            PredictorError: an array of another shape or type.
            ImageReadError: a file or Pillow picture that cannot be read.
        """
        return self.batch([image])[0]

    def batch(self, images: Sequence[Picture]) -> list[Saliency]:
        """The maps of several pictures of any sizes, computed together; each as `__call__` gives it."""
        if not images:
            return []
        pixels = [as_pixels(image) for image in images]
        logits = self.logits([self.prepare(one) for one in pixels])
        return [restore(one, (image.shape[0], image.shape[1])) for one, image in zip(logits, pixels, strict=True)]

    def prepare(self, image: Pixels) -> Tensor:
        """(H, W, 3) uint8 RGB to what `logits` takes: (3, S, S) float32, normalised. Safe in any thread."""
        return prepare_image(image, self.size)

    def logits(self, prepared: Sequence[Tensor]) -> NDArray[np.float32]:
        """Logits of the finest output. Safe in `engine.streams` threads at once.

        Shapes:
            prepared: B tensors (3, S, S).
            returns: (B, S, S).
        """
        # Prepared tensors lie in memory as (S, S, 3): stacked so, the batch is channels-last without another copy.
        batch = torch.stack([one.permute(1, 2, 0) for one in prepared]).permute(0, 3, 1, 2)  # (B, 3, S, S)
        logits = self.engine(batch)  # (B, 1, S, S)
        if self.flip:
            # channels-last again, as every engine was chosen and measured with
            mirrored = batch.flip(3).contiguous(memory_format=torch.channels_last)
            logits = (logits + self.engine(mirrored).flip(3)) / 2
        return logits[:, 0].numpy()


def as_pixels(image: Picture) -> Pixels:
    """Whatever a picture comes as, to (H, W, 3) uint8 RGB.

    Raises:
        PredictorError: an array of another shape or type.
        ImageReadError: a file or Pillow picture that cannot be read.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return from_pillow(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise PredictorError(
            f"an array {image.shape} {image.dtype} is no picture; give (height, width, 3) uint8 in RGB order."
        )
    return image
