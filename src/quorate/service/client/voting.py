"""Voting: the part of a client that speaks to nodes of which some may lie.

How it works. It keeps a link to every node, sends each request to all, and believes what enough of them say
(``votes.py``). Commands that are issued in one turn of the event loop go into one request and share its signature,
which costs every node more than the commands do. A request is signed once; while answers stay out the same bytes are
sent again to whoever has not answered (Castro and Liskov 1999, §4.1), and the sessions see to it that they take effect
once. A read goes past the log first (§5.1.3). Where the nodes do not agree, or too few answer, it goes through the log.
How many must agree follows from how many nodes there are, which changes: each says so when it greets, and hangs up when
it is so no more. The answers that count for a read are those of nodes that know of no more than were counted on.

A voter is an address that was given, whatever node it says it is: give each node's once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from functools import partial

from quorate.parts import requests as signed
from quorate.parts.crypto.keys import Signer
from quorate.runtime.handshake import Bears
from quorate.service.client.errors import NoQuorum, OutcomeUnknown, QuorateError, Refused, TooLarge, Unreachable
from quorate.service.client.link import Link, dial
from quorate.service.client.session import ClientSession
from quorate.service.client.votes import Outcome, Votes, for_command, for_read, outcome_of
from quorate.service.requests import (
    DECODE_ERRORS,
    Code,
    Command,
    Failure,
    Inspect,
    Query,
    Reconfigure,
    Response,
    Result,
    Results,
    Status,
    decode_response,
    encode,
)

SWEEP_S = 0.05
DIAL_TIMEOUT_S = 2.0
REDIAL_S_MAX = 1.0
READ_PATIENCE_S = 0.5
"""How long a read past the log may take before one goes through it."""
RESEND_S = 1.0
RESEND_S_MAX = 8.0
"""When what is not answered is sent again: after so long at first, twice as long each time, and so long at most."""
BATCH_BYTES_MAX = 1 << 20
"""What shares a signature; a single command may be larger. With the rest of its frame it fits what a node takes."""


class SessionExpired(OutcomeUnknown):
    """The cluster does not know the session any more."""


class _Question:
    """What is asked of all nodes. ``answer`` becomes None where it was given up and may be asked in another way."""

    __slots__ = ("answer", "deadline", "is_last", "nodes_max", "votes")

    def __init__(self, votes: Votes, answer: asyncio.Future[Outcome | None], deadline: float, is_last: bool) -> None:
        self.votes = votes
        self.nodes_max: int | None = None
        """Of a read past the log: who knows of more nodes has no vote."""
        self.answer = answer
        self.deadline = deadline
        self.is_last = is_last
        """Whether there is no other way, so that its end is the end of the call."""


class _Request:
    """A frame for every node, and the questions in it."""

    __slots__ = ("payload", "questions", "resend_at", "resend_s", "was_sent")

    def __init__(self, payload: bytes, questions: Sequence[_Question], now: float) -> None:
        self.payload = payload
        self.questions = questions
        self.resend_s = RESEND_S
        self.resend_at = now + RESEND_S
        self.was_sent = False

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for an answer."""
        return all(question.answer.done() for question in self.questions)

    def wants(self, node: int) -> bool:
        """Whether the node has an answer to give yet."""
        return any(not (question.answer.done() or question.votes.has(node)) for question in self.questions)


class _Node:
    """One address and the link to it."""

    __slots__ = ("address", "link", "number", "why")

    def __init__(self, number: int, address: str) -> None:
        self.number = number
        self.address = address
        self.link: Link | None = None
        self.why = ""
        """Why there is no link, or what it last refused."""

    @property
    def bears(self) -> Bears | None:
        """What it said when it greeted; None where there is no link."""
        return None if self.link is None else self.link.bears


