"""How far the serials of a session may spread: one command that waits long must not have later ones refused."""

import pytest

from quorate.service.client.call import COMMAND, QUERY, ClientCall
from quorate.service.client.session import ClientSession
from quorate.service.requests import UNANSWERED_PER_SESSION_MAX, Apply, Command, Query, Result, decode_request
from quorate.service.requests import decode_client_command as decoded

from tests.service.client.test_expired import Linked


@pytest.fixture
def client() -> Linked:
    return Linked()


def opened() -> ClientSession:
    session = ClientSession(1)
    session.opened(b"7")
    return session


def test_a_session_has_room_until_its_serials_spread_too_far() -> None:
    session = opened()
    for _ in range(UNANSWERED_PER_SESSION_MAX - 1):
        assert session.has_room
        serial, _ = session.command(b"x")
        if serial > 1:
            session.answered(serial)
    assert session.has_room
    session.command(b"x")
    assert not session.has_room, "replicas keep the results of all but the first, which is still to come"
    session.answered(1)
    assert session.has_room


def test_a_session_in_which_all_is_answered_has_room_however_long_it_lasts() -> None:
    session = opened()
    for _ in range(2 * UNANSWERED_PER_SESSION_MAX):
        assert session.has_room
        session.answered(session.command(b"x")[0])


def applies(sent: list[Command]) -> dict[int, Apply]:
    """By the id of the request."""
    found = {request.id: decoded(request.entry) for request in sent}
    return {number: entry for number, entry in found.items() if isinstance(entry, Apply)}


def test_while_one_command_waits_later_ones_are_sent_only_as_far_as_replicas_keep_their_results(
    client: Linked,
) -> None:
    [oldest] = applies(client.sent())
    calls = [ClientCall(COMMAND, b"x", 5.0) for _ in range(UNANSWERED_PER_SESSION_MAX + 100)]
    for call in calls:
        client.core.begin(call, client.now)
    newest = 0
    while sent := applies(client.sent()):
        newest = max(newest, *(entry.serial for entry in sent.values()))
        for number in sent:
            client.answer(number, b"")
    assert newest == UNANSWERED_PER_SESSION_MAX
    assert sum(call.is_over for call in calls) == UNANSWERED_PER_SESSION_MAX - 1
    client.answer(oldest, b"")
    for number in applies(client.sent()):
        client.answer(number, b"")
    assert all(call.is_over and call.error is None for call in calls)


def test_once_nobody_waits_for_the_oldest_command_the_others_go_on(client: Linked) -> None:
    client.sent()  # its time is up after 5 s, that of the others after 60
    calls = [ClientCall(COMMAND, b"x", 60.0) for _ in range(UNANSWERED_PER_SESSION_MAX)]
    for call in calls:
        client.core.begin(call, client.now)
    while sent := applies(client.sent()):
        for number in sent:
            client.answer(number, b"")
    assert not all(call.is_over for call in calls)
    client.pass_time(5.1)
    client.link()
    while sent := applies(client.sent()):
        for number in sent:
            client.answer(number, b"")
    assert client.call.is_over
    assert all(call.is_over and call.error is None for call in calls)


def test_a_read_goes_out_while_a_session_has_no_room(client: Linked) -> None:
    client.sent()
    for _ in range(UNANSWERED_PER_SESSION_MAX):
        client.core.begin(ClientCall(COMMAND, b"x", 5.0), client.now)
        for number in applies(client.sent()):
            client.answer(number, b"")
    assert not client.core.session.has_room
    read = ClientCall(QUERY, b"q", 5.0)
    client.core.begin(read, client.now)
    [(_, item)] = client.core.out.sends
    request = decode_request(item.payload)
    assert isinstance(request, Query)
    client.respond(Result(request.id, b"found"))
    assert read.result == b"found"
