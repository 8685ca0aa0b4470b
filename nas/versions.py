"""Versions of what a search computes with, for the provenance of a genotype."""

import platform
from importlib.metadata import version

PACKAGES = ("torch", "torchvision", "timm", "numpy")


def versions() -> dict[str, str]:
    """Package -> version, and that of Python."""
    return {**{name: version(name) for name in PACKAGES}, "python": platform.python_version()}
