"""Single: the part of a client that asks one node at a time, where nodes only crash. Pure.

How it works. Every request stands in a table until it is answered. There is a link to one node, the leader if it is
known, and the whole table is sent again on each new link: commands carry their session and serial, so a second sending
changes nothing. When an answer stays out, the client turns to another node. Thus a request waits in one place only.

A call may end before an answer to it has been out for long. So it also counts for how long a node has owed any answer
at all: else whoever asks in haste would ask a node that hangs for ever.

Turning away discards an answer that is on its way. So once every node was silent, the client waits twice as long, and
so on: with a fixed patience, a cluster slower than that would be asked for ever and never heard. The longer patience
lasts as long as answers need it. A node that was silent about a call which the next one answers at once has hung:
answers need no longer for that, or a client that outlives a few nodes that hang would wait longer for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from quorate.kernel import Rng
from quorate.service.client.call import CHANGE, LOCAL, READS, ClientCall
from quorate.service.client.endpoints import Endpoints
from quorate.service.client.errors import QuorateError, Refused, SessionExpired, TooLarge
from quorate.service.client.flow import Flow
from quorate.service.client.outputs import Finish, Outputs, Sendable, Silence, Unasked
from quorate.service.client.pace import Pace
from quorate.service.requests import (
    AskStatus,
    Code,
    Command,
    Failure,
    Query,
    Reconfigure,
    Response,
    Result,
    Status,
    encode,
)

WHO_LEADS = encode(AskStatus(0))
ELSEWHERE = (Code.STORAGE, Code.STATELESS)
"""The node will not do it, and passes nothing on, whoever leads. One that cannot write may be named as leader still,
by others that do not know yet that it makes way."""


class Single:
    """``asker`` tells this client from others. What it wants done goes into ``out``.

    ``finish`` takes the end of a call, ``expire`` one whose time is up, ``renew`` a command that had no effect, as its
    session had expired before.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        pace: Pace,
        rng: Rng,
        asker: int,
        out: Outputs,
        finish: Finish,
        expire: Callable[[ClientCall], None],
        renew: Callable[[ClientCall], None],
    ) -> None:
        self._endpoints = endpoints
        self._pace = pace
        self._rng = rng
        self._asker = asker
        self._out = out
        self._finish = finish
        self._expire = expire
        self._renew = renew
        self.waiting: dict[int, ClientCall] = {}
        self.link: int | None = None
        self.why = ""
        """Why there was no link, the last time that there was none."""
        self.dialling: int | None = None
        self._dial_at = inf
        self._linked_at = 0.0
        self._owed_since = inf
        """Since when the node of this link has owed an answer and given none; inf: it owes none."""
        self._short_links = 0
        self._silences = 0
        """How often the client turned away from a silent node since its patience was last the shortest."""
        self._needed_at = 0.0
        """When more than the shortest patience was last of use."""
        self._delay_s = pace.sweep_s
        self._is_turning = False
        self._flow = Flow(pace.pipeline_max)

    # --- calls ---

    def ask(self, call: ClientCall) -> None:
        """Put a call into the table, where it stays until it is answered or nobody waits any more."""
        out = self._out
        number = call.id = out.request_id()
        self.waiting[number] = call
        if self.link is not None:
            self._offer(call)
        if call.deadline < out.wake_at:
            out.wake_at = call.deadline

    def forget(self, call: ClientCall) -> None:
        """Nobody waits for it any more."""
        self._over(call)
        self._fill()

    def farewell(self, entry: bytes) -> None:
        """A last command, for whose answer nobody waits."""
        if self.link is not None:
            self._out.sends.append((self.link, Unasked(encode(Command(self._out.request_id(), entry)))))

    def silence(self, call: ClientCall) -> Silence:
        """What is known of a call that has no answer."""
        reason = call.why.why if call.why is not None else self.why or "no answer"
        return call.sent or call.may_happen, call.why is not None, reason

    def _offer(self, call: ClientCall) -> None:
        """Send it, or have it wait for its turn."""
        if self._flow.has_room(self._out.now):
            self._send(call)
        else:
            self.waiting.pop(call.id, None)
            self._flow.hold(call)
            self._out.wake(call.deadline)
            self._out.wake(self._flow.quiet_until if self._flow.quiet_until > self._out.now else inf)

    def _fill(self) -> None:
        """Send what waits for its turn."""
        flow = self._flow
        while flow.held and flow.has_room(self._out.now) and self.link is not None:
            self._send(flow.next())

    def _send(self, call: ClientCall) -> None:
        out = self._out
        self._flow.sent(call)
        self.waiting[call.id] = call
        assert self.link is not None
        kind, remaining_ms = call.kind, call.remaining_ms(out.now)
        if kind in READS:
            call.payload = encode(Query(call.id, call.body, kind == LOCAL, remaining_ms, self._asker))
        elif kind == CHANGE:
            call.payload = encode(Reconfigure(call.id, call.entry, remaining_ms))
        else:
            call.payload = encode(Command(call.id, call.entry, remaining_ms))
        out.sends.append((self.link, call))
        call.may_happen = call.may_happen or call.sent
        call.sent = True
        call.why = None
        call.sent_at = out.now
        self._owed_since = min(self._owed_since, out.now)
        call.resend_at = at = out.now + self._patience_s
        if at < out.wake_at:
            out.wake_at = at

    @property
    def _patience_s(self) -> float:
        """How long an answer may stay out now."""
        pace = self._pace
        if not self._silences:
            return pace.patience_s
        rounds = self._silences // len(self._endpoints.addresses)
        return min(pace.patience_s * (1 << min(rounds, 16)), pace.patience_s_max)

    def _came(self, call: ClientCall) -> None:
        """An answer, while the patience is perhaps longer than it must be.

        A quick one does not end that at once: slow calls may wait beside it, or come after it.
        """
        now, pace = self._out.now, self._pace
        if now - call.sent_at > pace.patience_s:
            self._needed_at = now
        elif call.silences is not None:
            self._silences = min(self._silences, call.silences)
        elif now - self._needed_at > 2 * pace.patience_s_max:
            self._silences = 0

    def not_sent(self, _: int, item: Sendable) -> None:
        """The link did not take it: it has too much to send already."""
        if isinstance(item, ClientCall):
            item.sent = False
            item.resend_at = self._out.now + self._pace.sweep_s
            self._out.wake(item.resend_at)

    # --- answers ---

    def received(self, at: int, responses: Sequence[Response]) -> None:
        """Responses of the node at an address. Those to a request that does not wait are of no use."""
        if at != self.link:
            return
        self._owed_since = inf
        waiting, held, finish = self.waiting, self._flow.held, self._finish
        for response in responses:
            kind = type(response)
            if kind is Result:
                call = waiting.pop(response.id, None) or held.get(response.id)
                if call is not None:
                    self._flow.over(call)
                    self._flow.answered()
                    if self._silences:
                        self._came(call)
                    finish(call, response.data, None)  # type: ignore[union-attr]
            elif kind is Failure:
                call = waiting.get(response.id) or held.get(response.id)
                if call is not None:
                    self._failed(call, response)  # type: ignore[arg-type]
            elif kind is Status and self._endpoints.prefer(response.leader):  # type: ignore[union-attr]
                self._is_turning = True
        if self._is_turning:
            self._turn()
            return
        if waiting:
            self._owed_since = self._out.now  # what is still out is late from now on
        if self._flow.held:
            self._fill()

    def _failed(self, call: ClientCall, failure: Failure) -> None:
        code = failure.code
        error: QuorateError
        if code is Code.BUSY:
            self._flow.refused(call, failure, self._out.now, self._busy_s)
        else:
            self._flow.closed(call)
        if code is Code.TOO_LARGE:
            error = TooLarge.answer(failure.why, is_read=call.kind in READS)
        elif code is Code.MALFORMED:
            error = Refused(failure.why)
        elif code is Code.NO_SESSION and call.session is not None and not call.may_happen:
            # Sent once, so that this answer is about its only copy.
            self._over(call)
            self._renew(call)
            return
        elif code is Code.NO_SESSION:
            text = f"{failure.why}: whether the command took effect is unknown; the next call opens a new session"
            error = SessionExpired(text)
        else:
            self._later(call, failure)
            return
        self._over(call)
        self._finish(call, None, error)

    def _over(self, call: ClientCall) -> None:
        self.waiting.pop(call.id, None)
        self._flow.over(call)

    def _later(self, call: ClientCall, failure: Failure) -> None:
        """Not now, and perhaps elsewhere."""
        call.why = failure
        call.sent = False
        call.may_happen = call.may_happen or failure.code is Code.LEADER_CHANGED
        is_busy = failure.code is Code.BUSY
        call.resend_at = self._flow.quiet_until if is_busy else self._out.now + self._pace.sweep_s
        self._out.wake(call.resend_at)
        if self._endpoints.prefer(failure.leader):
            self._is_turning = True
        elif self._is_turning:
            pass
        elif failure.code in ELSEWHERE:
            self._endpoints.failed()
            self._is_turning = True
        elif self._is_leaderless(failure):
            self._endpoints.next()
            self._is_turning = True

    def _busy_s(self, refusals: int) -> float:
        """How long to leave a busy node alone: by chance, so that those it refused together do not return together."""
        pace = self._pace
        delay_s = min(pace.sweep_s * (1 << min(refusals, 16)), pace.busy_s_max)
        return delay_s * self._rng.uniform(0.5, 1.0)

    def _is_leaderless(self, failure: Failure) -> bool:
        """Whether the node has known no leader for so long that others may: it may be cut off from them."""
        return failure.leader is None and self._out.now - self._linked_at > self._pace.patience_s

    # --- the link ---

    def start(self) -> None:
        """Look for a node."""
        self._dial_at = inf
        self.dialling = at = self._endpoints.position
        self._out.dials.append(at)

    def opened(self, at: int, node: int) -> None:
        """A link to this node is there."""
        if at != self.dialling:
            self._out.hangups.append((at, "nobody called", False))
            return
        out = self._out
        self.dialling = None
        self._delay_s = self._pace.sweep_s
        self._endpoints.found(node)
        self.link = at
        self._linked_at = out.now
        out.sends.append((at, Unasked(WHO_LEADS)))  # the answer may make us turn to another node
        for call in list(self.waiting.values()):
            if not self._is_left_alone(call):
                self._offer(call)
        self._fill()

    def _is_left_alone(self, call: ClientCall) -> bool:
        """Whether a node was too busy for it a moment ago; the next one would have the same to do."""
        why = call.why
        return why is not None and why.code is Code.BUSY and self._out.now < call.resend_at

    def unreached(self, at: int, why: str) -> None:
        """No link came about."""
        if at != self.dialling:
            return
        self.dialling = None
        self.why = why
        self._endpoints.failed()
        self._dial_later(self._delay_s * self._rng.uniform(0.5, 1.0))
        self._delay_s = min(2 * self._delay_s, self._pace.redial_s_max)

    def lost(self, at: int, why: str) -> None:
        """A link has ended."""
        if at != self.link:
            self.unreached(at, why)
            return
        self.why = f"{self._endpoints.current}: {why}"
        self._endpoints.next()
        self._left()

    def leave(self, why: str) -> list[ClientCall]:
        """Hang up for good; the calls that wait, which are no longer this part's."""
        at = self.dialling if self.link is None else self.link
        if at is not None:
            self._out.hangups.append((at, why, False))
        self.dialling = self.link = None
        self._dial_at = inf
        calls = [*self.waiting.values(), *self._flow.held.values()]
        self.waiting.clear()
        self._flow = Flow(self._pace.pipeline_max)
        return calls

    def _turn(self) -> None:
        """To the endpoint that is the current one now."""
        self._is_turning = False
        if self.link is not None:
            self._out.hangups.append((self.link, "turns to another node", False))
            self._left()

    def _left(self) -> None:
        pace = self._pace
        self.link = None
        self._owed_since = inf
        self._flow.left()
        is_short = self._out.now - self._linked_at < pace.redial_s_max
        self._short_links = self._short_links + 1 if is_short else 0
        excess = self._short_links - pace.short_links_free
        if excess > 0:
            self._dial_later(min(pace.sweep_s * 2 ** min(excess - 1, 16), pace.redial_s_max))
        else:
            self.start()

    def _dial_later(self, delay_s: float) -> None:
        self._dial_at = self._out.now + delay_s
        self._out.wake(self._dial_at)

    # --- time ---

    def tick(self) -> None:
        """End what is overdue, send again what should be, leave a node that does not answer."""
        out = self._out
        now = out.now
        if now >= self._dial_at:
            self.start()
        is_silent = False
        overdue: list[ClientCall] = []
        for call in list(self.waiting.values()):
            if now >= call.deadline:
                overdue.append(call)
                continue
            if self.link is not None:
                if now < call.resend_at:
                    out.wake(call.resend_at)
                elif call.sent:
                    is_silent = True  # on the next link it is sent again, and here it would only make work
                    if call.silences is None:
                        call.silences = self._silences
                else:
                    self._offer(call)
            out.wake(call.deadline)
        out.wake(self._dial_at)
        for call in overdue:
            # It leaves the table at once: on a link that comes up now it would be sent after all.
            del self.waiting[call.id]
            self._flow.over(call)
            is_silent = is_silent or (call.sent and now - self._owed_since >= self._patience_s)
            self._expire(call)
        for call in self._flow.overdue(now):
            self._expire(call)
        if is_silent:
            self._flow.silent(now)
            self._silences += 1
            self._needed_at = now
            # A node that hangs is named as the leader until the others elect one: they pass on what they are asked.
            self._endpoints.failed()
            self._turn()
        elif self._flow.held:
            self._fill()
        if self._flow.held:
            out.wake(self._flow.next_deadline)
            if self._flow.quiet_until > now:
                out.wake(self._flow.quiet_until)
