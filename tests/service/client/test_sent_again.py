"""To whom a client of nodes that may lie sends a request again: those without an answer, and in the end all."""

from math import inf
from random import Random

from quorate.parts.crypto.keys import Symbolic
from quorate.runtime.handshake import Bears, Greeted
from quorate.service.client.call import COMMAND, ClientCall
from quorate.service.client.core import ClientCore
from quorate.service.client.endpoints import Endpoints
from quorate.service.client.pace import Pace
from quorate.service.requests import Command, Result, Results, decode_request

PACE = Pace(resend_s=1.0, resend_s_max=4.0)


def sent_at(core: ClientCore, now: float) -> list[tuple[int, int]]:
    """To whom what goes through the log was sent, and its number."""
    if core.has_unsigned:
        core.settle(now)
    requests = [(at, decode_request(item.payload)) for at, item in core.out.sends if not isinstance(item, ClientCall)]
    core.out.sends.clear()
    return [(at, request.id) for at, request in requests if isinstance(request, Command)]


def test_one_that_answered_is_sent_it_again_if_the_others_do_not() -> None:
    """They may have executed it, and remember no answer: then it has to be ordered again, by whoever leads."""
    scheme = Symbolic(range(4), b"again")
    endpoints = Endpoints(f"n{number}:1" for number in range(4))
    core = ClientCore(endpoints, Random(1), lambda: scheme.client(1), PACE, timeout_s=60.0, faults=1)
    core.start(0.0)
    while core.out.dials:
        core.opened(core.out.dials[0], core.out.dials.pop(0), Greeted("", Bears(1, 4)), 0.0)
    core.begin(ClientCall(COMMAND, b"", inf), 0.0)
    first = sent_at(core, 0.0)
    assert [at for at, _ in first] == [0, 1, 2, 3]
    number = first[0][1]
    core.received(0, [Results(number, (Result(0, b"mine"),))], 0.0)
    sent: dict[float, list[int]] = {}
    for now in range(1, 12):
        core.tick(now)
        if again := [at for at, request in sent_at(core, now) if request == number]:
            sent[now] = again
    assert sent == {1: [1, 2, 3], 3: [1, 2, 3], 7: [0, 1, 2, 3], 11: [0, 1, 2, 3]}
