"""Colours and geometry of a video: how its samples become RGB, and how RGB becomes samples again.

A video names the matrix, range, primaries and transfer function of its colours, or leaves them to the player. Frames
are decoded and encoded with the matrix and range of the video, and the names are kept. A player therefore shows the
result as it shows the source. Primaries and transfer functions are not converted.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

RGB, BT709, UNSPECIFIED, SMPTE170M, BT2020_CONSTANT = 0, 1, 2, 6, 10  # AVColorSpace
_EXACT = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)


@dataclass(frozen=True)
class Look:
    """How the frames of a video are shown.

    Attributes:
        size: height and width in pixels, upright.
        aspect: width of a pixel divided by its height, upright.
        matrix, primaries, transfer: numbers of FFmpeg's AVColorSpace, AVColorPrimaries and
            AVColorTransferCharacteristic; 2 is unspecified.
        full: whether samples use the full range of values, as few videos do.
    """

    size: tuple[int, int]
    aspect: Fraction = Fraction(1)
    matrix: int = BT709
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    full: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame, aspect: Fraction | None) -> "Look":
        """The look of a frame that was read from a stream with this aspect of pixels."""
        turned, aspect = _turn(frame)[0], aspect or Fraction(1)
        height, width = (frame.width, frame.height) if turned else (frame.height, frame.width)
        return cls(
            (height, width), 1 / aspect if turned else aspect,
            BT709 if frame.colorspace == RGB else int(frame.colorspace),
            int(frame.color_primaries), int(frame.color_trc), _is_full(frame) and frame.colorspace != RGB,
        )  # fmt: skip


def decode(frame: av.VideoFrame) -> tuple[Pixels, Pixels | None]:
    """A frame as upright RGB (H, W, 3), and its alpha (H, W) or None."""
    alpha = any(component.is_alpha for component in frame.format.components)
    pixels = (
        frame.reformat(
            format="rgba" if alpha else "rgb24",
            src_colorspace=_swscale_matrix(int(frame.colorspace)),
            src_color_range=ColorRange.JPEG if _is_full(frame) else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=_EXACT,
        )
        .to_ndarray()
        .astype(np.uint8, copy=False)
    )
    pixels = _upright(pixels, *_turn(frame))
    return (np.ascontiguousarray(pixels[..., :3]), pixels[..., 3].copy()) if alpha else (pixels, None)


def encode(pixels: Pixels, look: Look, format: str) -> av.VideoFrame:
    """A frame of `format` from RGB (H, W, 3) or RGBA (H, W, 4), in the colours of a look."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgba" if pixels.shape[2] == 4 else "rgb24")
    return frame.reformat(
        format=format,
        dst_colorspace=_swscale_matrix(look.matrix),
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.JPEG if look.full else ColorRange.MPEG,
        interpolation=_EXACT,
    )


def tag(codec: Any, look: Look) -> None:
    """Writes a look into the settings of an encoder."""
    codec.sample_aspect_ratio = look.aspect
    codec.colorspace, codec.color_primaries, codec.color_trc = look.matrix, look.primaries, look.transfer
    codec.color_range = ColorRange.JPEG if look.full else ColorRange.MPEG


def _is_full(frame: av.VideoFrame) -> bool:
    return frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")


def _swscale_matrix(matrix: int) -> int:
    """The number of a matrix in swscale; an unspecified one is BT.601, as FFmpeg takes it."""
    known = {BT709: Colorspace.ITU709, 4: Colorspace.FCC, 7: Colorspace.SMPTE240M, 9: Colorspace.BT2020}
    return known.get(9 if matrix == BT2020_CONSTANT else matrix, Colorspace.ITU601)


def _turn(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """The display matrix as steps: swap rows and columns, then mirror left to right, then top to bottom."""
    side = frame.side_data.get(Type.DISPLAYMATRIX)  # pyright: ignore[reportCallIssue, reportArgumentType]
    if side is None:
        return False, False, False
    a, b, _, c, d, *_ = np.frombuffer(bytes(side), np.int32)[:9].tolist()
    if abs(b) > abs(a):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def _upright(pixels: Pixels, swapped: bool, mirrored: bool, flipped: bool) -> Pixels:
    pixels = pixels.swapaxes(0, 1) if swapped else pixels
    pixels = pixels[:, ::-1] if mirrored else pixels
    return np.ascontiguousarray(pixels[::-1] if flipped else pixels)
