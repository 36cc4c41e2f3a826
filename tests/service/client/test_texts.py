"""What the errors of clients say: which argument, which host, and what is known of the outcome, no more and no less."""

import random
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest

from quorate.machines.kv import commands as kv
from quorate.service.client.aio import AsyncClient
from quorate.service.client.call import CHANGE, COMMAND, LOCAL, QUERY, ClientCall
from quorate.service.client.core import ClientCore
from quorate.service.client.endpoints import Endpoints
from quorate.service.client.errors import NoQuorum, NotRunning, OutcomeUnknown, TooLarge, Unreachable
from quorate.service.client.pace import Pace
from quorate.service.client.session import ClientSession
from quorate.service.client.sync import Client
from quorate.service.client.voting import _error_of
from quorate.service.requests import Code

from tests.runtime.servers import run, servers

NOBODY = "127.0.0.1:9"


def no_signer() -> Any:
    raise AssertionError("nothing is signed")


def core() -> ClientCore:
    return ClientCore(Endpoints(NOBODY), random.Random(1), no_signer, Pace(), timeout_s=3.0)


# --- keys and values ---

WRONG: list[tuple[Any, str]] = [
    (lambda c: c.put("a", b"b"), r"^key: bytes must be given, not str: write 'a'\.encode\(\)$"),
    (lambda c: c.put(b"a", "b"), r"^value: bytes must be given, not str: write 'b'\.encode\(\)$"),
    (lambda c: c.put(b"a", "b" * 100), r"^value: .* not str: encode the text first$"),
    (lambda c: c.put(b"a", 1), r"^value: bytes must be given, not int: encode it first"),
    (lambda c: c.put(b"a", None), r"^value: bytes must be given, not NoneType"),
    (lambda c: c.get("a"), r"^key: bytes must be given"),
    (lambda c: c.range(b"a", "b"), r"^range_end: bytes must be given"),
    (lambda c: c.delete("a"), r"^key: bytes must be given"),
    (lambda c: c.txn([], [kv.Put("a", b"b")]), r"^key: bytes must be given"),
    (lambda c: c.txn([], [kv.Txn([], [], [kv.DeleteRange("a")])]), r"^key: bytes must be given"),
    (lambda c: c.txn([kv.Compare("a", kv.Target.MOD, kv.Relation.EQUAL, 0)], []), r"^key: bytes must be given"),
    (
        lambda c: c.txn([kv.Compare(b"a", kv.Target.VALUE, kv.Relation.EQUAL, "v")], []),
        r"^operand: bytes, or an int,",
    ),
]


@pytest.mark.parametrize(("call", "text"), WRONG, ids=[text for _, text in WRONG])
def test_text_and_the_like_are_refused_before_anything_is_sent(call: Any, text: str) -> None:
    async def main() -> None:
        async with AsyncClient(NOBODY, timeout_s=30) as client:
            with pytest.raises(TypeError, match=text):
                await call(client)

    run(main())
    with Client(NOBODY, timeout_s=30) as client, pytest.raises(TypeError, match=text):
        call(client)


def test_what_is_like_bytes_is_taken(tmp_path) -> None:
    async def main() -> None:
        async with servers(tmp_path, nodes=1) as cluster, cluster.client() as client:
            await client.put(bytearray(b"a"), memoryview(b"b"))
            found = await client.get(b"a")
            assert found is not None
            assert found.value == b"b"

    run(main())


# --- outcomes ---


@pytest.mark.parametrize("kind", [QUERY, LOCAL])
@pytest.mark.parametrize("may_happen", [True, False])
@pytest.mark.parametrize("is_refused", [True, False])
def test_a_read_never_says_that_it_may_take_effect(kind: int, may_happen: bool, is_refused: bool) -> None:
    error = core().silent(ClientCall(kind, b"", 0.0), (may_happen, is_refused, "a reason"))
    assert isinstance(error, NoQuorum | Unreachable)
    assert "effect" not in str(error)
    assert "within 3 s" in str(error)
    assert "a reason" in str(error)


def test_a_command_without_a_session_was_not_sent_and_one_with_may_take_effect() -> None:
    call = ClientCall(COMMAND, b"", 0.0)
    error = core().silent(call, (True, False, "a reason"))
    assert isinstance(error, NoQuorum)
    assert str(error) == "no session could be opened within 3 s, so the command was not sent: a reason"
    call.session = ClientSession(1)
    for found in (
        core().silent(call, (True, False, "a reason")),
        core().silent(ClientCall(CHANGE, b"", 0.0), (True, False, "x")),
    ):
        assert isinstance(found, OutcomeUnknown)
        assert "may still take effect" in str(found)
    assert isinstance(core().silent(call, (False, True, "a reason")), NoQuorum)


def test_what_closing_ends_says_what_is_known_and_why() -> None:
    for kind, was_sent, expected, text in (
        (COMMAND, False, Unreachable, "the node has stopped"),
        (COMMAND, True, OutcomeUnknown, "the node has stopped; the command may have taken effect, or may still"),
        (QUERY, True, NoQuorum, "the node has stopped"),
    ):
        client = core()
        client.start(0.0)
        call = ClientCall(kind, b"", 9.0)
        client.begin(call, 0.0)
        call.sent = was_sent
        client.close(1.0, "the node has stopped")
        assert type(call.error) is expected
        assert str(call.error) == text
        later = ClientCall(kind, b"", 9.0)
        client.begin(later, 2.0)
        assert type(later.error) is NotRunning


def test_too_large_says_whether_the_command_took_effect() -> None:
    command, read = (TooLarge.answer("the answer has 9 bytes", is_read=is_read) for is_read in (False, True))
    assert (command.took_effect, read.took_effect) == (True, False)
    assert str(command) == "the command took effect, but the answer has 9 bytes: ask for less at once"
    assert str(read) == "the answer has 9 bytes: ask for less at once"
    voted = [_error_of(Code.TOO_LARGE, "a reason", is_read) for is_read in (False, True)]
    assert [isinstance(error, TooLarge) and error.took_effect for error in voted] == [True, False]
    again = ForkingPickler.loads(ForkingPickler.dumps(command))
    assert (str(again), again.took_effect) == (str(command), True)


# --- hosts ---


def test_the_host_that_could_not_be_looked_up_is_named(monkeypatch) -> None:
    def look_up(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    monkeypatch.setattr("quorate.runtime.names.NAMES._look_up", look_up)
    with (
        Client("nohost.invalid:7401", timeout_s=0.2) as client,
        pytest.raises(
            Unreachable, match=r"nohost\.invalid:7401: the name 'nohost\.invalid' could not be looked up: no such"
        ),
    ):
        client.get(b"k")


def test_a_client_says_whose_it_is() -> None:
    with Client([NOBODY, "[::1]:9"]) as client:
        assert repr(client) == f"<Client of {NOBODY},[::1]:9>"
    assert repr(AsyncClient(NOBODY)) == f"<AsyncClient of {NOBODY}>"
