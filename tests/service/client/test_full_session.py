"""A session of which replicas keep as many results as they may: new commands wait for the oldest that is open."""

import pytest

from quorate.service.client import session as module
from quorate.service.client.call import COMMAND, QUERY, ClientCall
from quorate.service.client.errors import OutcomeUnknown, Unreachable
from quorate.service.requests import Apply, decode_client_command

from tests.service.client.test_expired import Linked

ROOM = 4


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Linked:
    monkeypatch.setattr(module, "UNANSWERED_PER_SESSION_MAX", ROOM)
    return Linked()


def begin(client: Linked, count: int) -> list[ClientCall]:
    calls = [ClientCall(COMMAND, b"%d" % number, 5.0) for number in range(count)]
    for call in calls:
        client.core.begin(call, client.now)
    return calls


def asked(client: Linked) -> dict[int, tuple[int, int]]:
    """By serial, what was sent since the last look: the request, and below which serial all is answered."""
    found = {}
    for request in client.sent():
        command = decode_client_command(request.entry)
        assert isinstance(command, Apply)
        found[command.serial] = (request.id, command.answered_below)
    return found


def test_one_command_that_is_not_answered_stops_the_others_before_replicas_refuse_them(client: Linked) -> None:
    first = asked(client)[1][0]
    calls = begin(client, 8)
    sent = asked(client)
    assert list(sent) == [2, 3, 4]
    for serial in sent:
        client.answer(sent[serial][0], b"done")
    assert client.sent() == []
    client.answer(first, b"done")
    assert asked(client).keys() == {5, 6, 7, 8}
    assert [call.result for call in calls[:4]] == [b"done"] * 3 + [None]


def test_reads_pass_a_full_session(client: Linked) -> None:
    begin(client, 8)
    client.core.out.sends.clear()
    client.core.begin(ClientCall(QUERY, b"read", 5.0), client.now)
    assert len(client.core.out.sends) == 1


def test_a_command_that_nobody_waits_for_any_more_makes_room(client: Linked) -> None:
    begin(client, 8)
    assert list(asked(client)) == [1, 2, 3, 4]
    client.core.forget(client.call, client.now)
    assert [(serial, below) for serial, (_, below) in asked(client).items()] == [(5, 2)]


def test_what_waits_for_a_full_session_ends_in_time(client: Linked) -> None:
    calls = begin(client, 8)
    client.pass_time(6.0)
    assert all(call.is_over for call in calls)
    assert [type(call.error) for call in calls] == [OutcomeUnknown] * 3 + [Unreachable] * 5
