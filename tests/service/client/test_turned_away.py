"""A client whose node is of no use, while others still name that node as the leader.

Its disk takes nothing, and it says so; or it hangs, and says nothing.
"""

from __future__ import annotations

from math import inf
from random import Random

from quorate.parts.crypto.keys import Symbolic
from quorate.runtime.handshake import Greeted
from quorate.service.client.call import QUERY, ClientCall
from quorate.service.client.core import ClientCore
from quorate.service.client.endpoints import Endpoints
from quorate.service.client.pace import Pace
from quorate.service.requests import Code, Failure, Response, Status

HUNG = 0


def status(node: int, leader: int | None) -> Status:
    """What a node says when it is asked who leads."""
    return Status(0, node, "raft", "follower", leader, 1, 0, 0, 0)


class Client:
    """One call of a client of three nodes, of which the first has a disk that hangs. Lists where it turned."""

    def __init__(self, heard: int | None = None) -> None:
        """``heard``: whom the node that hangs knows as the leader; the others name that one."""
        self.heard = heard
        scheme = Symbolic(range(4), b"turned away")
        endpoints = Endpoints(f"n{number}:1" for number in range(3))
        self.core = ClientCore(endpoints, Random(1), lambda: scheme.client(1), Pace(), timeout_s=9.0)
        self.core.start(0.0)
        self.core.begin(ClientCall(QUERY, b"", inf), 0.0)
        self.visited: list[int] = []

    def meet(self, now: float) -> bool:
        """Open the link that it wants, if any, and have that node answer all that it got."""
        out = self.core.out
        if now >= out.wake_at:
            self.core.tick(now)
        if not out.dials:
            return False
        at = out.dials.pop()
        self.visited.append(at)
        out.hangups.clear()
        out.sends.clear()
        self.core.opened(at, at, Greeted("", None), now)
        asked = [call for _, call in out.sends if isinstance(call, ClientCall)]
        out.sends.clear()
        answers: list[Response] = [status(at, self.heard if at == HUNG else HUNG)]
        if at == HUNG:
            answers += [Failure(call.id, Code.STORAGE, "the disk hangs", None) for call in asked]
        self.core.received(at, answers, now)
        return True


def test_it_stays_with_a_node_that_passes_requests_on() -> None:
    client = Client()
    now = 0.0
    while now < 0.9:  # less than its patience with a node that says nothing
        client.meet(now)
        now += 0.01
    assert client.visited.count(HUNG) <= 2, client.visited
    assert client.visited[-1] != HUNG


def test_who_leads_by_its_own_account_goes_before_the_refusal_beside_it() -> None:
    """The node that hangs knows that it has made way for node 1, and refuses in the same moment."""
    client = Client(heard=1)
    client.meet(0.0)
    assert client.visited == [HUNG]
    client.meet(0.0)
    assert client.visited == [HUNG, 1]


def test_a_node_that_hangs_is_not_asked_again_until_another_leads() -> None:
    """A process that is stopped still takes calls: the kernel does. The others notice after an election timeout."""
    scheme = Symbolic(range(4), b"hangs")
    core = ClientCore(Endpoints("n0:1,n1:1,n2:1"), Random(1), lambda: scheme.client(1), Pace(), timeout_s=9.0)
    core.start(0.0)
    core.begin(ClientCall(QUERY, b"", inf), 0.0)
    visited: list[tuple[float, int]] = []
    for hundredth in range(150):
        now = hundredth / 100
        leader = HUNG if now < 1.3 else 1
        if now >= core.out.wake_at:
            core.tick(now)
        while core.out.dials:
            at = core.out.dials.pop()
            visited.append((round(now, 1), at))
            if at != HUNG or not now:
                core.opened(at, at, Greeted("", None), now)
                core.received(at, [status(at, leader)], now)
        if visited[-1][1] != HUNG:
            core.received(visited[-1][1], [status(visited[-1][1], leader)], now)
    assert visited == [(0.0, HUNG), (1.0, 1), (1.0, 2), (1.3, 1)], "it looks for the leader where it has not been"


def test_it_does_not_stay_with_a_witness_that_names_a_leader_which_failed_once() -> None:
    """Any other node would pass requests on to that one; a witness does not."""
    scheme = Symbolic(range(4), b"witness")
    core = ClientCore(Endpoints("n0:1,n1:1"), Random(1), lambda: scheme.client(1), Pace(), timeout_s=9.0)
    witness, leads, out = 0, 1, core.out
    core.start(0.0)
    call = ClientCall(QUERY, b"", inf)
    core.begin(call, 0.0)
    core.opened(out.dials.pop(), witness, Greeted("", None), 0.0)
    core.received(witness, [status(witness, leads)], 0.0)
    core.unreached(out.dials.pop(), "nobody listens", 0.1)
    core.tick(out.wake_at)
    core.opened(out.dials.pop(), witness, Greeted("", None), 1.0)
    core.received(witness, [status(witness, leads)], 1.0)
    assert not out.dials
    core.received(witness, [Failure(call.id, Code.STATELESS, "this node is a witness", leads)], 1.0)
    assert out.dials == [leads]
