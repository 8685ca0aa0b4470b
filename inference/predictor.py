"""Images in, saliency maps at their own size out: preparation, network and restoring behind one call.

    image (H, W, 3)  ->  prepare (3, S, S)  ->  logits (S, S)  ->  restore (H, W), 0 to 1

A run over many images calls the three parts itself, so that they overlap (`inference.pipeline`). Only `logits`
runs the network; the other parts are the same for every engine.

Source: the authors' test code: bilinear to a square, logits resized to the image bilinearly, then the sigmoid.
A map is never stretched to its own extremes: an empty scene has a dark map.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data.image_io import Pixels, from_pillow, read_image
from data.transforms import prepare_image
from inference.cutouts import Style
from inference.engines.base import Engine
from inference.engines.choice import build_engine, engine_device
from inference.refinement import Refinement
from inference.saliency import Saliency, restore, to_8bit
from inference.settings import EngineName, EnginePrecision
from inference.weights import LoadedNetwork, load_network
from utils.device import choose_device
from utils.errors import UserError
from utils.hardware import DeviceName

ImageLike = Pixels | Image.Image | str | Path
"""An RGB array, a Pillow image or the path of a file."""
Prepared = tuple[Tensor, ...]
"""What the network takes of one image: a tensor (3, S, S) for each of its sizes."""

SMALLEST = 32  # the coarsest level of the encoders has stride 32


class PredictorError(UserError):
    """An image or a setting that the predictor does not support."""


class Predictor:
    """A trained network that computes the saliency map of an image. All methods may be called from several threads.

    Example:
        >>> predictor = Predictor.from_pretrained("lite")
        >>> saliency = predictor(np.zeros((300, 400, 3), np.uint8))
        >>> saliency.shape, saliency.dtype
        ((300, 400), dtype('float32'))
        >>> predictor.cutout(np.zeros((300, 400, 3), np.uint8)).shape
        (300, 400, 4)
        >>> for path, saliency in zip(paths, predictor.maps(paths)):  # a folder of any length, in batches
        ...     write_png(out / f"{path.stem}.png", to_8bit(saliency))

    Args:
        engine: computes the logits, see `inference.engines`.
        flip: whether to average with the logits of the mirror image, for twice the time.
        smaller: engines of the same network at smaller sizes, whose logits are averaged with those of `engine`.
        refinement: changes of the maps after the network.
        rebuild: makes the same predictor on another device, for `to`.
    """

    def __init__(
        self,
        engine: Engine,
        flip: bool = False,
        smaller: Sequence[Engine] = (),
        refinement: Refinement | None = None,
        rebuild: Callable[[torch.device], "Predictor"] | None = None,
    ) -> None:
        self.engine, self.flip = engine, flip
        self.engines = (engine, *smaller)
        self.refinement = refinement or Refinement()
        self.size, self.device, self.precision = engine.size, engine.device, engine.precision
        self._rebuild = rebuild

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "lite",
        device: DeviceName = "auto",
        precision: EnginePrecision = "auto",
        size: int | None = None,
        engine: EngineName = "auto",
        calibration: Iterable[ImageLike] = (),
        flip: bool = False,
        sizes: Sequence[int] = (),
        refinement: Refinement | None = None,
    ) -> Self:
        """A predictor from a shipped name, a .safetensors or .pt of this project, or an authors' .pth.

        Args:
            source: name or path.
            device: `auto` takes CUDA, then MPS, then the CPU.
            precision: `auto` takes bfloat16 where the hardware computes in it.
            size: side S of the square that images are resized to, if not that of the training; at least 32.
            engine: `auto` takes the fastest that is installed and whose maps are right; its choice is stored.
            calibration: typical images for int8.
            flip: see `Predictor`.
            sizes: several sides instead of `size`; their logits are averaged.
            refinement: see `Predictor`.

        Raises:
            CheckpointError, DeviceError, EngineError, PredictorError: what was asked for is not available or not valid.
        """
        chosen = engine_device(engine, device)  # before the weights: a wrong device should not cost their loading
        loaded = load_network(source)
        return cls.from_loaded(
            loaded, chosen, precision, size, engine, calibration, flip=flip, sizes=sizes, refinement=refinement
        )

    @classmethod
    def from_loaded(
        cls,
        loaded: LoadedNetwork,
        device: torch.device,
        precision: EnginePrecision = "auto",
        size: int | None = None,
        engine: EngineName = "auto",
        calibration: Iterable[ImageLike] = (),
        streams: int = 1,
        flip: bool = False,
        compile: bool = False,
        sizes: Sequence[int] = (),
        refinement: Refinement | None = None,
        images: int | None = None,
    ) -> Self:
        """A predictor from a network that `inference.weights.load_network` has read; see `from_pretrained`.

        Args:
            streams: how many threads will call `logits` at once without waiting; 1 has the lowest latency.
            flip: see `Predictor`.
            compile: pass the network to torch.compile; see `build_engine`.
            images: how many images will be computed, if known; see `build_engine`.
        """
        sides = sorted(set(sizes) or {loaded.size if size is None else size}, reverse=True)
        if sides[-1] < SMALLEST:
            raise PredictorError(
                f"size {sides[-1]}: the network needs at least {SMALLEST} x {SMALLEST} pixels. Give {SMALLEST} or more."
            )
        pixels = [as_pixels(image) for image in calibration]

        def build(on: torch.device) -> Self:
            engines = [
                build_engine(
                    loaded,
                    engine,
                    precision,
                    on,
                    side,
                    [prepare_image(one, side) for one in pixels],
                    streams,
                    compile,
                    images,
                )
                for side in sides
            ]
            return cls(engines[0], flip, engines[1:], refinement, build)

        return build(device)

    def to(self, device: DeviceName | torch.device) -> "Predictor":
        """The same predictor on another device; this one is not changed.

        Raises:
            DeviceError, EngineError: the device is not available, or the engine does not compute on it.
            PredictorError: the predictor was made from an engine, without `from_pretrained` or `from_loaded`.
        """
        if self._rebuild is None:
            raise PredictorError("to(): this predictor was made from an engine. Use Predictor.from_pretrained.")
        return self._rebuild(device if isinstance(device, torch.device) else choose_device(device))

    def __call__(self, image: ImageLike) -> Saliency:
        """The map of one image.

        Shapes:
            image: (H, W, 3) uint8.
            returns: (H, W) float32 in [0, 1].

        Raises:
            PredictorError: an array of another shape or type.
            ImageReadError: a file or Pillow image that cannot be read.
        """
        return self.batch([image])[0]

    def batch(self, images: Sequence[ImageLike]) -> list[Saliency]:
        """The maps of several images of any sizes, computed in one call of the network; each as of `__call__`."""
        pixels = [as_pixels(image) for image in images]
        return self._batch(pixels) if pixels else []

    def maps(self, images: Iterable[ImageLike], batch: int = 8) -> Iterator[Saliency]:
        """The maps of a list or generator of any length, in its order; at most `batch` images are in memory."""
        for _, saliency in self._pairs(images, batch):
            yield saliency

    def map_image(self, image: ImageLike) -> Image.Image:
        """The map of one image as an 8-bit grey Pillow image."""
        return Image.fromarray(to_8bit(self(image)))

    def cutout(self, image: ImageLike, style: Style | None = None) -> Pixels:
        """The cutout, transparent or on another background; see `inference.cutouts.Style`.

        Shapes:
            returns: (H, W, 4) RGBA, unless the style has a background or a crop.
        """
        return next(self.cutouts([image], style))

    def cutouts(self, images: Iterable[ImageLike], style: Style | None = None, batch: int = 8) -> Iterator[Pixels]:
        """The cutouts of a list or generator of any length, in its order; at most `batch` images are in memory."""
        style = style or Style()
        for pixels, saliency in self._pairs(images, batch):
            yield style.compose(pixels, self.refinement.saliency(to_8bit(saliency)))

    def cutout_image(self, image: ImageLike, style: Style | None = None) -> Image.Image:
        """The cutout as a Pillow image with the ICC profile and the resolution of a Pillow image that was given."""
        result = Image.fromarray(self.cutout(image, style))
        if isinstance(image, Image.Image):
            result.info.update({key: image.info[key] for key in ("icc_profile", "dpi") if key in image.info})
        return result

    def _pairs(self, images: Iterable[ImageLike], batch: int) -> Iterator[tuple[Pixels, Saliency]]:
        """Pixels and map of every image."""
        source = iter(images)
        while pixels := [as_pixels(image) for image in islice(source, max(1, batch))]:
            yield from zip(pixels, self._batch(pixels), strict=True)

    def _batch(self, pixels: Sequence[Pixels]) -> list[Saliency]:
        logits = self.refinement.logits(self.logits([self.prepare(one) for one in pixels]))
        return [restore(one, (image.shape[0], image.shape[1])) for one, image in zip(logits, pixels, strict=True)]

    def prepare(self, image: Pixels) -> Prepared:
        """(H, W, 3) uint8 RGB to what `logits` takes: (3, S, S) float32, normalised, for each size."""
        return tuple(prepare_image(image, engine.size) for engine in self.engines)

    def logits(self, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        """Logits of the finest output: the mean over the sizes, at the largest of them.

        Args:
            prepared: of B images.

        Shapes:
            returns: (B, S, S).
        """
        by_size = zip(*prepared, strict=True)
        of_sizes = [self._logits(engine, tensors) for engine, tensors in zip(self.engines, by_size, strict=True)]
        largest = of_sizes[0]
        for smaller in of_sizes[1:]:
            largest = largest + F.interpolate(smaller, largest.shape[2:], mode="bilinear", align_corners=False)
        return (largest / len(of_sizes) if len(of_sizes) > 1 else largest)[:, 0].numpy()

    def _logits(self, engine: Engine, tensors: Sequence[Tensor]) -> Tensor:
        """Logits at one size; B tensors (3, S, S) to (B, 1, S, S)."""
        # Prepared tensors have the memory layout (S, S, 3): stacked so, the batch is channels-last without a copy.
        batch = torch.stack([one.permute(1, 2, 0) for one in tensors]).permute(0, 3, 1, 2)  # (B, 3, S, S)
        logits = engine(batch)
        if self.flip:
            # channels-last again, as every engine was chosen and measured with
            mirrored = batch.flip(3).contiguous(memory_format=torch.channels_last)
            logits = (logits + engine(mirrored).flip(3)) / 2
        return logits


def as_pixels(image: ImageLike) -> Pixels:
    """An image of any type to (H, W, 3) uint8 RGB.

    Raises:
        PredictorError: an array of another shape or type, or no image at all.
        ImageReadError: a file or Pillow image that cannot be read.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return from_pillow(image)
    if not isinstance(image, np.ndarray):
        raise PredictorError(f"a {type(image).__name__} is no image; give a path, a Pillow image or an array.")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise PredictorError(
            f"an array {image.shape} {image.dtype} is no image; give (height, width, 3) uint8 in RGB order."
        )
    return image
