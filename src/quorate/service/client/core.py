"""The client's core: what a client does, without sockets, clock or chance of its own. Pure.

How it works. Inputs are methods: a call begins, a link is there or not, responses arrive, time passes. What the core
wants done stands in ``out`` (``outputs.py``) until the shell has done it. There are two ways to ask, and greetings tell
which one is needed: ``single.py`` asks one node at a time, ``voting.py`` asks all and outvotes liars. What both share
is here: room, the session and its serials, how calls end, and which errors are definite.

The clients that people use (``aio.py``, and ``sync.py`` above it) and those of simulated runs are shells of this.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import inf

from quorate.kernel import Rng
from quorate.parts.crypto.keys import Signer
from quorate.runtime.handshake import Greeted
from quorate.service.client.call import COMMAND, OPENING, READS, ClientCall
from quorate.service.client.endpoints import Endpoints
from quorate.service.client.errors import (
    Busy,
    NoQuorum,
    NotRunning,
    OutcomeUnknown,
    QuorateError,
    Refused,
    SessionExpired,
    Unreachable,
)
from quorate.service.client.greetings import Greetings
from quorate.service.client.mode import believed_from, faults_of
from quorate.service.client.outputs import Outputs, Sendable, Silence
from quorate.service.client.pace import Pace
from quorate.service.client.session import ClientSession
from quorate.service.client.single import Single
from quorate.service.client.votes import for_command
from quorate.service.client.voting import Voting
from quorate.service.requests import Code, Response

NEVER_OPENED = "this client is closed, or was never opened: use it in `async with`"
CLOSED = "the client was closed before an answer came"
UNKNOWN = "the command may have taken effect, or may still"


class ClientCore:
    """One client. ``faults``: how many nodes may lie; None: as they say. ``signer`` makes the key if there is need.

    Every input takes ``now``, which never goes backwards. After each one, look at ``out``; call ``settle`` before, once
    for all calls that began together.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        rng: Rng,
        signer: Callable[[], Signer],
        pace: Pace,
        *,
        timeout_s: float,
        faults: int | None = None,
    ) -> None:
        """Raises ValueError for more faults than such endpoints tolerate."""
        self.endpoints = endpoints
        self.timeout_s = timeout_s
        """What errors say that a call may take."""
        self.out = Outputs()
        self.refused: Refused | None = None
        """Why nothing can be asked of these nodes."""
        self.voting: Voting | None = None
        self.single: Single | None = None
        self._greetings: Greetings | None = None
        self._believed_from = believed_from(endpoints.addresses, faults)
        self._faults = faults
        self._rng = rng
        self._signer = signer
        self._pace = pace
        self.is_running = False
        self._queue: OrderedDict[ClientCall, None] = OrderedDict()
        """Calls that wait for room."""
        self._under_way = 0
        self.sessionless: dict[ClientCall, None] = {}
        """Commands that wait for a session."""
        self._opening: ClientCall | None = None
        self._early: dict[ClientCall, None] = {}
        """Calls that wait until it is known how to ask."""
        self.session = self.new_session()
        self._asker = self.session.nonce
        """With the id of a request it names a call, so that a node finds what it does for that already."""

    @property
    def has_mode(self) -> bool:
        """Whether it is known how to ask: a node was reached, and the nodes need not be outvoted or can be."""
        single = self.single
        return self.voting is not None or self.refused is not None or (single is not None and single.link is not None)

    @property
    def why(self) -> str:
        """Why no node could be asked, as far as it is known."""
        if self.single is not None:
            return self.single.why
        return "" if self._greetings is None else self._greetings.why

    # --- rules that a mutant breaks ---

    def new_session(self) -> ClientSession:
        """One that is not open yet."""
        return ClientSession(self._rng.getrandbits(60))

    def needed(self, faults: int) -> int:
        """How many nodes must give the same answer to a command."""
        return for_command(faults)

    def silent(self, call: ClientCall, silence: Silence) -> QuorateError:
        """What the end of a call without an answer is: definite only where nothing can have happened."""
        may_happen, is_refused, reason = silence
        within = f"within {self.timeout_s:g} s"
        if may_happen:
            if call.kind in READS:
                return NoQuorum(f"no answer to a read {within}: {reason}")
            if call.kind == COMMAND and call.session is None:
                # A session that nobody uses is nothing that happened.
                return NoQuorum(f"no session could be opened {within}, so the command was not sent: {reason}")
            return OutcomeUnknown(f"no answer {within} ({reason}); it may still take effect")
        if call.why is not None and call.why.code is Code.BUSY:
            return Busy(f"the nodes were busy {within}: {reason}. Nothing happened: try later, or less at once")
        if is_refused:
            return NoQuorum(f"not possible {within}: {reason}")
        return Unreachable(f"no node answered {within}: {reason}")

    # --- calls ---

    def start(self, now: float) -> None:
        """Look for nodes."""
        self.out.now = now
        self.is_running = True
        if self._believed_from > 1:
            self._greetings = Greetings(self.endpoints.addresses, self._believed_from, self._pace, self.out)
            self._greetings.start()
        else:
            self._ask_one()

    def begin(self, call: ClientCall, now: float) -> None:
        """A call, which ends once: in ``out.finished``, unless it is forgotten before."""
        self.out.now = now
        if not self.is_running:
            self._end(call, NotRunning(NEVER_OPENED))
        elif self._has_room(call):
            self._under_way += 1
            self._ask(call)
        else:
            self._queue[call] = None
            self.out.wake(call.deadline)

    def forget(self, call: ClientCall, now: float) -> None:
        """Whoever waited for it has gone. It may still take effect; its serial is not used again."""
        if call.is_over:
            return
        self.out.now = now
        call.is_over = True
        if call in self._queue:
            del self._queue[call]
            return
        self._under_way -= 1
        self._early.pop(call, None)
        if self.sessionless.pop(call, self) is None and not self.sessionless:
            self._stop_opening()
        self._asker_forgets(call)
        if call.session is not None:
            call.session.answered(call.serial)
        self._admit()

    def settle(self, now: float) -> None:
        """Sign what has begun since the last time. ``out`` has more to send then."""
        if self.voting is not None and self.voting.unsigned:
            self.out.now = now
            self.voting.sign()

    @property
    def has_unsigned(self) -> bool:
        """Whether ``settle`` has something to do."""
        return self.voting is not None and bool(self.voting.unsigned)

    def close(self, now: float, why: str = CLOSED) -> None:
        """End the session and all calls; ``why`` is what their errors say."""
        self.out.now = now
        self.is_running = False
        asker = self.single or self.voting
        if asker is not None and self.session.id is not None:
            # A courtesy: a session that is not closed expires.
            asker.farewell(self.session.closing())
        waiting = [*self._early, *self.sessionless, *self._queue]
        self._queue.clear()
        self._early.clear()
        self.sessionless.clear()
        if self.single is not None:
            waiting += self.single.leave("the client closes")
        if self.voting is not None:
            waiting += [question.call for request in self.voting.requests.values() for question in request.questions]
            waiting += [question.call for question in self.voting.unsigned]
            self.voting.leave("the client closes")
        if self._greetings is not None:
            self._greetings.leave()
        self._opening = None
        for call in waiting:
            if not (call.sent or call.may_happen):
                error: QuorateError = Unreachable(why)
            else:
                error = NoQuorum(why) if call.kind in READS else OutcomeUnknown(f"{why}; {UNKNOWN}")
            self.finish(call, None, error)

    def finish(self, call: ClientCall, result: bytes | None, error: QuorateError | None) -> None:
        """The end of a call."""
        if call.is_over:
            return
        call.is_over = True
        session = call.session
        if session is not None:
            session.answered(call.serial)
            if error is not None and isinstance(error, SessionExpired) and self.session is session:
                self.session = self.new_session()
        elif call.kind == OPENING:
            self._session_opened(result, error)
            return
        self._under_way -= 1
        call.result = result
        call.error = error
        self.out.finished.append(call)
        if self._queue:
            self._admit()

    def _end(self, call: ClientCall, error: QuorateError) -> None:
        """The end of a call that has not begun."""
        call.is_over = True
        call.error = error
        self.out.finished.append(call)

    def _has_room(self, call: ClientCall) -> bool:
        return self._under_way < self._pace.pipeline_max and (call.kind != COMMAND or self.session.has_room)

    def _admit(self) -> None:
        queue = self._queue
        while queue and self._has_room(next(iter(queue))) and self.is_running:
            call, _ = queue.popitem(last=False)
            if self.out.now < call.deadline:
                self._under_way += 1
                self._ask(call)
            else:
                self._end(call, self._no_room())

    def _ask(self, call: ClientCall) -> None:
        asker = self.single or self.voting
        if asker is None:
            if self.refused is not None:
                self.finish(call, None, Refused(*self.refused.args))
                return
            self._early[call] = None
            self.out.wake(call.deadline)
        elif call.kind != COMMAND:
            asker.ask(call)
        elif self.session.id is not None:
            # A serial is taken only now: one that waited for room would hold back what the replicas may forget.
            session = call.session = self.session
            call.serial, call.entry = session.command(call.body)
            asker.ask(call)
        else:
            self.sessionless[call] = None
            self.out.wake(call.deadline)
            if self._opening is None:
                self._opening = ClientCall(OPENING, self.session.opening(), inf)
                asker.ask(self._opening)

    def _session_opened(self, result: bytes | None, error: QuorateError | None) -> None:
        """The end of the opening, for which all the commands wait."""
        self._opening = None
        waiting = list(self.sessionless)
        self.sessionless.clear()
        if result is not None:
            try:
                self.session.opened(result)
            except ValueError:
                error = Refused("the node's answer is the id of no session; check that it is a Quorate node")
        if isinstance(error, OutcomeUnknown):
            error = NoQuorum("no session could be opened, so the command was not sent: try again")
        for call in waiting:
            if error is None and self.out.now < call.deadline:
                self._ask(call)
            elif error is None:
                self.finish(call, None, self.silent(call, (False, False, "a session was opened too late")))
            else:
                self.finish(call, None, type(error)(*error.args))

    def _stop_opening(self) -> None:
        """Nobody waits for a session any more."""
        if self._opening is not None:
            self._opening.is_over = True
            self._asker_forgets(self._opening)
            self._opening = None

    def _asker_forgets(self, call: ClientCall) -> None:
        asker = self.single or self.voting
        if asker is not None:
            asker.forget(call)

    # --- links and responses ---

    def opened(self, at: int, node: int, greeted: Greeted, now: float) -> None:
        """The link to an address is there: ``node`` greets, and says what its cluster bears if nodes may lie."""
        self.out.now = now
        bears = greeted.bears
        if self._greetings is not None:
            if self._greetings.opened(at, greeted):
                self._greetings = None
                if bears is None and not self._faults:
                    self._ask_one()
                else:
                    self._ask_all(greeted)
        elif self.single is not None:
            if bears is None or at != self.single.dialling:
                self.single.opened(at, node)
            else:
                self._ask_all(greeted)
        elif self.voting is not None:
            self.voting.opened(at, greeted)

    def unreached(self, at: int, why: str, now: float) -> None:
        """The link to an address could not be made."""
        self.out.now = now
        asker = self._greetings or self.single or self.voting
        if asker is not None:
            asker.unreached(at, why)

    def lost(self, at: int, why: str, now: float) -> None:
        """The link to an address has ended."""
        self.out.now = now
        if self._greetings is not None:
            self._greetings.unreached(at, why)
        elif (asker := self.single or self.voting) is not None:
            asker.lost(at, why)

    def received(self, at: int, responses: Sequence[Response], now: float) -> None:
        """Responses that came on the link to an address."""
        self.out.now = now
        if self.single is not None:
            self.single.received(at, responses)
        elif self.voting is not None:
            self.voting.received(at, responses)

    def not_sent(self, at: int, item: Sendable, now: float) -> None:
        """The link to an address has no room for that."""
        self.out.now = now
        asker = self.single or self.voting
        if asker is not None:
            asker.not_sent(at, item)

    def _ask_one(self) -> None:
        self.single = Single(
            self.endpoints, self._pace, self._rng, self._asker, self.out, self.finish, self._expire, self._renew
        )
        self.single.start()
        self._ask_early()

    def _ask_all(self, greeted: Greeted) -> None:
        """Nodes may lie: ask them all from now on. What was asked of one was not signed, so it has no effect.

        Requests are signed for the cluster that as many nodes named as it takes to believe them, an honest one among
        them: a liar that names another cluster, in which the key counts too, gets nothing signed for that one.
        """
        bears = greeted.bears
        self._stop_opening()
        if self.single is not None:
            for call in self.single.leave("turns to all nodes"):
                call.sent = call.may_happen = False
                call.why = None
                if call.session is not None:
                    call.session = None
                self._early[call] = None
            self.single = None
            self.session = self.new_session()
        self._early.update(self.sessionless)
        self.sessionless.clear()
        try:
            faults = faults_of(bears, self._faults, self.endpoints.addresses)
            assert bears is not None
        except Refused as refused:
            self.refused = refused
        else:
            self.voting = Voting(
                self.endpoints.addresses,
                greeted.cluster,
                bears,
                faults,
                self.needed(faults),
                self._signer(),
                self._pace,
                self._rng,
                self._asker,
                self.out,
                self.finish,
                self._expire,
            )
            self.voting.start()
        self._ask_early()

    def _ask_early(self) -> None:
        early, self._early = self._early, {}
        for call in early:
            self._ask(call)

    # --- time ---

    def tick(self, now: float) -> None:
        """Time has passed. Call this when ``out.wake_at`` is reached; more often does no harm."""
        out = self.out
        out.now = now
        for call in [*self._queue, *self._early, *self.sessionless]:
            if now >= call.deadline and not call.is_over:
                self._overdue(call)
        out.wake_at = inf  # what is to be looked at is looked at now
        for waiting in (self._queue, self._early, self.sessionless):
            for call in waiting:
                out.wake(call.deadline)
        if self._greetings is not None:
            self._greetings.tick()
        elif (asker := self.single or self.voting) is not None:
            asker.tick()

    def _overdue(self, call: ClientCall) -> None:
        """A call of which nothing was sent but, perhaps, the opening of its session."""
        if call in self.sessionless:
            del self.sessionless[call]
            asker = self.single or self.voting
            assert asker is not None
            assert self._opening is not None
            self.finish(call, None, self.silent(call, asker.silence(self._opening)))
            if not self.sessionless:
                self._stop_opening()
        elif call in self._early:
            del self._early[call]
            self.finish(call, None, self.silent(call, (False, False, self.why or "no answer")))
        elif call in self._queue:
            del self._queue[call]
            self._end(call, self._no_room())

    def _no_room(self) -> Unreachable:
        reason = self.why or f"{self._pace.pipeline_max} other calls are under way"
        return Unreachable(f"not sent within {self.timeout_s:g} s: {reason}")

    def _renew(self, call: ClientCall) -> None:
        """A command did nothing, as its session had expired: it is a new one in a new session."""
        session = call.session
        assert session is not None
        session.answered(call.serial)
        if self.session is session:
            self.session = self.new_session()
        call.session, call.entry, call.sent = None, call.body, False
        if self.out.now < call.deadline:
            self._ask(call)
        else:
            self.finish(call, None, self.silent(call, (False, False, "the session had expired")))

    def _expire(self, call: ClientCall) -> None:
        """A call whose time is up."""
        asker = self.single or self.voting
        assert asker is not None
        self.finish(call, None, self.silent(call, asker.silence(call)))
