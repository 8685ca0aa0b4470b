"""SIGTERM and Ctrl-C as a request that the loop answers between two steps, so that what is saved is whole."""

import signal
from types import FrameType


class StopRequest:
    """Notes SIGTERM and SIGINT. From its creation on, only a second Ctrl-C ends the process.

    Attributes:
        requested: name of the signal, empty until one comes.
    """

    def __init__(self) -> None:
        self.requested = ""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
