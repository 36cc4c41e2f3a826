"""Quorate: consensus for Python. See README.md.

How it works. The names below are the front door; each is imported from its module when it is first used, so that
``import quorate`` stays cheap and a program that wants a client does not load the server.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from quorate.service.client.aio import AsyncClient
    from quorate.service.client.sync import Client
    from quorate.service.objects import Replicated, command, invariant, read, replicate

    __version__: str

_HOMES: Final = {
    "AsyncClient": ("quorate.service.client.aio", "AsyncClient"),
    "Client": ("quorate.service.client.sync", "Client"),
    "Replicated": ("quorate.service.objects", "Replicated"),
    "command": ("quorate.service.objects", "command"),
    "invariant": ("quorate.service.objects", "invariant"),
    "read": ("quorate.service.objects", "read"),
    "replicate": ("quorate.service.objects", "replicate"),
}
"""Public name to module, and the name there."""

__all__ = ["AsyncClient", "Client", "Replicated", "__version__", "command", "invariant", "read", "replicate"]


def __getattr__(name: str) -> Any:
    """A public name that has not been used yet. Raises AttributeError."""
    if name == "__version__":
        value: Any = _version()
    elif name in _HOMES:
        module, attribute = _HOMES[name]
        value = getattr(import_module(module), attribute)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("quorate")
    except PackageNotFoundError:  # imported from a source tree that was never installed
        return "0+source"
