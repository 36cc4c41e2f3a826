"""The asynchronous client: sockets, a clock and a timer around the client's core, which decides all the rest.

How it works. Links, responses and the timer are inputs of the core (``core.py``); after each input ``_flush`` does what
the core wants done. Calls that begin in one turn of the event loop are signed together at its end, if they are signed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from math import inf
from types import TracebackType
from typing import ClassVar, Final, Self, TypeVar

from quorate.machines.kv import commands as kv
from quorate.machines.kv.refusals import RESOURCE_EXHAUSTED
from quorate.parts.bounds import TIME_S_MAX
from quorate.parts.crypto.keys import Signer
from quorate.service.client.administration import Administration
from quorate.service.client.arguments import check_bytes
from quorate.service.client.call import CHANGE, COMMAND, LOCAL, QUERY, ClientCall
from quorate.service.client.core import CLOSED, NEVER_OPENED, ClientCore
from quorate.service.client.endpoints import DEFAULT_ENDPOINTS, Endpoints
from quorate.service.client.errors import NotRunning, Refused, TooLarge, Unreachable
from quorate.service.client.link import DIAL_TIMEOUT_S, Link, dial
from quorate.service.client.pace import Pace
from quorate.service.requests import COMMAND_BYTES_MAX, DECODE_ERRORS, Response, decode_response

PACE: Final = Pace()

NOBODY_SIGNS: Final = (
    "where nodes may lie, an administrator signs a change of members: Client(key=...), or quorate members set --key "
    "FILE; likewise with its other commands"
)
NO_STORE: Final = (
    "the node's answer is not one of a key-value store: this cluster keeps a ledger (see `quorate chain`), or objects"
)
DELETED_PER_PAGE: Final = 1000
T = TypeVar("T")


class Connection(Administration):
    """The part of a client that knows no state machine: commands and queries are bytes.

    ``timeout_s`` bounds each call. ``faults``: how many of these nodes may lie; None: as ``mode.py`` finds out. ``key``
    signs where nodes may lie; None: a fresh one. ``cluster``: its name; nodes of others are hung up on. Without it,
    requests are signed for the cluster that enough nodes name. Use as an asynchronous context manager. One event loop
    owns it.
    """

    core_type: ClassVar[type[ClientCore]] = ClientCore

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
        self.endpoints = Endpoints(endpoints)
        if not 0 < timeout_s <= TIME_S_MAX:
            raise ValueError(f"timeout_s is {timeout_s}: it must be above 0 and at most {TIME_S_MAX:g}")
        self.timeout_s = timeout_s
        self.cluster = cluster
        self._key = key
        self.core = self.core_type(
            self.endpoints, random.SystemRandom(), self._signer, PACE, timeout_s=timeout_s, faults=faults
        )
        self._links: dict[int, Link] = {}
        self._dials: dict[int, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._is_settling = False
        self._has_mode = asyncio.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {','.join(self.endpoints.addresses)}>"

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self.core.start(time.monotonic())
        self._flush()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, why: str = CLOSED) -> None:
        """End the session and the links. Calls still under way raise and say ``why``, and later ones raise."""
        dials = list(self._dials.values())
        self.core.close(time.monotonic(), why)
        self._flush()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*dials, return_exceptions=True)

    # --- calls ---

    async def command(self, operation: bytes) -> bytes:
        """Have an operation applied exactly once; the state machine's result.

        Raises Unreachable, NoQuorum, OutcomeUnknown, TooLarge, Refused.
        """
        if len(operation) > COMMAND_BYTES_MAX:
            raise TooLarge(_too_large("command", operation))
        now = time.monotonic()
        return await self._call(COMMAND, operation, now, now + self.timeout_s)

    async def query(self, query: bytes, *, serializable: bool = False) -> bytes:
        """Read: linearizable, or ``serializable`` from whichever node is connected, however old its state.

        Where nodes may lie, ``serializable`` is what some honest node has.

        Raises Unreachable, NoQuorum, TooLarge, Refused.
        """
        if len(query) > COMMAND_BYTES_MAX:
            raise TooLarge(_too_large("query", query))
        now = time.monotonic()
        return await self._call(LOCAL if serializable else QUERY, query, now, now + self.timeout_s)

    async def _call(self, kind: int, body: bytes, now: float, deadline: float) -> bytes:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        call = ClientCall(kind, body, deadline, answer)
        core = self.core
        core.timeout_s = self.timeout_s
        core.begin(call, now)
        self._flush()
        try:
            return await answer
        except asyncio.CancelledError:
            core.forget(call, time.monotonic())
            self._flush()
            raise

    # --- for changes of the members ---

    @property
    def _liars(self) -> int:
        return 0 if self.core.voting is None else self.core.voting.faults

    @property
    def is_byzantine(self) -> bool:
        """As the base says; not before an answer came."""
        return self.core.voting is not None

    @property
    def _liars_of_cluster(self) -> int:
        return 0 if self.core.voting is None else self.core.voting.bears.liars

    @property
    def _administrator(self) -> Signer | None:
        if self.is_byzantine and self._key is None:
            raise Refused(NOBODY_SIGNS)
        return self._key

    async def _has_mode_by(self, deadline: float) -> None:
        core = self.core
        if not core.is_running:
            raise NotRunning(NEVER_OPENED)
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._has_mode.wait()
        if not self._has_mode.is_set():
            raise Unreachable(f"no node answered within {self.timeout_s:g} s: {core.why}")
        if core.refused is not None:
            raise core.refused

    async def _reconfigure(self, change: bytes, deadline: float) -> None:
        if self.is_byzantine and self._key is None:
            raise Refused(NOBODY_SIGNS)
        await self._call(CHANGE, change, time.monotonic(), deadline)

    # --- what the core wants done ---

    def _flush(self) -> None:
        core = self.core
        out = core.out
        if out.sends:
            sends, out.sends = out.sends, []
            links = self._links
            for at, item in sends:
                link = links.get(at)
                if link is None or not link.send(item.payload):
                    core.not_sent(at, item, out.now)
        if out.finished:
            finished, out.finished = out.finished, []
            for call in finished:
                answer = call.waiter
                if answer.done():
                    continue
                if call.error is None:
                    answer.set_result(call.result)
                else:
                    answer.set_exception(call.error)
        if out.hangups or out.dials:
            self._relink()
        if core.has_unsigned and not self._is_settling:
            self._is_settling = True
            self._loop.call_soon(self._settle)
        if out.wake_at < self._timer_at:
            self._set_timer(out.wake_at)

    def _settle(self) -> None:
        self._is_settling = False
        self.core.settle(time.monotonic())
        self._flush()

    def _relink(self) -> None:
        out = self.core.out
        hangups, out.hangups = out.hangups, []
        dials, out.dials = out.dials, []
        for at, why, at_once in hangups:
            if (task := self._dials.pop(at, None)) is not None:
                task.cancel()
            if (link := self._links.pop(at, None)) is not None:
                (link.cut if at_once else link.close)(why)
        for at in dials:
            self._dials[at] = self._loop.create_task(self._dial(at))
        if self.core.has_mode:
            self._has_mode.set()

    async def _dial(self, at: int) -> None:
        address = self.endpoints.addresses[at]
        try:
            timeout_s = min(self.timeout_s, DIAL_TIMEOUT_S)
            link, node = await dial(address, partial(self._on_reply, at), timeout_s, self.cluster)
        except Unreachable as error:
            del self._dials[at]
            self.core.unreached(at, str(error), time.monotonic())
        else:
            del self._dials[at]
            self._links[at] = link
            link.lost.add_done_callback(partial(self._on_lost, at, link))
            self.core.opened(at, node, link.greeted, time.monotonic())
            if self.core.has_mode:
                self._has_mode.set()
        self._flush()

    def _on_lost(self, at: int, link: Link, _: asyncio.Future[None]) -> None:
        if self._links.get(at) is link:
            del self._links[at]
            self.core.lost(at, link.why, time.monotonic())
            self._flush()

    def _on_reply(self, at: int, frames: list[bytes]) -> None:
        link = self._links.get(at)
        if link is None:
            return  # said unasked, before the core knows of the link
        responses: list[Response] = []
        for frame in frames:
            try:
                responses.append(decode_response(frame))
            except DECODE_ERRORS as error:
                link.cut(f"sent what is no reply: {error}")
                break
        self.core.received(at, responses, time.monotonic())
        self._flush()

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - time.monotonic()), self._on_time)

    def _on_time(self) -> None:
        self._timer_at = inf
        self.core.tick(time.monotonic())
        self._flush()

    def _signer(self) -> Signer:
        return self._key or _fresh_key()


class AsyncClient(Connection):
    """A client of the key-value store. Keys and values are bytes; anything else is a TypeError, and nothing is sent."""

    async def put(self, key: bytes, value: bytes) -> int:
        """Set a key; the store's revision after it."""
        result = await self._command(kv.Put(key, value), kv.PutResult)
        return result.revision

    async def get(self, key: bytes, *, serializable: bool = False) -> kv.KeyValue | None:
        """One key with its revisions, or None where it is not there."""
        kvs = (await self.range(key, serializable=serializable)).kvs
        return kvs[0] if kvs else None

    async def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        limit: int = 0,
        revision: int = 0,
        keys_only: bool = False,
        serializable: bool = False,
    ) -> kv.RangeResult:
        """Keys in order from ``key`` up to ``range_end`` (``prefix_end`` of kv.commands makes one), as etcd's Range."""
        query = kv.Range(key, range_end, limit, revision, keys_only)
        return await self._query(query, kv.RangeResult, serializable)

    async def delete(self, key: bytes, range_end: bytes = b"", *, in_pages: bool = False) -> int:
        """Delete a key or a range; how many there were.

        One command deletes 2,048 keys at most, and is TooLarge for a range that has more. ``in_pages``: several
        commands delete as many as there are; others see the range with a part of it gone, and what they put into it
        behind the page that is being deleted goes, too.
        """
        deleted, is_last = 0, not (in_pages and range_end)
        while not is_last:
            page = await self.range(key, range_end, limit=DELETED_PER_PAGE, keys_only=True)
            is_last = not page.more
            if not is_last:
                next_key = page.kvs[-1].key + b"\0"
                deleted += (await self._command(kv.DeleteRange(key, next_key), kv.DeleteRangeResult)).deleted
                key = next_key
        return deleted + (await self._command(kv.DeleteRange(key, range_end), kv.DeleteRangeResult)).deleted

    async def txn(
        self,
        compare: list[kv.Compare],
        success: list[kv.Operation],
        failure: list[kv.Operation] | None = None,
    ) -> kv.TxnResult:
        """If all compares hold do ``success``, else ``failure``; one revision."""
        return await self._command(kv.Txn(compare, success, failure or []), kv.TxnResult)

    async def compact(self, revision: int) -> int:
        """Forget the history before a revision."""
        return (await self._command(kv.Compact(revision), kv.CompactResult)).revision

    async def rollback(self, to_revision: int, prefix: bytes = b"", *, who: str = "") -> kv.RollbackResult:
        """Bring the values of all keys with a prefix back as they were at a revision, as one new revision.

        ``who`` is kept with it, as the caller says it. Many keys take a while, in which no other command is applied:
        ``timeout_s`` must allow for it. Raises Refused for a revision that was compacted, or is to come.
        """
        key, end = kv.range_of(prefix)
        return await self._command(kv.Rollback(to_revision, key, end, who), kv.RollbackResult)

    async def plan_rollback(self, to_revision: int, prefix: bytes = b"", *, limit: int = 0) -> kv.RollbackPlan:
        """What a rollback would change, were it done now; with the first ``limit`` keys, 1,000 at most."""
        key, end = kv.range_of(prefix)
        return await self._query(kv.PlanRollback(to_revision, key, end, limit), kv.RollbackPlan, False)

    async def keep_history(self, *, revisions_max: int = 0, age_s_max: int = 0) -> int:
        """From now on keep so many revisions, and so many seconds, of history, whichever is less; 0: no limit.

        What is beyond is forgotten for good. The store's revision then.
        """
        return (await self._command(kv.KeepHistory(revisions_max, age_s_max), kv.CompactResult)).revision

    async def history(self, *, at_ns: int = 0) -> kv.HistoryResult:
        """How much history there is and is kept, the newest rollbacks, and which revision there was at a time."""
        return await self._query(kv.AskHistory(at_ns), kv.HistoryResult, False)

    async def _command(self, command: kv.Command, expected: type[T]) -> T:
        check_bytes(command)
        return _checked(await self.command(kv.encode(command)), expected)

    async def _query(self, query: kv.Query, expected: type[T], serializable: bool) -> T:
        check_bytes(query)
        return _checked(await self.query(kv.encode(query), serializable=serializable), expected)


def _fresh_key() -> Signer:
    from quorate.runtime.keys import Ed25519Signer, generate_secret  # who signs nothing need not load it

    return Ed25519Signer(None, generate_secret())


def _too_large(what: str, data: bytes) -> str:
    return f"the {what} has {len(data)} bytes; the limit is {COMMAND_BYTES_MAX}, and nothing was sent"


def _checked(data: bytes, expected: type[T]) -> T:
    try:
        result = kv.decode_result(data)
    except DECODE_ERRORS:
        raise Refused(NO_STORE) from None
    if isinstance(result, kv.Error):
        raise (TooLarge if result.code == RESOURCE_EXHAUSTED else Refused)(result.message)
    if not isinstance(result, expected):
        raise Refused(f"the node answered {type(result).__name__} where {expected.__name__} was asked for")
    return result
