"""Whom a client asks what its cluster bears, before it asks for anything else."""

from math import inf
from random import Random

from quorate.parts.crypto.keys import Symbolic
from quorate.runtime.handshake import Bears, Greeted
from quorate.service.client.call import QUERY, ClientCall
from quorate.service.client.core import ClientCore
from quorate.service.client.endpoints import Endpoints
from quorate.service.client.pace import Pace

PACE = Pace(sweep_s=0.1, redial_s_max=0.8)
FIVE, SIX, SEVEN = (Greeted("", Bears(1, nodes)) for nodes in (5, 6, 7))


def dialled(core: ClientCore, now: float) -> list[int]:
    """The addresses that it calls."""
    core.tick(now)
    found = sorted(core.out.dials)
    core.out.dials.clear()
    return found


def test_who_has_greeted_is_asked_again_when_enough_have_and_too_few_agree() -> None:
    """One greeted before nodes joined, the other after it; the rest is gone for good, so nobody else ever will."""
    scheme = Symbolic(range(7), b"greetings")
    endpoints = Endpoints(f"n{number}:1" for number in range(5))
    core = ClientCore(endpoints, Random(1), lambda: scheme.client(1), PACE, timeout_s=60.0, faults=1)
    core.start(0.0)
    core.begin(ClientCall(QUERY, b"", inf), 0.0)
    assert dialled(core, 0.0) == [0, 1, 2, 3, 4]
    core.opened(0, 0, FIVE, 0.0)
    core.opened(1, 1, SEVEN, 0.0)
    for gone in (2, 3, 4):
        core.unreached(gone, "connection refused", 0.0)
    assert core.voting is None
    assert dialled(core, 0.05) == []
    assert dialled(core, 0.1) == [0, 1, 2, 3, 4]
    core.opened(0, 0, FIVE, 0.1)  # it has not heard of the change yet
    for gone in (2, 3, 4):
        core.unreached(gone, "connection refused", 0.1)
    assert core.voting is None
    assert dialled(core, 0.25) == []
    assert 0 in dialled(core, 0.31)
    core.opened(0, 0, SEVEN, 0.31)
    assert core.voting is not None
    assert core.voting.bears == Bears(1, 7)


def test_what_a_node_said_before_counts_no_more() -> None:
    """It has one voice: two different things that it said are not those of two nodes."""
    scheme = Symbolic(range(7), b"greetings")
    endpoints = Endpoints(f"n{number}:1" for number in range(5))
    core = ClientCore(endpoints, Random(1), lambda: scheme.client(1), PACE, timeout_s=60.0, faults=1)
    core.start(0.0)
    assert dialled(core, 0.0) == [0, 1, 2, 3, 4]
    core.opened(0, 0, FIVE, 0.0)
    assert dialled(core, 0.1) == [], "others are to be heard first"
    core.opened(1, 1, SEVEN, 0.1)
    assert dialled(core, 0.2) == [0, 1]
    core.opened(0, 0, SIX, 0.2)
    core.opened(2, 2, FIVE, 0.2)
    assert core.voting is None
    core.opened(3, 3, SIX, 0.2)
    assert core.voting is not None
    assert core.voting.bears == SIX.bears
