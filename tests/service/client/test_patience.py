"""A client of nodes that answer slowly, without sockets: it must not turn away from every answer before it comes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from itertools import pairwise
from math import inf
from random import Random

import pytest

from quorate.parts.crypto.keys import Symbolic
from quorate.runtime.handshake import Bears, Greeted
from quorate.service.client.call import LOCAL, QUERY, ClientCall
from quorate.service.client.core import ClientCore
from quorate.service.client.endpoints import Endpoints
from quorate.service.client.pace import Pace
from quorate.service.requests import Code, Failure, Query, Request, Response, Result, decode_request

QUICK, SLOW, NEVER = b"quick", b"slow", b"never"
PACE = Pace()


class Nodes:
    """Links open at once. Each query is answered after as long as ``late`` says, if its link is still there then.

    ``refuses``: what is to go through the log is refused at once.
    """

    def __init__(
        self, count: int, late: dict[bytes, float], bears: Bears | None = None, *, refuses: bool = False
    ) -> None:
        self.late = late
        self.hanging: int | None = None
        """The node that answers nothing."""
        self._refuses = refuses
        self._greeted = Greeted("", bears)
        endpoints = Endpoints(f"n{number}:1" for number in range(count))
        scheme = Symbolic(range(4), b"patience")
        self.core = ClientCore(endpoints, Random(1), lambda: scheme.client(1), PACE, timeout_s=5.0, faults=0)
        self.now = 0.0
        self.left: list[float] = []
        """When the client turned away from a node."""
        self.commands: list[Request] = []
        """What would go through the log."""
        self._links: dict[int, int] = {}
        self._made = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self.core.start(self.now)
        self._act()

    def ask(self, body: bytes, kind: int = QUERY, within_s: float = inf) -> ClientCall:
        """Begin a call, which may take so long."""
        call = ClientCall(kind, body, self.now + within_s)
        self.core.begin(call, self.now)
        self._act()
        return call

    def ask_at(self, at: float, body: bytes) -> None:
        """Later."""
        self._after(at - self.now, lambda: self.core.begin(ClientCall(QUERY, body, inf), self.now))

    def until(self, end: float) -> None:
        """Let time pass."""
        while (at := min(self._due[0][0] if self._due else inf, self.core.out.wake_at)) <= end:
            self.now = max(at, self.now)
            if self._due and self._due[0][0] <= self.now:
                heappop(self._due)[2]()
            else:
                self.core.tick(self.now)
            self._act()
        self.now = end

    def _after(self, delay_s: float, act: Callable[[], None]) -> None:
        self._made += 1
        heappush(self._due, (self.now + delay_s, self._made, act))

    @property
    def asked(self) -> int | None:
        """The node that the client has a link to."""
        return next(iter(self._links), None)

    def _act(self) -> None:
        if self.core.has_unsigned:
            self.core.settle(self.now)
        out = self.core.out
        for at, item in out.sends:
            asked = Query(item.id, item.body) if isinstance(item, ClientCall) else decode_request(item.payload)
            if not isinstance(asked, Query):
                self.commands.append(asked)
                if self._refuses:
                    refused = Failure(asked.id, Code.UNAVAILABLE, "too much is under way")
                    self._on_link(at, 0.0, partial(self._hear, at, refused))
            elif at != self.hanging and self.late[asked.query] < inf:
                self._on_link(at, self.late[asked.query], partial(self._hear, at, Result(asked.id, b"")))
        for at, _, _ in out.hangups:
            del self._links[at]
            self.left.append(self.now)
        for at in out.dials:
            self._made += 1
            self._links[at] = self._made
            self._on_link(at, 0.0, partial(self._open, at))
        for done in (out.sends, out.hangups, out.dials, out.finished):
            done.clear()

    def _on_link(self, at: int, delay_s: float, act: Callable[[], None]) -> None:
        link = self._links[at]
        self._after(delay_s, lambda: act() if self._links.get(at) == link else None)

    def _open(self, at: int) -> None:
        self.core.opened(at, at, self._greeted, self.now)

    def _hear(self, at: int, response: Response) -> None:
        self.core.received(at, [response], self.now)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_an_answer_slower_than_the_patience_comes_in_the_end(count: int) -> None:
    nodes = Nodes(count, {SLOW: 3 * PACE.patience_s})
    first = nodes.ask(SLOW)
    nodes.until(40.0)
    assert first.is_over
    nodes.left.clear()
    for _ in range(20):
        begun, later = nodes.now, nodes.ask(SLOW)
        nodes.until(begun + 3 * PACE.patience_s)
        assert later.is_over
    assert nodes.left == [], "what it learnt it keeps, as long as answers need it"


def test_the_patience_doubles_only_after_all_nodes_were_silent_and_not_for_ever() -> None:
    nodes = Nodes(3, {NEVER: inf})
    nodes.ask(NEVER)
    nodes.until(120.0)
    turns = [0.0, *nodes.left]
    waits = [after - before for before, after in pairwise(turns)]
    assert waits[:15] == pytest.approx([1.0] * 3 + [2.0] * 3 + [4.0] * 3 + [8.0] * 6, abs=0.3), "dialling may be slow"


def test_quick_answers_do_not_shorten_the_patience_that_a_slow_one_needs() -> None:
    nodes = Nodes(3, {QUICK: 0.01, SLOW: 3 * PACE.patience_s})
    for tenth in range(400):
        nodes.ask_at(tenth / 10, QUICK)
    slow = nodes.ask(SLOW)
    nodes.until(40.0)
    assert slow.is_over


def test_nodes_that_hang_one_after_the_other_cost_one_patience_each() -> None:
    nodes = Nodes(3, {QUICK: 0.01})
    for _ in range(40):
        nodes.hanging = nodes.asked
        begun, call = nodes.now, nodes.ask(QUICK)
        nodes.until(begun + 1.5 * PACE.patience_s)
        assert call.is_over
        nodes.until(begun + 5.0)
    assert len(nodes.left) == 40


def test_a_slow_call_is_answered_though_quick_ones_are_sent_again_beside_it() -> None:
    """They say nothing of how long it takes: no node was silent about them."""
    nodes = Nodes(3, {QUICK: 0.9 * PACE.patience_s, SLOW: 3 * PACE.patience_s})
    for twentieth in range(800):
        nodes.ask_at(twentieth / 20, QUICK)
    slow = nodes.ask(SLOW)
    nodes.until(40.0)
    assert slow.is_over


def test_a_patience_that_nothing_needs_any_more_is_given_up() -> None:
    nodes = Nodes(3, {QUICK: 0.01, NEVER: inf})
    call = nodes.ask(NEVER)
    nodes.until(60.0)
    nodes.core.forget(call, nodes.now)
    for second in range(60, 90):
        nodes.ask_at(float(second), QUICK)
    nodes.until(90.5)
    nodes.left.clear()
    nodes.ask(NEVER)
    nodes.until(91.5)
    assert nodes.left == [90.5 + PACE.patience_s]


def test_a_vote_that_comes_after_the_read_was_sent_through_the_log_counts() -> None:
    nodes = Nodes(2, {SLOW: 3 * PACE.read_patience_s}, Bears(1, 4))
    call = nodes.ask(SLOW)
    nodes.until(2 * PACE.read_patience_s)
    assert len(nodes.commands) == 2, "one for each node that is reached, too few for the log"
    assert not call.is_over
    nodes.until(3 * PACE.read_patience_s)
    assert (call.is_over, call.result) == (True, b"")


def test_a_read_that_the_log_refuses_is_asked_again_later_and_later() -> None:
    nodes = Nodes(4, {NEVER: inf}, Bears(1, 4), refuses=True)
    nodes.ask(NEVER)
    nodes.until(60.0)
    requests = {command.id for command in nodes.commands}
    assert 60.0 / PACE.resend_s_max <= len(requests) <= 60.0 / PACE.resend_s_max + 5, (
        "each is one more entry of the log"
    )


def test_what_any_node_may_answer_is_never_a_matter_of_the_log() -> None:
    nodes = Nodes(1, {SLOW: 20 * PACE.read_patience_s}, Bears(1, 4))
    call = nodes.ask(SLOW, LOCAL)
    nodes.until(20 * PACE.read_patience_s)
    assert (call.is_over, call.result) == (True, b"")
    assert nodes.commands == []


def ask_in_vain(nodes: Nodes, body: bytes, within_s: float, end: float) -> None:
    """One call after the other, none of which waits for as long as the client's patience."""
    while nodes.now < end:
        call = nodes.ask(body, within_s=within_s)
        nodes.until(nodes.now + within_s)
        assert call.is_over


