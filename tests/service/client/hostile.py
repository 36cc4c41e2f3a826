"""Hostile servers around a client's core, without sockets: what they do is drawn from a seed, and the core is watched.

They greet as they like, answer what was not asked, twice, late, and with anything; links come and go at any time. What
is watched: that the core keeps to its links, that each call ends once and no serial stands for two commands, that an
error is definite only where nothing can have happened, and that nothing is kept of calls that are over.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import msgspec

from quorate.parts.crypto.keys import Symbolic
from quorate.runtime.handshake import Bears, Greeted
from quorate.service.client.call import COMMAND, LOCAL, QUERY, ClientCall
from quorate.service.client.core import ClientCore
from quorate.service.client.endpoints import Endpoints
from quorate.service.client.errors import NoQuorum, OutcomeUnknown, Unreachable
from quorate.service.client.pace import Pace
from quorate.service.client.session import ClientSession
from quorate.service.requests import (
    AskStatus,
    Code,
    Failure,
    Response,
    Result,
    Results,
    Status,
    decode_request,
)

ROOM = 8
TIMEOUT_S = 3.0
DATA = (b"1", b"2", b"77", b"", b"x", b"-1", b"9" * 40, b"\xff")
"""Results, some of which are ids of sessions."""
CALLS_MAX = 60
NOTHING_HAPPENED = (Code.UNAVAILABLE, Code.BUSY, Code.STORAGE, Code.STATELESS, Code.LEADER_CHANGED, Code.NO_SESSION)
"""With this request, by this link. What came of a copy that was sent before is another question."""
CLUSTERS = ("test",) * 7 + ("another",)


class Sent:
    """What may have become of one request to a single node, by what the servers know."""

    def __init__(self) -> None:
        self.is_open = False
        """It was sent and not refused."""
        self.may_happen = False


class Hostile:
    """``bears`` is what the nodes greet with, most of the time. A liar may bear anything: give ``greetings`` some."""

    def __init__(self, seed: int, addresses: int, greetings: tuple[Bears | None, ...], core: type[ClientCore]) -> None:
        self.rng = Random(f"hostile/{seed}")
        self.greetings = greetings
        endpoints = Endpoints(f"n{number}:1" for number in range(addresses))
        scheme = Symbolic(range(4), b"hostile")
        self.core = core(endpoints, self.rng, lambda: scheme.client(1), Pace(pipeline_max=ROOM), timeout_s=TIMEOUT_S)
        self.addresses = addresses
        self.now = 100.0
        self.dialling: set[int] = set()
        self.open: set[int] = set()
        self.calls: list[ClientCall] = []
        self.ended: Counter[ClientCall] = Counter()
        self.forgotten: set[ClientCall] = set()
        self.ids: list[int] = []
        self.sent: dict[int, Sent] = {}
        self.requests: dict[int, Any] = {}
        self.serials: dict[tuple[ClientSession, int], ClientCall] = {}
        self.core.start(self.now)
        self.act()

    # --- what the core wants ---

    def act(self) -> None:
        """Do it, and check that it makes sense."""
        self.core.settle(self.now)
        out = self.core.out
        for at, item in out.sends:
            assert at in self.open, "sends go to open links"
            self.note(decode_request(item.payload))
        for at, _, _ in out.hangups:
            assert at in self.open or at in self.dialling
            self.open.discard(at)
            self.dialling.discard(at)
        for at in out.dials:
            assert at not in self.open
            assert at not in self.dialling, "an address is dialled once at a time"
            self.dialling.add(at)
        for call in out.finished:
            self.ended[call] += 1
            assert self.ended[call] == 1, "a call ends once"
            assert call not in self.forgotten
            assert (call.result is None) != (call.error is None)
            if call.kind == COMMAND and isinstance(call.error, Unreachable | NoQuorum):
                fate = self.sent.get(call.id) if self.core.single is not None else None
                assert fate is None or not (fate.is_open or fate.may_happen), "it may still take effect"
            assert call.kind == COMMAND or not isinstance(call.error, OutcomeUnknown) or "session" in str(call.error)
        for call in self.calls:
            if call.session is not None:
                of_serial = self.serials.setdefault((call.session, call.serial), call)
                assert of_serial is call, "a serial stands for one command"
        for done in (out.sends, out.hangups, out.dials, out.finished):
            done.clear()
        self.check_room()

    def note(self, request: Any) -> None:
        """A request is on its way."""
        if isinstance(request, AskStatus):
            return
        self.ids.append(request.id)
        fate = self.sent.setdefault(request.id, Sent())
        fate.may_happen = fate.may_happen or fate.is_open
        fate.is_open = True
        request = msgspec.structs.replace(request, remaining_ms=0)
        assert self.requests.setdefault(request.id, request) == request, "but for the time left, it is the same again"

    def check_room(self) -> None:
        """The tables hold no more than what is under way."""
        core = self.core
        live = sum(not call.is_over for call in self.calls)
        single = 0 if core.single is None else len(core.single.waiting)
        assert single <= min(live, ROOM) + 1
        assert len(core.sessionless) <= min(live, ROOM)
        assert len(core.session._outstanding) <= min(live, ROOM)
        if core.voting is not None:
            assert len(core.voting.unsigned) == 0

    # --- what happens to it ---

    def step(self) -> None:
        """One thing, by chance."""
        rng = self.rng
        draw = rng.random()
        if draw < 0.15 and len(self.calls) < CALLS_MAX:
            self.begin()
        elif draw < 0.18 and self.calls:
            call = rng.choice(self.calls)
            if not call.is_over:
                self.forgotten.add(call)
            self.core.forget(call, self.now)
        elif draw < 0.36 and self.dialling:
            self.answer_dial(rng.choice(sorted(self.dialling)))
        elif draw < 0.41 and self.open:
            at = rng.choice(sorted(self.open))
            self.open.discard(at)
            self.core.lost(at, "hung up", self.now)
        elif draw < 0.43:
            at = int(rng.random() * self.addresses)  # of no link that the core has
            if at not in self.open and at not in self.dialling:
                self.core.lost(at, "of long ago", self.now)
                self.core.received(at, self.responses(), self.now)
        elif draw < 0.8 and self.open:
            self.core.received(rng.choice(sorted(self.open)), self.responses(), self.now)
        else:
            self.pass_time(rng.expovariate(8.0))
        self.act()

    def begin(self) -> None:
        """A call."""
        kind = self.rng.choice((COMMAND, COMMAND, QUERY, LOCAL))
        call = ClientCall(kind, b"%d" % len(self.calls), self.now + TIMEOUT_S)
        self.calls.append(call)
        self.core.begin(call, self.now)

    def answer_dial(self, at: int) -> None:
        """A link, with any greeting; or none."""
        self.dialling.discard(at)
        if self.rng.random() < 0.25:
            self.core.unreached(at, "refused", self.now)
        else:
            self.open.add(at)
            node = at if self.rng.random() < 0.8 else int(self.rng.random() * 9)
            self.core.opened(at, node, Greeted(self.rng.choice(CLUSTERS), self.rng.choice(self.greetings)), self.now)

    def responses(self) -> list[Response]:
        """Some, of which each may be anything."""
        return [self.response() for _ in range(1 + int(self.rng.random() * 4))]

    def response(self) -> Response:
        """To a request that was made, most of the time."""
        rng = self.rng
        recent = self.ids[-12:] if rng.random() < 0.8 else self.ids
        number = rng.choice(recent) if recent and rng.random() < 0.9 else rng.getrandbits(40)
        draw = rng.random()
        if draw < 0.3:
            return Result(number, rng.choice(DATA))
        if draw < 0.6:
            places = [int(rng.random() * 3) for _ in range(3)]
            return Results(number, tuple(Result(place, rng.choice(DATA)) for place in places))
        if draw < 0.9:
            code = rng.choice(list(Code))
            fate = self.sent.get(number)
            if fate is not None and code in NOTHING_HAPPENED:
                fate.is_open = False
                fate.may_happen = fate.may_happen or code is Code.LEADER_CHANGED
            return Failure(number, code, "because", rng.choice((None, None, 0, 1, 2, 99)))
        return Status(number, 1, "", "", rng.choice((None, 0, 1, 2, 99)), 0, 0, 0, 0)

    def pass_time(self, seconds: float) -> None:
        """And have the core look, if it wants to."""
        self.now += seconds
        if self.now >= self.core.out.wake_at:
            self.core.tick(self.now)
            assert self.core.out.wake_at > self.now, "it looks again later, not for ever at once"

    def finish(self) -> None:
        """Nobody answers any more, until all calls have ended."""
        for _ in range(400):
            self.pass_time(0.05)
            self.act()
        assert all(call.is_over for call in self.calls)
        assert all(self.ended[call] == (call not in self.forgotten) for call in self.calls)
        core = self.core
        assert not core.sessionless
        assert not core.session._outstanding
        assert core.single is None or not core.single.waiting
        assert core.voting is None or not core.voting.requests
