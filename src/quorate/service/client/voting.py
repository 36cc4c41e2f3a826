"""Voting: the part of a client that speaks to nodes of which some may lie. Pure.

How it works. It keeps a link to every node, sends each request to all, and believes what enough of them say
(``votes.py``). Commands that are issued together go into one request and share its signature, which costs every node
more than the commands do. A request is signed once; while answers stay out the same bytes are sent again to whoever has
not answered (Castro and Liskov 1999, §4.1), and the sessions see to it that they take effect once. A read goes past the
log first (§5.1.3). If the nodes do not agree, or too few answer in time, it goes through the log as well, and the first
result counts: nodes that stand still may answer late what was asked first, and what goes through the log not at all.
How many must agree follows from how many nodes there are, which changes: each reports it when it greets, and hangs up
when it is no longer so. The answers that count for a read are those of nodes that know of no more than were counted on.

A voter is an address that was given, whatever node it says it is: give each node's once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from quorate.kernel import Rng
from quorate.parts import requests as signed
from quorate.parts.crypto.keys import Signer
from quorate.runtime.handshake import Bears, Greeted
from quorate.service.client.call import CHANGE, LOCAL, QUERY, READS, ClientCall
from quorate.service.client.errors import QuorateError, Refused, SessionExpired, TooLarge
from quorate.service.client.outputs import Finish, Outputs, Sendable, Silence
from quorate.service.client.pace import Pace
from quorate.service.client.votes import Outcome, Votes, for_read, outcome_of
from quorate.service.requests import (
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
    encode,
)

BATCH_BYTES_MAX = 1 << 20
"""What shares a signature; a single command may be larger. With the rest of its frame it fits what a node takes."""


class _Question:
    """One way to ask for what a call wants. It is over when the call is, or when the nodes do not agree."""

    __slots__ = ("again_s", "call", "entry", "is_late", "is_over", "nodes_max", "until", "votes")

    def __init__(self, call: ClientCall, entry: bytes, votes: Votes) -> None:
        self.call = call
        self.entry = entry
        """What goes into the log."""
        self.votes = votes
        self.nodes_max: int | None = None
        """Of a read past the log: who knows of more nodes has no vote."""
        self.until = inf
        """When to ask in another way."""
        self.again_s = 0.0
        """How long a read in the log may take before it is asked for again; 0: past the log."""
        self.is_late = False
        """Asked in another way since, only because it took long: not sent again, and answers count when they come."""
        self.is_over = False

    def wants(self, node: int) -> bool:
        """Whether the node has an answer to give yet."""
        return not (self.is_late or self.is_over or self.call.is_over or self.votes.has(node))


class _Request:
    """A frame for every node, and the questions in it."""

    __slots__ = ("payload", "questions", "resend_at", "resend_s", "was_sent")

    def __init__(self, payload: bytes, questions: Sequence[_Question], resend_s: float, now: float) -> None:
        self.payload = payload
        self.questions = questions
        self.resend_s = resend_s
        self.resend_at = now + resend_s
        self.was_sent = False

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for an answer."""
        return all(question.is_over or question.call.is_over for question in self.questions)

    def wants(self, node: int) -> bool:
        """Whether the node has an answer to give yet."""
        return any(question.wants(node) for question in self.questions)


class _Node:
    """One address and the link to it."""

    __slots__ = ("address", "bears", "delay_s", "dial_at", "is_dialling", "is_open", "number", "opened_at", "why")

    def __init__(self, number: int, address: str, delay_s: float) -> None:
        self.number = number
        self.address = address
        self.delay_s = delay_s
        self.dial_at = inf
        self.is_dialling = False
        self.is_open = False
        self.opened_at = 0.0
        self.bears: Bears | None = None
        """What it said when it greeted; None if there is no link."""
        self.why = ""
        """Why there is no link, or what it last refused."""


