"""The error that `data` raises about files."""

from utils.errors import UserError


class DataError(UserError):
    """A file or folder that cannot be used: the message names it and the cure."""
