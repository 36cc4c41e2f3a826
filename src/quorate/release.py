"""Which release this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """The version of the package that is installed."""
    try:
        return version("quorate")
    except PackageNotFoundError:  # imported from a source tree that was never installed
        return "0+source"
