"""The blocking client: the asynchronous one on an event loop in a thread of its own. Safe to share between threads.

Not between processes: in a fork of the one that made it every call raises Forked. Nor in coroutines, whose loop it
would stop: there every call raises BlocksLoop.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from quorate.machines.kv import commands as kv
from quorate.parts.crypto.keys import Signer
from quorate.parts.log.configuration import Voters
from quorate.service.client import aio
from quorate.service.client.administration import Look
from quorate.service.client.endpoints import DEFAULT_ENDPOINTS
from quorate.service.client.errors import QuorateError
from quorate.service.client.leadership import LeaderFound
from quorate.service.client.loop_thread import LoopThread, refuse_on_loop
from quorate.service.requests import Status
from quorate.service.tokens import Token

INSTEAD: Final = "use AsyncClient in a coroutine"

T = TypeVar("T")


class Client:
    """As ``aio.AsyncClient``, method by method; use as a context manager, or call ``close``."""

    def __init__(
        self,
        endpoints: str | Sequence[str] = DEFAULT_ENDPOINTS,
        *,
        timeout_s: float = 5.0,
        faults: int | None = None,
        key: Signer | None = None,
        cluster: str = "",
    ) -> None:
        """Raises ValueError for endpoints that are none, or too few for so many faults."""
        self._client = aio.AsyncClient(endpoints, timeout_s=timeout_s, faults=faults, key=key, cluster=cluster)
        self._thread = LoopThread("quorate-client")
        self._thread.run(self._client.__aenter__())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {','.join(self._client.endpoints.addresses)}>"

    def close(self) -> None:
        """End the session and the thread. Calls of other threads raise. A second call does nothing."""
        if not self._thread.is_over:
            self._thread.run(self._client.close())
        self._thread.stop()

    def put(self, key: bytes, value: bytes) -> int:
        """Set a key; the store's revision after it."""
        return self._run(self._client.put(key, value))

    def get(self, key: bytes, *, serializable: bool = False) -> kv.KeyValue | None:
        """One key with its revisions, or None where it is not there."""
        return self._run(self._client.get(key, serializable=serializable))

    def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        limit: int = 0,
        revision: int = 0,
        keys_only: bool = False,
        serializable: bool = False,
    ) -> kv.RangeResult:
        """Keys in order from ``key`` up to ``range_end``, as ``aio.AsyncClient.range``."""
        return self._run(
            self._client.range(
                key, range_end, limit=limit, revision=revision, keys_only=keys_only, serializable=serializable
            )
        )

    def delete(self, key: bytes, range_end: bytes = b"", *, in_pages: bool = False) -> int:
        """Delete a key or a range; how many there were. As ``aio.AsyncClient.delete``."""
        return self._run(self._client.delete(key, range_end, in_pages=in_pages))

    def txn(
        self, compare: list[kv.Compare], success: list[kv.Operation], failure: list[kv.Operation] | None = None
    ) -> kv.TxnResult:
        """If all compares hold do ``success``, else ``failure``; one revision."""
        return self._run(self._client.txn(compare, success, failure))

    def compact(self, revision: int) -> int:
        """Forget the history before a revision."""
        return self._run(self._client.compact(revision))

    def rollback(self, to_revision: int, prefix: bytes = b"", *, who: str = "") -> kv.RollbackResult:
        """As ``aio.AsyncClient.rollback``."""
        return self._run(self._client.rollback(to_revision, prefix, who=who))

    def plan_rollback(self, to_revision: int, prefix: bytes = b"", *, limit: int = 0) -> kv.RollbackPlan:
        """As ``aio.AsyncClient.plan_rollback``."""
        return self._run(self._client.plan_rollback(to_revision, prefix, limit=limit))

    def keep_history(self, *, revisions_max: int = 0, age_s_max: int = 0) -> int:
        """As ``aio.AsyncClient.keep_history``."""
        return self._run(self._client.keep_history(revisions_max=revisions_max, age_s_max=age_s_max))

    def history(self, *, at_ns: int = 0) -> kv.HistoryResult:
        """As ``aio.AsyncClient.history``."""
        return self._run(self._client.history(at_ns=at_ns))

    def command(self, operation: bytes) -> bytes:
        """As ``aio.Connection.command``."""
        return self._run(self._client.command(operation))

    def query(self, query: bytes, *, serializable: bool = False) -> bytes:
        """As ``aio.Connection.query``."""
        return self._run(self._client.query(query, serializable=serializable))

    def members(self) -> Voters:
        """As ``aio.Connection.members``."""
        return self._run(self._client.members())

    def look(self) -> Look:
        """As ``aio.Connection.look``."""
        return self._run(self._client.look())

    def set_members(self, members: Sequence[int], *, force: bool = False) -> Voters:
        """As ``aio.Connection.set_members``."""
        return self._run(self._client.set_members(members, force=force))

    def invite(self, node: int, *, witness: bool = False) -> Token:
        """As ``aio.Connection.invite``."""
        return self._run(self._client.invite(node, witness=witness))

    def promote(self, nodes: Sequence[int], *, force: bool = False) -> Voters:
        """As ``aio.Connection.promote``."""
        return self._run(self._client.promote(nodes, force=force))

    def demote(self, nodes: Sequence[int], *, force: bool = False) -> Voters:
        """As ``aio.Connection.demote``."""
        return self._run(self._client.demote(nodes, force=force))

    def remove_nodes(self, nodes: Sequence[int], *, force: bool = False) -> Voters:
        """As ``aio.Connection.remove_nodes``."""
        return self._run(self._client.remove_nodes(nodes, force=force))

    def replace_node(self, old: int, new: int, *, force: bool = False) -> Voters:
        """As ``aio.Connection.replace_node``."""
        return self._run(self._client.replace_node(old, new, force=force))

    def move_node(self, node: int, peer: str, client: str) -> Voters:
        """As ``aio.Connection.move_node``."""
        return self._run(self._client.move_node(node, peer, client))

    def leader(self) -> LeaderFound:
        """As ``aio.Connection.leader``."""
        return self._run(self._client.leader())

    def transfer_leadership(self, to: int | None = None) -> int:
        """As ``aio.Connection.transfer_leadership``."""
        return self._run(self._client.transfer_leadership(to))

    def statuses(self) -> list[tuple[str, Status | QuorateError]]:
        """Each endpoint with what it says of itself, or why it says nothing."""
        return self._run(self._client.statuses())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            refuse_on_loop(INSTEAD)
        except BaseException:
            work.close()
            raise
        return self._thread.run(work)
