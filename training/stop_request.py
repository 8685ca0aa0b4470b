"""SIGTERM and Ctrl-C as a request that the loop answers between two batches, so that what is saved is whole."""

import signal
from types import FrameType


class StopRequest:
    """Remembers that SIGTERM or SIGINT came; from its making on neither ends the process, but a second Ctrl-C does.

    Attributes:
        requested: name of the signal, empty as long as none came.
    """

    def __init__(self) -> None:
        self.requested = ""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
