"""Whatever one node sends to a client, if anything: the other three answer it, and it bears with the fourth.

Three real servers speak PBFT; in the place of the fourth is one that greets as they do and then sends what it likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from quorate.machines.kv import commands as kv
from quorate.protocols.pbft import PbftConfig
from quorate.runtime.address import parse_address
from quorate.runtime.framing import FrameLimits
from quorate.runtime.handshake import Bears, LocalNode
from quorate.runtime.listener import ClientConnection, ClientListener
from quorate.service.client import aio
from quorate.service.client import link as links
from quorate.service.client.aio import AsyncClient
from quorate.service.client.pace import Pace
from quorate.service.requests import (
    AskStatus,
    Code,
    Command,
    Failure,
    Query,
    Request,
    Result,
    Results,
    Status,
    decode_request,
    encode,
)

from tests.ports import free_ports
from tests.runtime.servers import run, servers, until

FAST = PbftConfig(request_timeout_s=0.6, beat_s=0.1)
Answer = Callable[[ClientConnection, Request], None]


def says(*replies: Callable[[int], object]) -> Answer:
    """Sends these for every request; each is made of the request's id."""

    def answer(connection: ClientConnection, request: Request) -> None:
        for reply in replies:
            made = reply(request.id)
            connection.reply(made if isinstance(made, bytes) else encode(made))

    return answer


def results(*answers: Result | Failure) -> Callable[[int], Results]:
    return lambda number: Results(number, answers)


LIE = kv.encode(kv.PutResult(99))

HOSTILE: dict[str, Answer] = {
    "nothing": says(),
    "garbage": says(lambda _: b"\xc1"),
    "a bomb": says(lambda _: b"\x91" * 5_000),
    "a lie a thousand times": says(*[results(Result(0, LIE))] * 1_000),
    "a lie for every place there may be": says(results(*(Result(place, LIE) for place in range(1_024)))),
    "many answers to one place": says(results(*[Result(0, LIE)] * 1_024)),
    "answers to requests that were not made": says(lambda number: Results(number + 7, (Result(0, LIE),))),
    "a result where results are due": says(lambda number: Result(number, LIE)),
    "another session": says(results(Result(0, b"12345"))),
    "no session": says(results(Failure(0, Code.NO_SESSION, "expired"))),
    "no session for all": says(lambda number: Failure(number, Code.NO_SESSION, "expired")),
    "that it is too large": says(lambda number: Failure(number, Code.TOO_LARGE, "\x1b[31m" * 1_000)),
    "another leader": says(lambda number: Failure(number, Code.LEADER_CHANGED, "node 9 leads", 9)),
    "a status": says(lambda number: Status(number, 9, "raft", "leader", 9, 1, 1, 1, 1)),
    "first one thing and then another": says(
        results(Result(0, b"1")), results(Result(0, LIE)), results(Failure(0, Code.MALFORMED, ""))
    ),
    "goodbye": lambda connection, _: connection.cut("goodbye"),
}


@asynccontextmanager
async def with_a_fourth(folder: Path, answer: Answer, name: int = 4) -> AsyncIterator[tuple[AsyncClient, set[str]]]:
    """A client of three honest nodes and a hostile one; the kinds of request that the hostile one has had."""
    asked: set[str] = set()

    def on_frames(connection: ClientConnection, frames: list[bytes]) -> None:
        for frame in frames:
            request = decode_request(frame)
            asked.add(type(request).__name__)
            if not isinstance(request, AskStatus):
                answer(connection, request)

    async with servers(folder, 4, start=False, protocol="pbft", options=FAST) as cluster:
        await cluster.start(1, 2, 3)
        host, port = parse_address(cluster.members[4].client)
        me = LocalNode("test", "pbft", name, frozenset(cluster.ids), Bears(1, 4))
        listener = ClientListener(host, port, me, lambda _: None, on_frames, lambda _, __: None)
        await listener.start()
        try:
            async with cluster.client(4, 1, 2, 3) as client:
                yield client, asked
        finally:
            await listener.stop()


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_the_others_answer(tmp_path, answer: Answer) -> None:
    async def main() -> None:
        async with with_a_fourth(tmp_path, answer) as (client, asked):
            first = await client.put(b"k", b"0")
            revisions = await asyncio.gather(*(client.put(b"k", b"%d" % n) for n in range(50)))
            assert sorted(revisions) == list(range(first + 1, first + 51))
            found = await client.get(b"k")
            assert found is not None
            assert found.version == 51
            await until(lambda: asked >= {Command.__name__} or answer is HOSTILE["goodbye"])
            await client.query(kv.encode(kv.Range(b"k")), serializable=True)
            if answer is not HOSTILE["goodbye"]:
                await until(lambda: Query.__name__ in asked or answer in (HOSTILE["garbage"], HOSTILE["a bomb"]))
            assert not client.core.voting.requests

    run(main())


@pytest.mark.parametrize("name", [1, 2])
def test_one_that_says_it_is_another_has_one_vote_still(tmp_path, name: int) -> None:
    async def main() -> None:
        async with with_a_fourth(tmp_path, HOSTILE["a lie a thousand times"], name) as (client, _):
            assert await client.put(b"k", b"0") != 99
            assert (await client.get(b"k")).value == b"0"

    run(main())


def test_a_read_on_which_no_vote_can_be_won_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four nodes that were asked while something was written, each with another answer; the log has one."""
    monkeypatch.setattr(aio, "PACE", Pace(read_patience_s=60.0))

    async def main() -> None:
        async with AsyncExitStack() as stack:
            ports = free_ports(4)
            for node, port in enumerate(ports):

                def on_frames(connection: ClientConnection, frames: list[bytes], node: int = node) -> None:
                    for request in map(decode_request, frames):
                        if isinstance(request, Query):
                            connection.reply(encode(Result(request.id, b"%d" % node)))
                        else:
                            connection.reply(encode(Results(request.id, (Result(0, b"from the log"),))))

                me = LocalNode("test", "pbft", node, frozenset(range(4)), Bears(1, 4))
                listener = ClientListener("127.0.0.1", port, me, lambda _: None, on_frames, lambda _, __: None)
                await listener.start()
                stack.push_async_callback(listener.stop)
            async with AsyncClient([f"127.0.0.1:{port}" for port in ports], timeout_s=60.0) as client:
                async with asyncio.timeout(10.0):
                    assert await client.query(b"q") == b"from the log"

    run(main())


def test_one_that_takes_nothing_in_fills_no_memory(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads nothing: what waits for it has a limit, and is dropped with the link."""
    pauses: list[ClientConnection] = []

    def answer(connection: ClientConnection, _: Request) -> None:
        connection.pause()
        pauses.append(connection)

    monkeypatch.setattr(aio, "PACE", Pace(resend_s=60.0))
    limits = FrameLimits(1 << 20, 2 << 20, 65_536)
    monkeypatch.setattr(links, "LIMITS", limits)

    async def main() -> None:
        async with with_a_fourth(tmp_path, answer) as (client, _):
            whys = set()
            for _ in range(12):
                await asyncio.gather(*(client.put(b"%d" % n, bytes(100_000)) for n in range(8)))
                link = client._links.get(0)
                assert link is None or link.backlog_bytes <= limits.backlog_bytes_max
                whys.add(client.core.voting.nodes[0].why)
            assert pauses
            assert any("takes nothing of what it is sent" in why for why in whys)

    run(main())
