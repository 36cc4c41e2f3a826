"""What a request says of how long somebody waits, and of who: the time left when it is sent, the same asker always."""

from __future__ import annotations

from math import inf
from random import Random
from typing import Any

import pytest

from quorate.parts.crypto.keys import Symbolic
from quorate.runtime.handshake import Bears, Greeted
from quorate.service.client.call import CHANGE, COMMAND, QUERY, ClientCall
from quorate.service.client.core import ClientCore
from quorate.service.client.endpoints import Endpoints
from quorate.service.client.pace import Pace
from quorate.service.requests import REMAINING_MS_MAX, AskStatus, Command, Query, Reconfigure, Result, decode_request

PACE = Pace()


def client(nodes: int = 1, seed: int = 1) -> ClientCore:
    endpoints = Endpoints(f"n{node}.sim:7400" for node in range(nodes))
    core = ClientCore(endpoints, Random(seed), lambda: Symbolic(range(4)).client(1), PACE, timeout_s=5.0)
    core.start(0.0)
    return core


def connect(core: ClientCore, now: float, greeted: Greeted) -> None:
    dials, core.out.dials[:] = list(core.out.dials), []
    for at in dials:
        core.opened(at, at, greeted, now)


def sent(core: ClientCore, now: float) -> list[Any]:
    """The requests that leave now."""
    core.settle(now)
    requests = [decode_request(item.payload) for _, item in core.out.sends]
    core.out.sends.clear()
    return [request for request in requests if not isinstance(request, AskStatus)]


def test_a_request_says_what_is_left_when_it_is_sent() -> None:
    core = client()
    connect(core, 0.0, Greeted("", None))
    core.begin(ClientCall(QUERY, b"q", 5.0), 0.0)
    [first] = sent(core, 0.0)
    assert isinstance(first, Query)
    assert first.remaining_ms == 5000
    core.tick(PACE.patience_s)
    assert sent(core, PACE.patience_s) == [], "the silent node gets no second copy to work on"
    connect(core, PACE.patience_s, Greeted("", None))
    [again] = sent(core, PACE.patience_s)
    assert (again.id, again.asker, again.remaining_ms) == (first.id, first.asker, 4000)


def test_so_do_commands_and_changes() -> None:
    core = client()
    connect(core, 0.0, Greeted("", None))
    core.begin(ClientCall(COMMAND, b"c", 5.0), 0.0)
    [opening] = sent(core, 0.0)
    assert opening.remaining_ms == 0, "a session is opened for whoever needs one"
    core.received(0, [Result(opening.id, b"7")], 1.5)
    [command] = sent(core, 1.5)
    assert isinstance(command, Command)
    assert command.remaining_ms == 3500
    core.begin(ClientCall(CHANGE, b"members", 9.0), 2.0)
    [change] = sent(core, 2.0)
    assert isinstance(change, Reconfigure)
    assert change.remaining_ms == 7000


def test_where_clients_vote_too() -> None:
    core = client(4)
    connect(core, 0.0, Greeted("c", Bears(1, 4)))
    connect(core, 0.0, Greeted("c", Bears(1, 4)))
    for body, deadline in ((b"a", 3.0), (b"b", 5.0)):
        core.begin(ClientCall(QUERY, body, deadline), 0.0)
    asked = sent(core, 0.0)
    assert {(request.query, request.remaining_ms) for request in asked} == {(b"a", 3000), (b"b", 5000)}
    assert len({request.asker for request in asked}) == 1
    core.tick(PACE.read_patience_s)
    inspects = sent(core, PACE.read_patience_s)
    assert {request.remaining_ms for request in inspects} == {4500}, "in one request the longest"


@pytest.mark.parametrize(
    ("deadline", "left"), [(inf, 0), (0.0, 1), (-5.0, 1), (1e12, REMAINING_MS_MAX), (0.0004, 1), (1.25, 1250)]
)
def test_what_is_left_is_a_number_that_travels(deadline: float, left: int) -> None:
    assert ClientCall(QUERY, b"", deadline).remaining_ms(0.0) == left


def test_clients_differ() -> None:
    askers = set()
    for seed in range(3):
        core = client(seed=seed)
        connect(core, 0.0, Greeted("", None))
        core.begin(ClientCall(QUERY, b"q", 5.0), 0.0)
        [request] = sent(core, 0.0)
        askers.add(request.asker)
    assert len(askers) == 3
    assert 0 not in askers