class Voting:
    """``needed`` equal answers make a result. ``finish`` takes the end of a call, ``expire`` one whose time is up."""

    def __init__(
        self,
        addresses: Sequence[str],
        cluster: str,
        bears: Bears,
        faults: int,
        needed: int,
        signer: Signer,
        pace: Pace,
        rng: Rng,
        asker: int,
        out: Outputs,
        finish: Finish,
        expire: Callable[[ClientCall], None],
    ) -> None:
        self.bears = bears
        self.faults = faults
        self._needed = needed
        self.cluster = cluster
        self._signer = signer.within(cluster)
        self._pace = pace
        self._rng = rng
        self._asker = asker
        self._out = out
        self._finish = finish
        self._expire = expire
        self.nodes = [_Node(number, address, pace.sweep_s) for number, address in enumerate(addresses)]
        self.requests: dict[int, _Request] = {}
        self.unsigned: list[_Question] = []
        """What the next ``sign`` takes."""

    # --- calls ---

    def ask(self, call: ClientCall) -> None:
        """Of all nodes; a command and what is to go through the log with the next ``sign``."""
        self._out.wake(call.deadline)
        if call.kind in READS:
            self._ask_past_log(call)
        elif call.kind == CHANGE:
            question = self._question(call, call.entry)
            number = self._out.request_id()
            entry = signed.sign(self._signer, [call.entry])
            self._put(number, encode(Reconfigure(number, entry, call.remaining_ms(self._out.now))), [question])
        else:
            self.unsigned.append(self._question(call, call.entry))

    def forget(self, call: ClientCall) -> None:
        """Nobody waits for it any more: its request goes with the next tick, if no other is in it."""
        self._out.wake(self._out.now)

    def farewell(self, entry: bytes) -> None:
        """A last command, for whose answer nobody waits."""
        self._sign([entry], [])

    def silence(self, call: ClientCall) -> Silence:
        """What is known of a call that has no answer. What was sent to one node, one that lies may bring up later."""
        if not call.sent:
            return False, False, self._why()
        return True, False, f"fewer nodes than it takes gave the same answer; {self._why()}"

    def _ask_past_log(self, call: ClientCall) -> None:
        found = (self._needed, None) if call.kind == LOCAL else self._for_read()
        if found is None or len(self.nodes) < found[0]:
            self._ask_in_log(call, self._pace.resend_s)
            return
        question = _Question(call, b"", Votes(found[0], len(self.nodes)))
        question.nodes_max = found[1]
        if call.kind == QUERY or found[0] > 1:  # else there is nothing to agree on
            question.until = self._out.now + self._pace.read_patience_s
            self._out.wake(question.until)
        number = self._out.request_id()
        query = Query(number, call.body, call.kind == LOCAL, call.remaining_ms(self._out.now), self._asker)
        self._put(number, encode(query), [question])

    def _ask_in_log(self, call: ClientCall, again_s: float) -> None:
        """No session keeps the answer of a read, so what is asked again is another request."""
        nonce = self._rng.getrandbits(60)
        call.id = call.id or nonce
        question = self._question(call, encode(Inspect(nonce, call.body, call.id)))
        question.again_s = again_s
        question.until = self._out.now + again_s
        self._out.wake(question.until)
        self.unsigned.append(question)

    def _question(self, call: ClientCall, entry: bytes) -> _Question:
        return _Question(call, entry, Votes(self._needed, len(self.nodes)))

    def _for_read(self) -> tuple[int, int] | None:
        """How many equal answers it takes, and of how many nodes that is counted; None where so many cannot be had.

        A liar may speak of more nodes than there are, and then its vote is not needed; or of fewer, and then the honest
        ones that speak of as few do not know better, which is what is counted on.
        """
        said = [self.bears.nodes if node.bears is None else node.bears.nodes for node in self.nodes]
        for nodes in sorted(set(said)):
            if nodes <= 3 * self.bears.liars:
                continue  # so few tolerate fewer liars: no honest node says that
            needed = for_read(nodes, self.bears.liars, self.faults)
            if sum(other <= nodes for other in said) >= needed:
                return needed, nodes
        return None

    # --- requests ---

    def sign(self) -> None:
        """Send what waits for it, in requests of as many commands as a signature may bear."""
        unsigned, self.unsigned = self.unsigned, []
        entries: list[bytes] = []
        questions: list[_Question] = []
        size_bytes = 0
        for question in unsigned:
            if question.call.is_over:
                continue  # its caller has gone
            size = len(question.entry)
            if entries and (size_bytes + size > BATCH_BYTES_MAX or len(entries) >= signed.COMMANDS_MAX):
                self._sign(entries, questions)
                entries, questions, size_bytes = [], [], 0
            entries.append(question.entry)
            questions.append(question)
            size_bytes += size
        if entries:
            self._sign(entries, questions)

    def _sign(self, entries: Sequence[bytes], questions: Sequence[_Question]) -> None:
        number = self._out.request_id()
        # What is sent again says the same: then a node waits longer than it need.
        now = self._out.now
        remaining_ms = [question.call.remaining_ms(now) for question in questions]
        longest_ms = max(remaining_ms) if remaining_ms and 0 not in remaining_ms else 0
        self._put(number, encode(Command(number, signed.sign(self._signer, entries), longest_ms)), questions)

    def _put(self, number: int, payload: bytes, questions: Sequence[_Question]) -> None:
        request = _Request(payload, questions, self._pace.resend_s, self._out.now)
        if questions:
            self.requests[number] = request
            self._out.wake(request.resend_at)
        for node in self.nodes:
            self._send(request, node)

    def _send(self, request: _Request, node: _Node) -> None:
        if not node.is_open:
            return
        self._out.sends.append((node.number, request))
        if not request.was_sent:
            request.was_sent = True
            for question in request.questions:
                question.call.sent = True

    def not_sent(self, at: int, _: Sendable) -> None:
        """A link that takes no more is given up."""
        node = self.nodes[at]
        if node.is_open:
            why = "takes nothing of what it is sent"
            self._out.hangups.append((at, why, True))
            self.lost(at, why)

    # --- answers ---

    def received(self, at: int, responses: Sequence[Response]) -> None:
        """Responses of the node at an address."""
        node = self.nodes[at]
        if not node.is_open:
            return
        for response in responses:
            number = response.id
            request = self.requests.get(number)
            if request is not None:
                self._vote(node, request, response)
                if request.is_over:
                    del self.requests[number]

    def _vote(self, node: _Node, request: _Request, response: Response) -> None:
        if isinstance(response, Results):
            for answer in response.answers:
                if answer.id < len(request.questions):
                    self._count(node, request.questions[answer.id], answer)
        elif not isinstance(response, Status):
            for question in request.questions:
                self._count(node, question, response)

    def _count(self, node: _Node, question: _Question, answer: Result | Failure) -> None:
        if isinstance(answer, Failure):
            node.why = answer.why
        if question.is_over or question.call.is_over:
            return
        outcome = outcome_of(answer)
        if question.nodes_max is not None and node.bears is not None and node.bears.nodes > question.nodes_max:
            outcome = None
        if question.votes.add(node.number, outcome):
            question.is_over = True
            self._decided(question.call, outcome)
        elif question.until < inf and not question.again_s and question.votes.is_split:
            question.is_over = True
            if not question.is_late:
                self._ask_again(question)

    def _decided(self, call: ClientCall, outcome: Outcome | None) -> None:
        if isinstance(outcome, bytes):
            self._finish(call, outcome, None)
        elif call.kind == CHANGE:
            whys = [node.why for node in self.nodes if node.is_open and node.why]
            why = max(whys, key=whys.count, default="the nodes refuse this change of members")
            self._finish(call, None, Refused(why))
        else:
            self._finish(call, None, _error_of(outcome, self._why(), call.kind in READS))

    def _ask_again(self, question: _Question) -> None:
        """A read that has no result yet: through the log, or there once more."""
        again_s = min(2 * question.again_s, self._pace.resend_s_max) if question.again_s else self._pace.resend_s
        self._ask_in_log(question.call, again_s)

    # --- links ---

    def start(self) -> None:
        """Dial them all."""
        for node in self.nodes:
            self._dial(node)

    def opened(self, at: int, greeted: Greeted) -> None:
        """A link to a node is there."""
        node = self.nodes[at]
        if not node.is_dialling:
            self._out.hangups.append((at, "nobody called", False))
            return
        if greeted.cluster != self.cluster:
            why = f"is of cluster {greeted.cluster!r} and not of {self.cluster!r}"
            self._out.hangups.append((at, why, True))
            self.unreached(at, f"{node.address}: {why}")
            return
        node.is_dialling = False
        node.is_open = True
        node.opened_at = self._out.now
        node.bears = greeted.bears
        for request in self.requests.values():
            if request.wants(at):
                self._send(request, node)

    def unreached(self, at: int, why: str) -> None:
        """No link came about."""
        node = self.nodes[at]
        if not node.is_dialling:
            return
        node.is_dialling = False
        node.why = why
        self._dial_later(node, node.delay_s * self._rng.uniform(0.5, 1.0))
        node.delay_s = min(2 * node.delay_s, self._pace.redial_s_max)

    def lost(self, at: int, why: str) -> None:
        """A link has ended."""
        node = self.nodes[at]
        if not node.is_open:
            self.unreached(at, why)
            return
        node.is_open = False
        node.bears = None
        node.why = f"{node.address}: {why}"
        # Nodes that hang up at once are not to be called without end.
        pace = self._pace
        is_short = self._out.now - node.opened_at <= pace.redial_s_max
        node.delay_s = min(2 * node.delay_s, pace.redial_s_max) if is_short else pace.sweep_s
        self._dial_later(node, node.delay_s)

    def leave(self, why: str) -> None:
        """Hang up for good."""
        for node in self.nodes:
            if node.is_open or node.is_dialling:
                self._out.hangups.append((node.number, why, False))
            node.is_open = node.is_dialling = False
            node.dial_at = inf
        self.requests.clear()
        self.unsigned.clear()

    def _dial(self, node: _Node) -> None:
        node.dial_at = inf
        node.is_dialling = True
        self._out.dials.append(node.number)

    def _dial_later(self, node: _Node, delay_s: float) -> None:
        node.dial_at = self._out.now + delay_s
        self._out.wake(node.dial_at)

    # --- time ---

    def tick(self) -> None:
        """End what is overdue, ask in another way or send again what should be."""
        out = self._out
        now = out.now
        for node in self.nodes:
            if now >= node.dial_at:
                self._dial(node)
            out.wake(node.dial_at)
        for number, request in list(self.requests.items()):
            for question in request.questions:
                self._look_at(question, now)
            if request.is_over:
                del self.requests[number]
                continue
            if now >= request.resend_at:
                # Nodes that have executed a request and remember no answer (an opening of a session that has expired)
                # wait for it to be ordered again, which only its primary does, who may have answered before that.
                is_late = request.resend_s >= self._pace.resend_s_max
                request.resend_s = min(2 * request.resend_s, self._pace.resend_s_max)
                request.resend_at = now + request.resend_s
                for node in self.nodes:
                    if is_late or request.wants(node.number):
                        self._send(request, node)
            out.wake(request.resend_at)

    def _look_at(self, question: _Question, now: float) -> None:
        call = question.call
        if question.is_over or call.is_over:
            return
        if now >= call.deadline:
            question.is_over = True
            self._expire(call)
        elif question.is_late:
            pass  # what was asked since keeps the time
        elif now >= question.until:
            question.is_late = True
            self._ask_again(question)
        else:
            self._out.wake(min(call.deadline, question.until))

    def _why(self) -> str:
        reached = sum(node.is_open for node in self.nodes)
        whys = [node.why for node in self.nodes if node.why]
        return f"{reached} of {len(self.nodes)} nodes are reached" + (f"; {whys[-1]}" if whys else "")


def _error_of(code: Code | None, why: str, is_read: bool) -> QuorateError:
    """What an error that was voted for means."""
    if code is Code.TOO_LARGE:
        return TooLarge.answer(f"the answer is larger than a node may send or keep ({why})", is_read=is_read)
    if code is Code.MALFORMED:
        return Refused(f"the nodes do not understand the request ({why})")
    return SessionExpired(
        "the session has expired: whether the command took effect is unknown; the next call opens a new session"
    )
