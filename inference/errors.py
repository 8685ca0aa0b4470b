"""Errors of engines and model files; apart from the engines, since programs without PyTorch raise them too."""

from utils.errors import UserError


class EngineError(UserError):
    """An engine, a precision or a model file that is not available here."""
