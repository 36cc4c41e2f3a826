"""Several objects in one node, each under its name: one log, one journal and one port for all of them.

``with replicate_many({"hits": Counter, "jobs": Queue}, ...) as node:`` and then ``node.handle("hits", Counter)``, whose
type is Counter. The class is given again so that type checkers know it, and it is compared. As all objects share a log,
all their commands have one order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from quorate.machines.named import NAME_BYTES_MAX
from quorate.machines.objects.machine import Replicated
from quorate.parts.crypto.keys import Signer
from quorate.service.config import ConfigError
from quorate.service.objects.access import ObjectAccess
from quorate.service.objects.handles import Async
from quorate.service.objects.remote import RemoteObject
from quorate.service.objects.replicate import Replication

K = TypeVar("K", bound=Replicated)


class _Many(ObjectAccess[Any]):
    """The value of the block is this object itself, which gives the handles."""

    def _blocking(self) -> Any:
        return self

    def _awaited(self) -> Any:
        return self

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    async def __aenter__(self) -> Self:  # type: ignore[override]
        await super().__aenter__()
        return self

    @property
    def names(self) -> list[str]:
        """Of the objects."""
        return sorted(self._methods)

    def handle(self, name: str, kind: type[K]) -> K:
        """One object's handle, whose calls block. Raises LookupError, TypeError for a name or class it has not."""
        self._check(name, kind)
        return cast(K, self._handle_of(name))

    def handle_async(self, name: str, kind: type[K]) -> Async[K]:
        """One object's handle for coroutines."""
        self._check(name, kind)
        return cast(Async[K], self._async_of(name))

    def handle_local(self, name: str, kind: type[K]) -> K:
        """One object's handle for reads that one node answers alone, from a state that may be old. It blocks."""
        self._check(name, kind)
        return cast(K, self._handle_of(name, is_local=True))

    def handle_local_async(self, name: str, kind: type[K]) -> Async[K]:
        """The same for coroutines."""
        self._check(name, kind)
        return cast(Async[K], self._async_of(name, is_local=True))

    @property
    def local(self) -> Any:
        raise TypeError('there are several objects: write handle_local("name", Kind)')

    @property
    def local_async(self) -> Any:
        raise TypeError('there are several objects: write handle_local_async("name", Kind)')

    def _check(self, name: str, kind: type[K]) -> None:
        if name not in self._methods:
            raise LookupError(f"there is no object {name!r}; there are {', '.join(self.names)}")
        if self._methods[name].kind is not kind:
            raise TypeError(f"{name} is a {self._methods[name].kind.__name__}, not a {kind.__name__}")


class ReplicationOfMany(_Many, Replication[Any]):  # type: ignore[misc] # the value of its block is another
    """One node of several objects. What there is to know of it is as of Replication."""


class RemoteObjects(_Many, RemoteObject[Any]):
    """Several objects on other processes' nodes."""


def replicate_many(
    kinds: Mapping[str, type[Replicated]],
    *,
    node: int = 1,
    nodes: Mapping[int, str] | None = None,
    data: Path | str | None = None,
    cluster: str | None = None,
    protocol: str = "raft",
    protocol_options: Mapping[str, Any] | None = None,
    keys: Path | str | None = None,
    listen: str | None = None,
    timeout_s: float = 10.0,
) -> ReplicationOfMany:
    """Run several objects replicated, ``{"name": Kind}``, the same on every node.

    Options and errors as of ``replicate``. A later release of a program may add an object, which begins anew; one that
    is there cannot be left out.
    """
    return ReplicationOfMany(
        _checked(kinds),
        node=node,
        nodes=nodes,
        data=data,
        cluster=cluster,
        protocol=protocol,
        protocol_options=protocol_options,
        keys=keys,
        listen=listen,
        timeout_s=timeout_s,
    )


def connect_many(
    kinds: Mapping[str, type[Replicated]],
    endpoints: str | Sequence[str],
    *,
    timeout_s: float = 5.0,
    faults: int | None = None,
    key: Signer | None = None,
    cluster: str = "",
) -> RemoteObjects:
    """Call some or all objects of a ``replicate_many`` that runs elsewhere. Options and errors as of ``connect``."""
    return RemoteObjects(_checked(kinds), endpoints, timeout_s=timeout_s, faults=faults, key=key, cluster=cluster)


def _checked(kinds: Any) -> Mapping[str, type[Replicated]]:
    if not isinstance(kinds, Mapping) or not kinds:
        raise ConfigError(
            f'kinds: {kinds!r} is not a dict of names and classes: write {{"hits": Counter, "jobs": Queue}}'
        )
    for name in kinds:
        if not isinstance(name, str) or not 0 < len(name.encode()) <= NAME_BYTES_MAX:
            raise ConfigError(f"kinds: {name!r} is not a name of 1 to {NAME_BYTES_MAX} bytes")
    return kinds
