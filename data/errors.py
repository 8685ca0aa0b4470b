"""The error that everything in `data` raises when files are not what they should be."""

from utils.errors import UserError


class DataError(UserError):
    """A file or a folder of the user's is not what it should be: the message names it and the cure."""
