"""Imports libraries without modules that they load for parts of themselves that this project does not use."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class _StandIn(ModuleType):
    def __init__(self, module: str, names: Mapping[str, object]) -> None:
        super().__init__(module)
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _remove()
        return getattr(import_module(self.__name__), name)


@contextmanager
def stand_ins(names: Mapping[str, Mapping[str, object]]) -> Iterator[None]:
    """What is imported in the block finds names of some modules without loading these modules.

    Args:
        names: the values of these names, by module. Any other name loads the module, and so does an import after the
            block. A module that is loaded already stays as it is.
    """
    sys.modules.update({module: _StandIn(module, each) for module, each in names.items() if module not in sys.modules})
    try:
        yield
    finally:
        _remove()


def at_call(module: str, name: str) -> Callable[..., Any]:
    """A function that loads a module when it is called, and then calls the module's function or class of that name."""

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(import_module(module), name)(*arguments, **options)

    return call


def _remove() -> None:
    for name, module in list(sys.modules.items()):
        if isinstance(module, _StandIn):
            del sys.modules[name]
