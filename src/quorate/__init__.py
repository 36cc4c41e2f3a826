"""Quorate: consensus for Python. See README.md.

How it works. The names below are the front door; each is imported from its module when it is first used, so that
``import quorate`` stays cheap and a program that wants a client does not load the server.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from quorate.machines.objects.kinds import register_type
    from quorate.runtime.errors import StorageError
    from quorate.service.client.aio import AsyncClient
    from quorate.service.client.errors import (
        BlocksLoop,
        Busy,
        Forked,
        NodeFailed,
        NoQuorum,
        NotRunning,
        OutcomeUnknown,
        QuorateError,
        Refused,
        SessionExpired,
        TooLarge,
        Unreachable,
    )
    from quorate.service.client.sync import Client
    from quorate.service.config import ConfigError
    from quorate.service.objects import (
        Async,
        CommandFailed,
        NotActive,
        Replicated,
        command,
        connect,
        connect_many,
        invariant,
        now,
        random,
        read,
        replicate,
        replicate_many,
        uuid,
    )

    __version__: str

_MODULES: Final = {
    "quorate.machines.objects.kinds": ("register_type",),
    "quorate.runtime.errors": ("StorageError",),
    "quorate.service.client.aio": ("AsyncClient",),
    "quorate.service.client.errors": (
        "BlocksLoop",
        "Busy",
        "Forked",
        "NoQuorum",
        "NodeFailed",
        "NotRunning",
        "OutcomeUnknown",
        "QuorateError",
        "Refused",
        "SessionExpired",
        "TooLarge",
        "Unreachable",
    ),
    "quorate.service.client.sync": ("Client",),
    "quorate.service.config": ("ConfigError",),
    "quorate.service.objects": (
        "Async",
        "CommandFailed",
        "NotActive",
        "Replicated",
        "command",
        "connect",
        "connect_many",
        "invariant",
        "now",
        "random",
        "read",
        "replicate",
        "replicate_many",
        "uuid",
    ),
}
_HOMES: Final = {name: module for module, names in _MODULES.items() for name in names}
"""Public name to the module that has it."""

__all__ = [
    "Async",
    "AsyncClient",
    "BlocksLoop",
    "Busy",
    "Client",
    "CommandFailed",
    "ConfigError",
    "Forked",
    "NoQuorum",
    "NodeFailed",
    "NotActive",
    "NotRunning",
    "OutcomeUnknown",
    "QuorateError",
    "Refused",
    "Replicated",
    "SessionExpired",
    "StorageError",
    "TooLarge",
    "Unreachable",
    "__version__",
    "command",
    "connect",
    "connect_many",
    "invariant",
    "now",
    "random",
    "read",
    "register_type",
    "replicate",
    "replicate_many",
    "uuid",
]


def __getattr__(name: str) -> Any:
    """A public name that has not been used yet. Raises AttributeError."""
    if name == "__version__":
        from quorate.release import release

        value: Any = release()
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
