"""connect: call a replicated object whose nodes run in other processes. For web workers, notebooks and scripts."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from quorate.machines.objects.machine import Replicated
from quorate.parts.crypto.keys import Signer
from quorate.service.client import aio
from quorate.service.client.endpoints import Endpoints
from quorate.service.client.errors import QuorateError
from quorate.service.client.loop_thread import LoopThread, refuse_on_loop
from quorate.service.config import ConfigError
from quorate.service.objects.access import Line, ObjectAccess
from quorate.service.requests import Status

R = TypeVar("R", bound=Replicated)


class RemoteObject(ObjectAccess[R]):
    """An object on other processes' nodes. A context manager, ``with`` or ``async with``, whose value is the handle."""

    what: ClassVar[str] = "connection"

    def __init__(
        self,
        kinds: Mapping[str, type[Replicated]],
        endpoints: str | Sequence[str],
        *,
        timeout_s: float = 5.0,
        faults: int | None = None,
        key: Signer | None = None,
        cluster: str = "",
    ) -> None:
        """Options as of ``connect``."""
        super().__init__(kinds, timeout_s)
        try:
            self._endpoints = Endpoints(endpoints).addresses
            self._faults = faults
            self._key = key
            self._cluster = cluster
            self._connection()
        except ValueError as error:
            raise ConfigError(f"endpoints: {error}") from None
        self._thread: LoopThread | None = None

    def statuses(self) -> list[tuple[str, Status | QuorateError]]:
        """Each endpoint with what its node says of itself, or why it says nothing. Blocks."""
        line = self._running()
        refuse_on_loop("await statuses_async() in a coroutine")
        return self._wait(line, line.connection.statuses(), self._timeout_s, is_read=True)

    async def statuses_async(self) -> list[tuple[str, Status | QuorateError]]:
        """The same in a coroutine."""
        line = self._running()
        self._check_loop(line)
        return await line.connection.statuses()

    def _connection(self) -> aio.Connection:
        return aio.Connection(
            self._endpoints, timeout_s=self._timeout_s, faults=self._faults, key=self._key, cluster=self._cluster
        )

    def _raise_thread(self, is_for_calls: bool) -> LoopThread | None:
        if is_for_calls:
            self._thread = LoopThread(f"quorate-{self._title}", self.what)
        return self._thread

    def _end_thread(self) -> None:
        if self._thread is not None:
            thread, self._thread = self._thread, None
            thread.stop()

    def _read_here(self, line: Line, query: bytes) -> Coroutine[Any, Any, bytes]:
        return line.connection.query(query, serializable=True)


def connect(
    kind: type[R],
    endpoints: str | Sequence[str],
    *,
    timeout_s: float = 5.0,
    faults: int | None = None,
    key: Signer | None = None,
    cluster: str = "",
) -> RemoteObject[R]:
    """Call ``kind`` on nodes that run elsewhere: ``with connect(Counter, "10.0.0.1:7802,10.0.0.2:7802") as counter:``.

    ``endpoints`` are the client ports of some or all nodes: with ``replicate``, the one after the port that ``nodes``
    gives. ``timeout_s`` bounds each call. ``cluster``: its name, so that nodes of others are not talked to. Where nodes
    may lie: ``faults``, how many, if not all are given; ``key`` signs, None makes one.
    Raises TypeError for a class that cannot be replicated, ConfigError for endpoints that are none.
    """
    return RemoteObject({"": kind}, endpoints, timeout_s=timeout_s, faults=faults, key=key, cluster=cluster)
