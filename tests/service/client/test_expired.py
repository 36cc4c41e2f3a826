"""A session that has expired, without sockets: what is known of the command depends on how often it was sent."""

from random import Random

import pytest

from quorate.parts.crypto.keys import Symbolic
from quorate.runtime.handshake import Greeted
from quorate.service.client.call import COMMAND, ClientCall
from quorate.service.client.core import ClientCore
from quorate.service.client.endpoints import Endpoints
from quorate.service.client.errors import Busy, NoQuorum, SessionExpired
from quorate.service.client.pace import Pace
from quorate.service.requests import (
    Apply,
    Code,
    Command,
    Failure,
    OpenSession,
    Response,
    Result,
    decode_client_command,
    decode_request,
)

PACE = Pace()


class Linked:
    """A core with a link to the only node."""

    def __init__(self) -> None:
        scheme = Symbolic(range(4), b"expired")
        self.core = ClientCore(Endpoints(["n1:1"]), Random(1), lambda: scheme.client(1), PACE, timeout_s=5.0)
        self.now = 0.0
        self.core.start(self.now)
        self.link()
        self.call = ClientCall(COMMAND, b"body", 5.0)
        self.core.begin(self.call, self.now)
        self.answer(self.sent()[0].id, b"7")

    def link(self) -> None:
        self.core.opened(0, 1, Greeted("", None), self.now)

    def sent(self) -> list[Command]:
        """The commands since the last look."""
        requests = [decode_request(item.payload) for _, item in self.core.out.sends]
        self.core.out.sends.clear()
        return [request for request in requests if isinstance(request, Command)]

    def respond(self, response: Response) -> None:
        self.core.received(0, [response], self.now)

    def answer(self, request: int, data: bytes) -> None:
        self.respond(Result(request, data))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.core.tick(self.now)


@pytest.fixture
def client() -> Linked:
    return Linked()


def expired(request: int) -> Failure:
    return Failure(request, Code.NO_SESSION, "session 7 has expired")


def test_a_command_that_was_sent_once_did_nothing_and_goes_into_another_session(client: Linked) -> None:
    [command] = client.sent()
    client.respond(expired(command.id))
    [opening] = client.sent()
    assert isinstance(decode_client_command(opening.entry), OpenSession)
    client.answer(opening.id, b"9")
    [again] = client.sent()
    assert decode_client_command(again.entry) == Apply(9, 1, 1, b"body")
    client.answer(again.id, b"done")
    assert (client.call.result, client.call.error) == (b"done", None)


def test_a_command_that_was_sent_twice_may_have_taken_effect(client: Linked) -> None:
    [command] = client.sent()
    client.core.lost(0, "hung up", client.now)
    client.link()
    assert [again.id for again in client.sent()] == [command.id]
    client.respond(expired(command.id))
    assert isinstance(client.call.error, SessionExpired)
    assert client.sent() == []


def test_a_command_that_a_leader_lost_may_have_taken_effect(client: Linked) -> None:
    [command] = client.sent()
    client.respond(Failure(command.id, Code.LEADER_CHANGED, "node 1 leads now"))
    client.pass_time(2 * PACE.sweep_s)
    assert [again.id for again in client.sent()] == [command.id]
    client.respond(expired(command.id))
    assert isinstance(client.call.error, SessionExpired)


def test_no_other_session_in_time_is_a_definite_failure(client: Linked) -> None:
    [command] = client.sent()
    client.respond(expired(command.id))
    client.pass_time(6.0)
    assert isinstance(client.call.error, NoQuorum)
    assert "not sent" in str(client.call.error)


# --- busy ---


def test_what_a_busy_node_refuses_is_sent_again_ever_later_and_never_at_once(client: Linked) -> None:
    delays = []
    for _ in range(8):
        [command] = client.sent()
        client.respond(Failure(command.id, Code.BUSY, "too many requests wait", 1))
        refused_at = client.now
        while not client.core.out.sends:
            client.pass_time(0.005)
        delays.append(client.now - refused_at)
    assert PACE.sweep_s / 2 <= delays[0] <= PACE.sweep_s + 0.01
    assert all(PACE.busy_s_max / 2 <= delay <= PACE.busy_s_max + 0.01 for delay in delays[3:])
    assert len(set(delays[3:])) > 1, "not all in step"


def test_nodes_that_are_busy_all_the_time_are_a_definite_failure_with_a_name_of_its_own(client: Linked) -> None:
    while client.call.error is None:
        for command in client.sent():
            client.respond(Failure(command.id, Code.BUSY, "too many requests wait", 1))
        client.pass_time(0.05)
    assert isinstance(client.call.error, Busy)
    assert "Nothing happened" in str(client.call.error)


def test_a_client_that_was_refused_holds_back_what_comes_next_and_that_was_never_sent(client: Linked) -> None:
    [first] = client.sent()
    client.respond(Failure(first.id, Code.BUSY, "too many requests wait", 1))
    later = [ClientCall(COMMAND, b"%d" % number, client.now + 2.0) for number in range(4)]
    for call in later:
        client.core.begin(call, client.now)
    assert client.sent() == [], "the node is left alone"
    client.pass_time(PACE.sweep_s)
    assert [command.id for command in client.sent()] == [first.id], "one at a time"
    client.answer(first.id, b"done")
    assert [decode_client_command(command.entry).operation for command in client.sent()] == [b"3", b"2"]
    client.pass_time(2.5)
    assert isinstance(later[1].error, Busy), "it was held back until its time was up"
