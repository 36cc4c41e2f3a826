"""The asynchronous client: finds the leader, retries safely, pipelines.

How it works. Every request stands in a table until it is answered. One task keeps a link to one node, the leader
wherever it is known, and sends the whole table again on each new link: commands carry their session and serial, so a
second sending changes nothing. A sweep a few times a second ends what is past its deadline, and moves to another node
when answers stay out. Thus nothing is waited for in more than one place.

Where the greeting of the nodes says that some may lie (``mode.py``), all calls go to ``voting.py`` instead, and what
waited in the table is asked again there.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

from quorate.parts.crypto.keys import Signer
from quorate.parts.log import configuration
from quorate.parts.log.configuration import Newcomer, Voters
from quorate.runtime.handshake import Bears
from quorate.service.client.endpoints import DEFAULT_ENDPOINTS, Endpoints
from quorate.service.client.errors import NoQuorum, OutcomeUnknown, QuorateError, Refused, TooLarge, Unreachable
from quorate.service.client.link import Link, dial
from quorate.service.client.membership import (
    POLL_S,
    Statuses,
    believed,
    furthest,
    here,
    is_over,
    missing,
    text_of,
    why_not_caught_up,
)
from quorate.service.client.mode import Greetings, believed_from, faults_of
from quorate.service.client.session import ClientSession
from quorate.service.client.voting import SessionExpired, Voting
from quorate.service.kv import commands as kv
from quorate.service.requests import (
    COMMAND_BYTES_MAX,
    DECODE_ERRORS,
    AskStatus,
    Code,
    Command,
    Failure,
    Query,
    Reconfigure,
    Result,
    Status,
    decode_response,
    encode,
)

SWEEP_S = 0.05
DIAL_TIMEOUT_S = 2.0
PATIENCE_S = 1.0
"""How long an answer may stay out before another node is tried."""
SHORT_LINK_S = 1.0
SHORT_LINKS_FREE = 3
"""Links that end sooner may follow each other at once so often (to find the leader); then the client slows down."""
PIPELINE_MAX = 2048
"""Requests under way at once; more wait for their turn."""

T = TypeVar("T")


class _NodesMayLie(Exception):
    """What waited was not answered and never will be: it is to be asked of all nodes."""


def _new_session() -> ClientSession:
    return ClientSession(random.SystemRandom().getrandbits(60))


class _Waiting:
    """One request on its way."""

    __slots__ = ("answer", "deadline", "may_happen", "payload", "resend_at", "sent", "why")

    def __init__(self, payload: bytes, answer: asyncio.Future[bytes], deadline: float) -> None:
        self.payload = payload
        self.answer = answer
        self.deadline = deadline
        self.resend_at = 0.0
        self.sent = False
        """On its way, and not refused."""
        self.may_happen = False
        """An earlier sending was not answered, so it may have been taken in."""
        self.why: Failure | None = None
        """The newest reason why there is no answer yet."""


class Connection:
    """The part of a client that knows no state machine: commands and queries are bytes.

    ``timeout_s`` bounds each call. ``faults``: how many of these nodes may lie; None: as ``mode.py`` finds out. ``key``
    signs where nodes may lie; None: a fresh one. Use as an asynchronous context manager. One event loop owns it.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str] = DEFAULT_ENDPOINTS,
        *,
        timeout_s: float = 5.0,
        faults: int | None = None,
        key: Signer | None = None,
    ) -> None:
        """Raises ValueError for endpoints that are none, or too few for so many faults."""
        self.endpoints = Endpoints(endpoints)
        self._faults = faults
        self._key = key
        self._believed_from = believed_from(self.endpoints.addresses, faults)
        self._voting: Voting | None = None
        self._refused: Refused | None = None
        self.timeout_s = timeout_s
        self._session = _new_session()
        self._opening: asyncio.Future[None] | None = None
        self._waiting: dict[int, _Waiting] = {}
        self._next_id = 0
        self._link: Link | None = None
        self._linked_at = 0.0
        self._unreachable = ""
        self._room = asyncio.Semaphore(PIPELINE_MAX)
        self._tasks: list[asyncio.Task[None]] = []
        self._is_running = False

    async def __aenter__(self) -> Self:
        self._is_running = True
        self._loop = asyncio.get_running_loop()
        self._moved = asyncio.Event()
        self._has_mode = asyncio.Event()
        self._tasks = [self._loop.create_task(self._keep_link()), self._loop.create_task(self._sweep())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the session and the link. Calls still under way raise, and so do later ones."""
        self._is_running = False
        if self._link is not None and self._session.id is not None:
            # A courtesy: a session that is not closed expires.
            self._link.send(encode(Command(self._take_id(), self._session.closing())))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._voting is not None:
            await self._voting.close()
        if self._link is not None:
            self._link.close("the client closes")
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(OutcomeUnknown("the client was closed before an answer came"))

    # --- calls ---

    async def command(self, operation: bytes) -> bytes:
        """Have an operation applied exactly once; the state machine's result.

        Raises Unreachable, NoQuorum, OutcomeUnknown, TooLarge, Refused.
        """
        if len(operation) > COMMAND_BYTES_MAX:
            raise TooLarge(f"the command has {len(operation)} bytes; the limit is {COMMAND_BYTES_MAX}")
        deadline = time.monotonic() + self.timeout_s
        async with self._room:
            self._check_running(deadline)
            if self._voting is None:
                try:
                    return await self._ask_leader(operation, deadline)
                except _NodesMayLie:
                    self._check_running(deadline)
            assert self._voting is not None
            return await self._voting.command(operation, deadline)

    async def _ask_leader(self, operation: bytes, deadline: float) -> bytes:
        if self._session.id is None:
            await self._open_session(deadline)
            self._check_running(deadline)
        session = self._session
        # A serial is taken only now: one that waited for room would hold back what the replicas may forget.
        serial, entry = session.command(operation)
        try:
            request = self._take_id()
            return await self._begin(request, encode(Command(request, entry)), deadline)
        except SessionExpired:
            if self._session is session:
                self._session = _new_session()
            raise
        finally:
            session.answered(serial)

    async def query(self, query: bytes, *, serializable: bool = False) -> bytes:
        """Read: linearizable, or ``serializable`` from whichever node is connected, however old its state.

        Where nodes may lie, ``serializable`` is what some honest node has.

        Raises Unreachable, NoQuorum, TooLarge, Refused.
        """
        if len(query) > COMMAND_BYTES_MAX:
            raise TooLarge(f"the query has {len(query)} bytes; the limit is {COMMAND_BYTES_MAX}")
        deadline = time.monotonic() + self.timeout_s
        async with self._room:
            self._check_running(deadline)
            if self._voting is None:
                request = self._take_id()
                try:
                    return await self._begin(request, encode(Query(request, query, serializable)), deadline)
                except OutcomeUnknown as error:
                    raise NoQuorum(f"no answer to a read: {error}") from None
                except _NodesMayLie:
                    self._check_running(deadline)
            assert self._voting is not None
            return await self._voting.query(query, serializable, deadline)

    async def members(self) -> Voters:
        """Who votes, and who will where a change is under way: the newest that enough nodes say.

        Raises Unreachable, NoQuorum, Refused.
        """
        return (await self._voters(time.monotonic() + self.timeout_s))[0]

    async def set_members(self, members: Sequence[int]) -> Voters:
        """Have these nodes vote and no others; returns when they do. To ask for what is so already changes nothing.

        Where nodes may lie, ``key`` of this client is an administrator's. Raises ValueError for no members or too many;
        Refused where the nodes do not take that change, or others changed the members meanwhile; Unreachable, NoQuorum;
        OutcomeUnknown where it may still take effect.
        """
        wanted = tuple(sorted(set(members)))
        configuration.encode(wanted)
        deadline = time.monotonic() + self.timeout_s
        before, _ = await self._voters(deadline)
        if before.members == wanted and not before.next_members:
            return before
        return await self._change(wanted, before, (), (), deadline)

    async def add_node(self, node: int, peer: str, client: str, key: bytes = b"") -> Voters:
        """Have a node join: introduce it, wait until it has caught up, and have it vote. Returns when it does.

        ``peer`` is where the other nodes reach it, ``client`` where clients do, ``key`` its public key where nodes
        sign. It is to be running. What is so already changes nothing, so it may be asked for again. Raises as
        ``set_members``, and OutcomeUnknown where the node follows and has not caught up in time.
        """
        newcomer = Newcomer(node, peer, key)
        deadline = time.monotonic() + self.timeout_s
        before, statuses = await self._voters(deadline)
        if node not in here(statuses, before, self._liars):
            await self._change(before.members, before, (newcomer,), (), deadline)
            before, statuses = await self._voters(deadline)
            if node not in here(statuses, before, self._liars):
                raise Refused("others have changed the members meanwhile: look again")
        await self._until_caught_up(node, client, deadline)
        return await self.set_members([*before.members, node])

    async def remove_nodes(self, nodes: Sequence[int]) -> Voters:
        """Have nodes leave the cluster for good; returns when it goes on without them, and they may be switched off.

        Their numbers are not used again. Raises as ``set_members``.
        """
        deadline = time.monotonic() + self.timeout_s
        before, statuses = await self._voters(deadline)
        leavers = tuple(sorted(set(nodes) & here(statuses, before, self._liars)))
        rest = tuple(node for node in before.members if node not in nodes)
        if not leavers and rest == before.members:
            return before
        return await self._change(rest, before, (), leavers, deadline)

    @property
    def _liars(self) -> int:
        """How many of the answers may be lies."""
        return 0 if self._voting is None else self._voting.faults

    async def _change(
        self,
        wanted: tuple[int, ...],
        before: Voters,
        newcomers: Sequence[Newcomer],
        leavers: Sequence[int],
        deadline: float,
    ) -> Voters:
        change = configuration.encode(wanted, before.epoch, newcomers, leavers)
        refused: Refused | None = None
        try:
            await self._reconfigure(change, deadline)
        except Refused as error:
            refused = error  # unless an earlier sending was taken in, and this is what became of a later one
        since = before.epoch + 1 if newcomers or leavers else 0
        return await self._until_members(wanted, before, refused, deadline, since)

    async def _until_caught_up(self, node: int, client: str, deadline: float) -> None:
        """Until it knows what the others knew when this began."""
        voters, statuses = await self._voters(deadline)
        index = furthest(statuses, voters, self._liars)
        while (why := why_not_caught_up(await self._status_of(client), node, voters, index)) is not None:
            if time.monotonic() >= deadline:
                text = f"node {node} is in the cluster and follows, and does not vote"
                raise OutcomeUnknown(f"{text}: not caught up within {self.timeout_s:g} s ({why}); ask again")
            await asyncio.sleep(POLL_S)
            with suppress(QuorateError):  # that time is up is said above
                voters, _ = await self._voters(deadline)

    async def _reconfigure(self, change: bytes, deadline: float) -> None:
        if self._voting is not None:
            if self._key is None:
                how = "Client(key=...), or quorate members set --key FILE"
                raise Refused(f"where nodes may lie, an administrator signs a change of members: {how}")
            await self._voting.reconfigure(change, deadline)
        else:
            request = self._take_id()
            await self._begin(request, encode(Reconfigure(request, change)), deadline)

    async def _until_members(
        self, wanted: tuple[int, ...], before: Voters, refused: Refused | None, deadline: float, since: int = 0
    ) -> Voters:
        """Until they are the members; in an epoch from ``since`` on, where they may be the same as before."""
        while True:
            try:
                now, statuses = await self._voters(deadline)
            except QuorateError as error:
                raise OutcomeUnknown(f"the change may be decided, and {error}") from None
            is_taken = now.epoch >= since or bool(now.next_members)
            if wanted not in (now.members, now.next_members) or not is_taken:
                if refused is not None:
                    raise refused
                if now.epoch != before.epoch:
                    raise Refused(f"others have changed the members meanwhile, to {text_of(now.members)}: look again")
            is_byzantine = self._voting is not None
            if now.members == wanted and now.epoch >= since and is_over(statuses, wanted, is_byzantine, since):
                return now
            if time.monotonic() >= deadline:
                why = missing(statuses, wanted, is_byzantine, since)
                raise OutcomeUnknown(f"not in effect within {self.timeout_s:g} s, but it may be decided: {why}")
            await asyncio.sleep(POLL_S)

    async def _voters(self, deadline: float) -> tuple[Voters, Statuses]:
        """Who votes, and what each node said."""
        self._check_running(deadline)
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._has_mode.wait()
        if not self._has_mode.is_set():
            raise Unreachable(f"no node answered within {self.timeout_s:g} s: {self._unreachable}")
        if self._refused is not None:
            raise self._refused
        faults = self._liars
        while True:
            statuses = await self.statuses()
            if (voters := believed(statuses, faults)) is not None:
                return voters, statuses
            if time.monotonic() >= deadline:
                reached = sum(isinstance(status, Status) for _, status in statuses)
                raise NoQuorum(f"{reached} nodes answered, and no {faults + 1} say the same of who votes")
            await asyncio.sleep(POLL_S)

    async def statuses(self) -> list[tuple[str, Status | QuorateError]]:
        """Each endpoint with what it says of itself, or why it says nothing."""
        found = await asyncio.gather(*(self._status_of(address) for address in self.endpoints.addresses))
        return list(zip(self.endpoints.addresses, found, strict=True))

    async def _status_of(self, address: str) -> Status | QuorateError:
        answer: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()

        def on_reply(frames: list[bytes]) -> None:
            if not answer.done():
                answer.set_result(frames)

        try:
            link, _ = await dial(address, on_reply, min(self.timeout_s, DIAL_TIMEOUT_S))
        except Unreachable as error:
            return error
        try:
            link.send(encode(AskStatus(0)))
            async with asyncio.timeout(min(self.timeout_s, DIAL_TIMEOUT_S)):
                frames = await answer
            status = decode_response(frames[0])
            return status if isinstance(status, Status) else Refused(f"{address} answered no status")
        except TimeoutError:
            return Unreachable(f"{address} accepts connections but gives no answer")
        except DECODE_ERRORS as error:
            return Refused(f"{address} sent what is no status: {error}")
        finally:
            link.close("done")

    # --- the table ---

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _check_running(self, deadline: float) -> None:
        """Nothing was sent yet; raise if nothing should be. Whoever waits for room has no other clock than this."""
        if not self._is_running:
            raise Unreachable("this client is closed, or was never opened: use it in `async with`")
        if self._refused is not None:
            raise self._refused
        if time.monotonic() >= deadline:
            reason = self._unreachable or f"{PIPELINE_MAX} other calls are under way"
            raise Unreachable(f"not sent within {self.timeout_s:g} s: {reason}")

    def _begin(self, request: int, payload: bytes, deadline: float) -> asyncio.Future[bytes]:
        """Put a request into the table, where it stays until it is answered or nobody waits any more."""
        waiting = self._waiting[request] = _Waiting(payload, self._loop.create_future(), deadline)
        if self._link is not None:
            self._send(waiting, self._link, time.monotonic())
        return waiting.answer

    def _send(self, waiting: _Waiting, link: Link, now: float) -> None:
        if link.send(waiting.payload):
            waiting.may_happen = waiting.may_happen or waiting.sent
            waiting.sent = True
            waiting.why = None
            waiting.resend_at = now + PATIENCE_S

    async def _open_session(self, deadline: float) -> None:
        """Once, whoever comes first; the others wait for the same."""
        if self._opening is None or (self._opening.done() and self._session.id is None):
            self._opening = asyncio.ensure_future(self._do_open_session(deadline))
            self._opening.add_done_callback(_retrieve)
        await asyncio.shield(self._opening)

    async def _do_open_session(self, deadline: float) -> None:
        request = self._take_id()
        session = self._session
        try:
            session.opened(await self._begin(request, encode(Command(request, session.opening())), deadline))
        except ValueError:
            raise Refused("the node's answer is the id of no session; check that it is a Quorate node") from None
        except OutcomeUnknown as error:
            # A session that nobody uses is nothing that happened.
            raise NoQuorum(f"no session could be opened: {error}") from None

    def _on_reply(self, frames: list[bytes]) -> None:
        for frame in frames:
            try:
                reply = decode_response(frame)
            except DECODE_ERRORS as error:
                if self._link is not None:
                    self._link.cut(f"sent what is no reply: {error}")
                return
            if type(reply) is Status:
                if self.endpoints.prefer(reply.leader):
                    self._moved.set()
                continue
            waiting = self._waiting.get(reply.id)
            if waiting is None or waiting.answer.done():
                continue
            if type(reply) is Result:
                waiting.answer.set_result(reply.data)
                del self._waiting[reply.id]
            elif type(reply) is Failure:
                self._on_failure(waiting, reply)

    def _on_failure(self, waiting: _Waiting, failure: Failure) -> None:
        code = failure.code
        if code is Code.TOO_LARGE:
            waiting.answer.set_exception(TooLarge(failure.why))
        elif code is Code.MALFORMED:
            waiting.answer.set_exception(Refused(failure.why))
        elif code is Code.NO_SESSION:
            text = f"{failure.why}: whether the command took effect is unknown; the next call opens a new session"
            waiting.answer.set_exception(SessionExpired(text))
        else:
            # Later, and perhaps elsewhere.
            waiting.why = failure
            waiting.sent = False
            waiting.may_happen = waiting.may_happen or code is Code.LEADER_CHANGED
            waiting.resend_at = time.monotonic() + SWEEP_S
            if self.endpoints.prefer(failure.leader):
                self._moved.set()
            elif code is Code.STORAGE or self._is_leaderless(failure):
                self.endpoints.next()
                self._moved.set()

    def _is_leaderless(self, failure: Failure) -> bool:
        """Whether the node has known no leader for so long that others may: it may be cut off from them."""
        return failure.leader is None and time.monotonic() - self._linked_at > PATIENCE_S

    # --- the link ---

    async def _keep_link(self) -> None:
        """Hold a link to the current endpoint for as long as the client lives, unless its nodes may lie."""
        if self._believed_from > 1 and await self._may_lie():
            return
        delay_s = SWEEP_S
        short_links = 0
        while True:
            if short_links > SHORT_LINKS_FREE:
                await asyncio.sleep(min(SWEEP_S * 2 ** (short_links - SHORT_LINKS_FREE - 1), 1.0))
            try:
                link, node = await dial(self.endpoints.current, self._on_reply, min(self.timeout_s, DIAL_TIMEOUT_S))
            except Unreachable as error:
                self._unreachable = str(error)
                self.endpoints.failed()
                await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
                delay_s = min(2 * delay_s, 1.0)
                continue
            if link.bears is not None:
                link.close("turns to all nodes")
                self._vote(link.bears)
                return
            delay_s = SWEEP_S
            self.endpoints.found(node)
            self._moved.clear()
            self._has_mode.set()
            self._link = link
            self._linked_at = time.monotonic()
            link.send(encode(AskStatus(0)))  # who leads? The answer may make us turn to another node.
            now = time.monotonic()
            for waiting in self._waiting.values():
                if not waiting.answer.done():
                    self._send(waiting, link, now)
            moved = self._loop.create_task(self._moved.wait())
            try:
                await asyncio.wait((moved, link.lost), return_when=asyncio.FIRST_COMPLETED)
            finally:
                moved.cancel()
            self._link = None
            short_links = short_links + 1 if time.monotonic() - self._linked_at < SHORT_LINK_S else 0
            if link.lost.done():
                self._unreachable = f"{self.endpoints.current}: {link.why}"
                self.endpoints.next()
            link.close("turns to another node")

    async def _may_lie(self) -> bool:
        """Ask so many nodes that one of them is honest; whether they may lie."""
        greetings = Greetings(self.endpoints.addresses, self._believed_from, min(self.timeout_s, DIAL_TIMEOUT_S))
        asking = self._loop.create_task(greetings.agreed())
        try:
            while not asking.done():
                await asyncio.wait((asking,), timeout=SWEEP_S)
                self._unreachable = greetings.why
        finally:
            asking.cancel()
        bears = asking.result()
        if bears is None and not self._faults:
            return False
        self._vote(bears)
        return True

    def _vote(self, bears: Bears | None) -> None:
        """Nodes may lie: ask them all from now on. What waits was not signed, so it has no effect."""
        addresses = self.endpoints.addresses
        error: Exception = _NodesMayLie()
        try:
            faults = faults_of(bears, self._faults, addresses)
            assert bears is not None
            self._voting = Voting(addresses, bears, faults, self._key or _fresh_key(), self.timeout_s)
        except Refused as refused:
            error = self._refused = refused
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(error)
        self._waiting.clear()
        self._has_mode.set()

    async def _sweep(self) -> None:
        """End what is overdue, send again what should be, leave a node that does not answer."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            is_silent = False
            for request, waiting in list(self._waiting.items()):
                if waiting.answer.done():
                    del self._waiting[request]
                elif now >= waiting.deadline:
                    # It leaves the table at once: on a link that comes up now it would be sent after all.
                    waiting.answer.set_exception(self._overdue(waiting))
                    del self._waiting[request]
                elif self._link is not None and now >= waiting.resend_at:
                    is_silent = is_silent or waiting.sent
                    self._send(waiting, self._link, now)
            if is_silent and not self._moved.is_set():
                self.endpoints.next()
                self._moved.set()

    def _overdue(self, waiting: _Waiting) -> QuorateError:
        reason = waiting.why.why if waiting.why is not None else self._unreachable or "no answer"
        if waiting.sent or waiting.may_happen:
            return OutcomeUnknown(f"no answer within {self.timeout_s:g} s ({reason}); it may still take effect")
        if waiting.why is not None:
            return NoQuorum(f"not possible within {self.timeout_s:g} s: {reason}")
        return Unreachable(f"no node answered within {self.timeout_s:g} s: {reason}")


class Client(Connection):
    """A client of the key-value store. Keys and values are bytes."""

    async def put(self, key: bytes, value: bytes, *, lease: int = 0) -> int:
        """Set a key; the store's revision after it."""
        result = await self._command(kv.Put(key, value, lease), kv.PutResult)
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

    async def delete(self, key: bytes, range_end: bytes = b"") -> int:
        """Delete a key or a range; how many there were."""
        return (await self._command(kv.DeleteRange(key, range_end), kv.DeleteRangeResult)).deleted

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

    async def _command(self, command: kv.Command, expected: type[T]) -> T:
        return _checked(await self.command(kv.encode(command)), expected)

    async def _query(self, query: kv.Query, expected: type[T], serializable: bool) -> T:
        return _checked(await self.query(kv.encode(query), serializable=serializable), expected)


def _fresh_key() -> Signer:
    from quorate.runtime.keys import Ed25519Signer, generate_secret  # who signs nothing need not load it

    return Ed25519Signer(None, generate_secret())


def _retrieve(opening: asyncio.Future[None]) -> None:
    """Whoever waited for it may have given up: then nobody asks for the reason."""
    if not opening.cancelled():
        opening.exception()


def _checked(data: bytes, expected: type[T]) -> T:
    try:
        result = kv.decode_result(data)
    except DECODE_ERRORS as error:
        raise Refused(f"the node answered what is no result: {error}") from None
    if isinstance(result, kv.Error):
        raise Refused(result.message)
    if not isinstance(result, expected):
        raise Refused(f"the node answered {type(result).__name__} where {expected.__name__} was asked for")
    return result
