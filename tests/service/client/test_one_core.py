"""Bugs planted in the client's core are seen by people's client on a loopback socket, as by the simulator's clients.

Each test makes one promise of the client's, which holds with the healthy core and fails with the sick one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import msgspec
import pytest

from quorate.runtime.handshake import Bears, LocalNode
from quorate.runtime.listener import ClientConnection, ClientListener
from quorate.service.client.aio import AsyncClient, Connection
from quorate.service.client.core import ClientCore
from quorate.service.client.errors import NoQuorum, OutcomeUnknown, QuorateError, Refused, Unreachable
from quorate.service.requests import Query, Result, decode_request, encode
from quorate.trials.campaign import Task, run_task
from quorate.trials.client_mutants import MUTANTS, VOTING_MUTANTS

from tests.ports import free_ports
from tests.runtime.servers import run, servers, until

SEEDS = 40


async def each_put_is_made(folder) -> None:
    """And the store's revision tells."""
    async with servers(folder) as cluster, cluster.client() as client:
        revisions = [await client.put(b"k%d" % number, b"v") for number in range(6)]
        assert revisions == list(range(revisions[0], revisions[0] + 6))
        assert len((await client.range(b"k", b"l")).kvs) == 6


async def what_certainly_failed_has_no_effect(folder) -> None:
    """Answers are lost; the command takes effect all the same."""
    async with servers(folder) as cluster, cluster.client() as client:
        await client.put(b"first", b"")
        for running in cluster.running.values():
            running.node.reply = lambda *_: None
        client.timeout_s = 0.4
        with pytest.raises(QuorateError) as failure:
            await client.put(b"k", b"v")
        for running in cluster.running.values():
            del running.node.reply
        client.timeout_s = 20.0
        await until(lambda: any(server.replica.applied_index >= 3 for server in cluster.running.values()))
        if isinstance(failure.value, Unreachable | NoQuorum | Refused):
            assert await client.get(b"k") is None, "it was said to have failed"
        assert isinstance(failure.value, OutcomeUnknown)


async def one_liar_is_not_believed(_) -> None:
    """It answers at once, and the honest ones when it has."""
    has_lied = asyncio.Event()

    def listener(node: int, port: int) -> ClientListener:
        answering: set[asyncio.Task[None]] = set()

        async def answer_later(connection: ClientConnection, request: Query) -> None:
            await has_lied.wait()
            connection.reply(encode(Result(request.id, b"the truth")))

        def on_frames(connection: ClientConnection, frames: list[bytes]) -> None:
            for request in map(decode_request, frames):
                if not isinstance(request, Query):
                    continue
                if node == 0:
                    connection.reply(encode(Result(request.id, b"a lie")))
                    asyncio.get_running_loop().call_soon(has_lied.set)
                else:
                    task = asyncio.ensure_future(answer_later(connection, request))
                    answering.add(task)
                    task.add_done_callback(answering.discard)

        me = LocalNode("test", "pbft", node, frozenset(range(4)), Bears(1, 4))
        return ClientListener("127.0.0.1", port, me, lambda _: None, on_frames, lambda _, __: None)

    async with AsyncExitStack() as stack:
        ports = free_ports(4)
        for node, port in enumerate(ports):
            made = listener(node, port)
            await made.start()
            stack.push_async_callback(made.stop)
        async with AsyncClient([f"127.0.0.1:{port}" for port in ports], timeout_s=20.0) as client:
            for _turn in range(20):
                has_lied.clear()
                assert await client.query(b"q", serializable=True) == b"the truth"


PROMISES: dict[str, Callable[..., Awaitable[None]]] = {
    "serial-twice": each_put_is_made,
    "unknown-as-failed": what_certainly_failed_has_no_effect,
    "believes-f": one_liar_is_not_believed,
}
PLANTED = {mutant.name: mutant for mutant in (*MUTANTS, *VOTING_MUTANTS)}


def test_every_mutant_of_the_client_has_its_promise() -> None:
    assert PLANTED.keys() == PROMISES.keys()


@pytest.mark.parametrize("name", PROMISES)
def test_people_s_client_keeps_its_promise(name: str, tmp_path) -> None:
    assert Connection.core_type is ClientCore
    run(PROMISES[name](tmp_path))


@pytest.mark.parametrize("name", PROMISES)
def test_people_s_client_breaks_it_with_the_bug(name: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "core_type", PLANTED[name].client)
    with pytest.raises(AssertionError):
        run(PROMISES[name](tmp_path))


@pytest.mark.parametrize("name", PROMISES)
def test_the_simulator_sees_the_same_bug(name: str) -> None:
    protocol, nodes = ("pbft", 4) if PLANTED[name].lies else ("raft", 5)
    liars = "deceiving" if PLANTED[name].lies else "all"
    task = Task(protocol=protocol, nodes=nodes, seed=0, mutant=name, adversary=liars)
    tasks = (msgspec.structs.replace(task, seed=seed) for seed in range(SEEDS))
    assert any(not outcome.holds for outcome in map(run_task, tasks))
