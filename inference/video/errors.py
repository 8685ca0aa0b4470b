"""Errors of videos."""

from utils.errors import UserError


class VideoError(UserError):
    """A video that cannot be read or written."""


def reason(error: Exception) -> str:
    """The message of a library's error on one line, without the path that it may repeat."""
    strerror = getattr(error, "strerror", None)
    lines = [line.strip() for line in str(strerror or error).splitlines() if line.strip()]
    return lines[0][:120] if lines else type(error).__name__
