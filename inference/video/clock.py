"""Strictly increasing times of frames, even where those of a file or camera are not."""

LONGEST_GAP = 60.0
"""Seconds that a frame may be shown where the length of a file is unknown; more is a jump of the clock."""
LONGEST_STEP_BACK = 1.0
"""Seconds that frames may come out of order; more is a jump of the clock."""


class Clock:
    """Turns the time stamps of one stream into increasing seconds.

    A damaged or joined file may repeat a time, jump, or have none. After such a stamp the clock continues one step
    later; all other times are kept as they are, also where the rate varies.

    Args:
        step: usual seconds between two frames.
        end: seconds at which the file ends by its header; None if that is missing.
    """

    def __init__(self, step: float, end: float | None = None) -> None:
        self.step, self.end = step, end
        self._offset = 0.0
        self._last: float | None = None

    def at(self, seconds: float | None) -> float | None:
        """The time at which a frame is shown; None if the frame comes too late to be shown."""
        last = -self.step if self._last is None else self._last
        time = last + self.step if seconds is None else seconds + self._offset
        gap = time - last
        if self._last is not None and -LONGEST_STEP_BACK <= gap < 0:
            return None
        if gap <= 0 or self._jumped(time, gap):
            self._offset += last + self.step - time
            time = last + self.step
        self._last = time
        return time

    def _jumped(self, time: float, gap: float) -> bool:
        return gap > LONGEST_GAP if self.end is None else gap > LONGEST_STEP_BACK and time > self.end + 1