@pytest.mark.parametrize("within_s", [PACE.patience_s / 4, PACE.patience_s / 3, PACE.patience_s])
def test_a_node_that_hangs_is_left_though_no_call_waits_for_as_long_as_the_patience(within_s: float) -> None:
    """The process is stopped, so that its links stay, and each call ends before it is sent elsewhere."""
    nodes = Nodes(3, {NEVER: inf})
    ask_in_vain(nodes, NEVER, within_s, 3 * PACE.patience_s)
    assert nodes.left
    assert nodes.left[0] <= PACE.patience_s + within_s


def test_a_node_whose_answers_come_too_late_for_each_call_is_not_left() -> None:
    """It lives, and the next one need not be quicker: the answers are of no use, but they come."""
    nodes = Nodes(3, {SLOW: PACE.patience_s / 3})
    ask_in_vain(nodes, SLOW, PACE.patience_s / 4, 10 * PACE.patience_s)
    assert nodes.left == []


def test_a_call_that_nobody_answered_long_ago_does_not_cost_the_link() -> None:
    nodes = Nodes(3, {NEVER: inf, QUICK: 0.0})
    ask_in_vain(nodes, NEVER, PACE.patience_s / 4, PACE.patience_s / 8)
    nodes.until(10 * PACE.patience_s)
    assert not nodes.ask(QUICK).is_over
    nodes.until(nodes.now)
    ask_in_vain(nodes, NEVER, PACE.patience_s / 4, nodes.now + PACE.patience_s / 2)
    assert nodes.left == []
