"""Steady maps in a video: the last map, carried along by optical flow, is blended with the new one.

A network that sees each frame alone gives maps that flicker. `Smoother` is an average over time along the paths of
the pixels. Where the flow is not to be trusted, as at a cut, behind a moved object or at the border, the new map
stays as it is.

The constants were chosen on clips made of images of DUTS-TR. `benchmarks/video_smooth.py` measures the result on
others.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.video.colour import Pixels

KEPT = 0.8
"""Share of the carried map in the new one where the flow is certain: a memory of about five frames."""
COLOUR = 20.0
"""Difference of grey levels between a pixel and the one it came from that lowers the confidence to 1/e."""
RETURN = 2.0
"""Distance, in pixels of the small frame, by which flow there and back may miss its start; lowers it to 1/e."""
SURE = 8.0
"""Logits are clipped to this magnitude, maps of 0.0003 and 0.9997, so that one frame cannot outweigh many."""
LEAST = 0.3
"""Mean confidence below which two frames show different scenes, and nothing is carried."""
_WINDOW = (5, 5)  # pixels over which grey levels are compared


class Smoother:
    """Smooths the logits of one video, frame by frame in order. Not for several threads at once.

    Args:
        side: S, of the logits.
    """

    def __init__(self, side: int) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        columns, rows = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))
        self._places = np.stack([columns, rows], axis=2)  # (S, S, 2): x and y of every pixel
        self._last: tuple[Pixels, NDArray[np.float32]] | None = None

    def __call__(self, small: Pixels, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The smoothed logits of the next frame.

        Args:
            small: the frame, see `small_frame`.
            logits: of the frame alone.

        Shapes:
            small: (S, S) uint8; logits: (S, S) float32; returns: (S, S) float32.
        """
        smoothed = np.clip(logits, -SURE, SURE)
        if self._last is not None:
            before, carried = self._last
            back = self._flow.calc(small, before, np.zeros_like(self._places))
            forth = self._flow.calc(before, small, np.zeros_like(self._places))
            sources = self._places + back
            weight = KEPT * self._confidence(small, before, sources, back, forth)
            smoothed += weight * (_at(carried, sources) - smoothed)
        self._last = small, smoothed
        return smoothed

    def _confidence(
        self,
        small: Pixels,
        before: Pixels,
        sources: NDArray[np.float32],
        back: cv2.typing.MatLike,
        forth: cv2.typing.MatLike,
    ) -> NDArray[np.float32]:
        """How far the flow is to be trusted, (S, S) in [0, 1].

        High where the grey levels agree and flow there and back returns to its start; 0 where a pixel comes from
        outside of the frame.
        """
        change = cv2.blur(cv2.absdiff(_at(before, sources), small).astype(np.float32), _WINDOW)
        missed = np.square(back + _at(forth, sources)).sum(axis=2)
        trust = np.exp(-np.square(change / COLOUR) - missed / RETURN**2)
        trust *= np.logical_and(sources >= 0, sources <= len(small) - 1).all(axis=2)
        return trust * np.float32(trust.mean() >= LEAST)


def small_frame(frame: Pixels, side: int) -> Pixels:
    """A frame in grey at the size of the logits, as `Smoother` takes it; (H, W, 3) RGB to (S, S)."""
    grey = cv2.cvtColor(cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return np.asarray(grey, np.uint8)


def _at(plane: cv2.typing.MatLike, sources: NDArray[np.float32]) -> cv2.typing.MatLike:
    """The values of a plane at fractional places (S, S, 2), bilinear; beyond the border those of the border."""
    return cv2.remap(plane, sources, np.empty(0, np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
