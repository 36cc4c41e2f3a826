"""Quorate: consensus for Python. See README.md."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("quorate")
except PackageNotFoundError:  # imported from a source tree that was never installed
    __version__ = "0+source"

__all__ = ["__version__"]