class Voting:
    """Make it on the event loop; ``close`` it there."""

    def __init__(self, addresses: Sequence[str], bears: Bears, faults: int, signer: Signer, timeout_s: float) -> None:
        self.bears = bears
        self.faults = faults
        self._signer = signer
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._nodes = [_Node(number, address) for number, address in enumerate(addresses)]
        self._session = _new_session()
        self._opening: asyncio.Task[None] | None = None
        self._requests: dict[int, _Request] = {}
        self._next_id = 0
        self._outbox: list[tuple[bytes, _Question]] = []
        self._tasks = [self._loop.create_task(self._keep_link(node)) for node in self._nodes]
        self._tasks.append(self._loop.create_task(self._sweep()))

    async def close(self) -> None:
        """End the session and the links. What is under way raises."""
        if self._session.id is not None:
            # A courtesy: a session that is not closed expires.
            self._send_all(self._as_request([self._session.closing()], []))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for node in self._nodes:
            if node.link is not None:
                node.link.close("the client closes")
        waiting = [question for request in self._requests.values() for question in request.questions]
        for question in (*waiting, *(question for _, question in self._outbox)):
            if not question.answer.done():
                question.answer.set_exception(OutcomeUnknown("the client was closed before an answer came"))

    # --- calls ---

    async def command(self, operation: bytes, deadline: float) -> bytes:
        """As ``aio.Connection.command``."""
        if self._session.id is None:
            await self._open_session(deadline)
        session = self._session
        serial, entry = session.command(operation)
        try:
            outcome = await self._in_log(entry, deadline)
        except SessionExpired:
            if self._session is session:
                self._session = _new_session()
            raise
        finally:
            session.answered(serial)
        return outcome

    async def query(self, query: bytes, serializable: bool, deadline: float) -> bytes:
        """As ``aio.Connection.query``. ``serializable``: what some honest node holds, however old."""
        found = (for_command(self.faults), None) if serializable else self._for_read()
        if found is not None and len(self._nodes) >= found[0]:
            patience = min(deadline, time.monotonic() + READ_PATIENCE_S)
            question = self._question(found[0], patience, is_last=False)
            question.nodes_max = found[1]
            self._next_id += 1
            self._begin(self._next_id, encode(Query(self._next_id, query, serializable)), [question])
            if (outcome := await question.answer) is not None:
                return _data_of(outcome, self._why())
        wait_s = RESEND_S
        while True:
            # No session keeps the answer of a read, so what is asked again is another request.
            patience = time.monotonic() + wait_s
            inspect = encode(Inspect(_nonce(), query))
            is_last = patience >= deadline
            try:
                outcome = await self._ask_in_log(inspect, min(patience, deadline), is_last)
            except OutcomeUnknown as error:
                raise NoQuorum(f"no answer to a read: {error}") from None
            if outcome is not None:
                return _data_of(outcome, self._why())
            wait_s = min(2 * wait_s, RESEND_S_MAX)

    def _for_read(self) -> tuple[int, int] | None:
        """How many equal answers it takes, and of how many nodes that is counted; None where so many cannot be had.

        A liar may speak of more nodes than there are, and then its vote is not needed; or of fewer, and then the honest
        ones that speak of as few do not know better, which is what is counted on.
        """
        said = [self.bears.nodes if (bears := node.bears) is None else bears.nodes for node in self._nodes]
        for nodes in sorted(set(said)):
            needed = for_read(nodes, self.bears.liars, self.faults)
            if sum(other <= nodes for other in said) >= needed:
                return needed, nodes
        return None

    async def reconfigure(self, change: bytes, deadline: float) -> None:
        """Have a change of members decided, under this client's key. Raises Refused, and as ``command``."""
        question = self._question(for_command(self.faults), deadline, is_last=True)
        self._next_id += 1
        request = Reconfigure(self._next_id, signed.sign(self._signer, [change]))
        self._begin(self._next_id, encode(request), [question])
        if isinstance(await question.answer, Code):
            whys = [node.why for node in self._nodes if node.link is not None and node.why]
            raise Refused(max(whys, key=whys.count, default="the nodes refuse this change of members"))

    async def _in_log(self, entry: bytes, deadline: float) -> bytes:
        outcome = await self._ask_in_log(entry, deadline, is_last=True)
        assert outcome is not None  # else it raised
        return _data_of(outcome, self._why())

    def _ask_in_log(self, entry: bytes, deadline: float, is_last: bool) -> asyncio.Future[Outcome | None]:
        """Put a command with those that are signed at the end of this turn of the loop."""
        question = self._question(for_command(self.faults), deadline, is_last)
        if not self._outbox:
            self._loop.call_soon(self._sign)
        self._outbox.append((entry, question))
        return question.answer

    def _question(self, needed: int, deadline: float, is_last: bool) -> _Question:
        return _Question(Votes(needed, len(self._nodes)), self._loop.create_future(), deadline, is_last)

    async def _open_session(self, deadline: float) -> None:
        """Once, whoever comes first; the others wait for the same."""
        if self._opening is None or (self._opening.done() and self._session.id is None):
            self._opening = self._loop.create_task(self._do_open_session(deadline))
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._opening)

    async def _do_open_session(self, deadline: float) -> None:
        session = self._session
        try:
            session.opened(await self._in_log(session.opening(), deadline))
        except ValueError:
            raise Refused("the nodes' answer is the id of no session; check that they are Quorate nodes") from None
        except OutcomeUnknown as error:
            # A session that nobody uses is nothing that happened.
            raise NoQuorum(f"no session could be opened: {error}") from None

    # --- requests ---

    def _sign(self) -> None:
        """Requests of what waits in the outbox, each with as many commands as a signature may bear."""
        outbox, self._outbox = self._outbox, []
        entries: list[bytes] = []
        questions: list[_Question] = []
        size_bytes = 0
        for entry, question in outbox:
            if question.answer.done():
                continue  # its caller has gone
            if entries and (size_bytes + len(entry) > BATCH_BYTES_MAX or len(entries) >= signed.COMMANDS_MAX):
                self._send_all(self._as_request(entries, questions))
                entries, questions, size_bytes = [], [], 0
            entries.append(entry)
            questions.append(question)
            size_bytes += len(entry)
        if entries:
            self._send_all(self._as_request(entries, questions))

    def _as_request(self, entries: Sequence[bytes], questions: Sequence[_Question]) -> _Request:
        self._next_id += 1
        payload = encode(Command(self._next_id, signed.sign(self._signer, entries)))
        return self._put(self._next_id, payload, questions)

    def _begin(self, number: int, payload: bytes, questions: Sequence[_Question]) -> None:
        self._send_all(self._put(number, payload, questions))

    def _put(self, number: int, payload: bytes, questions: Sequence[_Question]) -> _Request:
        request = self._requests[number] = _Request(payload, questions, time.monotonic())
        return request

    def _send_all(self, request: _Request) -> None:
        for node in self._nodes:
            self._send(request, node)

    def _send(self, request: _Request, node: _Node) -> None:
        if node.link is None:
            return
        if node.link.send(request.payload):
            request.was_sent = True
        else:
            node.link.cut("takes nothing of what it is sent")

    # --- answers ---

    def _on_reply(self, node: _Node, frames: list[bytes]) -> None:
        for frame in frames:
            try:
                reply = decode_response(frame)
            except DECODE_ERRORS as error:
                if node.link is not None:
                    node.link.cut(f"sent what is no reply: {error}")
                return
            request = self._requests.get(reply.id)
            if request is not None:
                self._vote(node, request, reply)
                if request.is_over:
                    del self._requests[reply.id]

    def _vote(self, node: _Node, request: _Request, reply: Response) -> None:
        if isinstance(reply, Results):
            for answer in reply.answers:
                if answer.id < len(request.questions):
                    self._count(node, request.questions[answer.id], answer)
        elif not isinstance(reply, Status):
            for question in request.questions:
                self._count(node, question, reply)

    def _count(self, node: _Node, question: _Question, answer: Result | Failure) -> None:
        if isinstance(answer, Failure):
            node.why = answer.why
        if question.answer.done():
            return
        outcome = outcome_of(answer)
        if question.nodes_max is not None and node.bears is not None and node.bears.nodes > question.nodes_max:
            outcome = None
        if question.votes.add(node.number, outcome):
            question.answer.set_result(outcome)
        elif not question.is_last and question.votes.is_split:
            question.answer.set_result(None)

    # --- links and time ---

    async def _keep_link(self, node: _Node) -> None:
        """Hold a link to one node for as long as the client lives."""
        delay_s = SWEEP_S
        while True:
            try:
                timeout_s = min(self._timeout_s, DIAL_TIMEOUT_S)
                node.link, _ = await dial(node.address, partial(self._on_reply, node), timeout_s)
            except Unreachable as error:
                node.why = str(error)
                await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
                delay_s = min(2 * delay_s, REDIAL_S_MAX)
                continue
            began = time.monotonic()
            link = node.link
            for request in [request for request in self._requests.values() if request.wants(node.number)]:
                self._send(request, node)
            await asyncio.shield(link.lost)
            node.link = None
            node.why = f"{node.address}: {link.why}"
            # Nodes that hang up at once are not to be called without end.
            delay_s = SWEEP_S if time.monotonic() - began > REDIAL_S_MAX else min(2 * delay_s, REDIAL_S_MAX)
            await asyncio.sleep(delay_s)

    async def _sweep(self) -> None:
        """End what is overdue, send again what should be."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            for number, request in list(self._requests.items()):
                for question in request.questions:
                    if now >= question.deadline and not question.answer.done():
                        self._give_up(question, request.was_sent)
                if request.is_over:
                    del self._requests[number]
                elif now >= request.resend_at:
                    request.resend_s = min(2 * request.resend_s, RESEND_S_MAX)
                    request.resend_at = now + request.resend_s
                    for node in self._nodes:
                        if request.wants(node.number):
                            self._send(request, node)

    def _give_up(self, question: _Question, was_sent: bool) -> None:
        if not question.is_last:
            question.answer.set_result(None)
        elif was_sent:
            # Whatever single nodes said: one that lies may have it, and bring it up later.
            text = f"fewer than {question.votes.needed} nodes gave the same answer within {self._timeout_s:g} s"
            question.answer.set_exception(OutcomeUnknown(f"{text} ({self._why()}); it may still take effect"))
        else:
            question.answer.set_exception(Unreachable(f"no node answered within {self._timeout_s:g} s: {self._why()}"))

    def _why(self) -> str:
        reached = sum(node.link is not None for node in self._nodes)
        whys = [node.why for node in self._nodes if node.why]
        return f"{reached} of {len(self._nodes)} nodes are reached" + (f"; {whys[-1]}" if whys else "")


def _nonce() -> int:
    return random.SystemRandom().getrandbits(60)


def _new_session() -> ClientSession:
    return ClientSession(_nonce())


def _data_of(outcome: Outcome, why: str) -> bytes:
    """The result that was voted for. Raises what an error that was voted for means."""
    if isinstance(outcome, bytes):
        return outcome
    raise _error_of(outcome, why)


def _error_of(code: Code, why: str) -> QuorateError:
    if code is Code.TOO_LARGE:
        return TooLarge(f"the answer does not fit a frame; ask for less at once ({why})")
    if code is Code.MALFORMED:
        return Refused(f"the nodes do not understand the request ({why})")
    return SessionExpired(
        "the session has expired: whether the command took effect is unknown; the next call opens a new session"
    )
