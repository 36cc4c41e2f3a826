"""Clients of nodes that may lie, against real servers that speak PBFT: one that lies or is gone changes nothing.

A liar here is a node whose store answers as it likes. To its own state that is the truth, so it tells clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from quorate.machines.kv import commands as kv
from quorate.machines.state_machine import StateMachine
from quorate.parts import requests as signed
from quorate.protocols.pbft import PbftConfig
from quorate.service.client import aio
from quorate.service.client import voting as module
from quorate.service.client.aio import AsyncClient
from quorate.service.client.errors import NoQuorum, OutcomeUnknown, Refused, TooLarge, Unreachable
from quorate.service.client.pace import Pace
from quorate.service.client.sync import Client
from quorate.service.requests import COMMAND_BYTES_MAX, Status
from quorate.service.server import kv_machine

from tests.runtime.servers import Servers, run, servers, until

FAST = PbftConfig(request_timeout_s=0.6, beat_s=0.1)
NODES = 4


class Liar(StateMachine):
    """A store that always has an answer, and never a true one."""

    def __init__(self, made_up: bytes) -> None:
        self.made_up = made_up

    def apply(self, command: bytes) -> bytes:
        return self.made_up

    def query(self, query: bytes) -> bytes:
        return self.made_up

    def snapshot(self) -> Any:
        return lambda _: None

    def restore(self, file: Any) -> Any:
        return lambda: None


LIES = {
    "a revision": kv.encode(kv.PutResult(77)),
    "an empty range": kv.encode(kv.RangeResult(1, [], 0, False)),
    "an error": kv.encode(kv.Error(3, "no such thing")),
    "rubbish": b"\xc1",
    "nothing": b"",
}


@asynccontextmanager
async def group(
    folder: Path, liar: int | None = None, lie: bytes = b"", start: bool = True, nodes: int = NODES
) -> AsyncIterator[Servers]:
    """Nodes that speak PBFT, perhaps with a liar."""

    def machine(data: Path) -> StateMachine:
        return Liar(lie) if data.name == f"n{liar}" else kv_machine(data)

    made = servers(folder, nodes, start, protocol="pbft", options=FAST, machine=machine)
    async with made as cluster:
        yield cluster


async def use_all(client: AsyncClient) -> None:
    """Every kind of call, with the answers that a store must give."""
    first = await client.put(b"a", b"1")
    assert await client.put(b"a", b"2") == first + 1
    found = await client.get(b"a")
    assert found is not None
    assert found.value == b"2"
    assert (await client.range(b"a", revision=first)).kvs[0].value == b"1"
    done = await client.txn([kv.Compare(b"a", kv.Target.VALUE, kv.Relation.EQUAL, b"2")], [kv.Put(b"b", b"3")])
    assert done.succeeded
    old = await client.get(b"b", serializable=True)
    assert old is None or old.value == b"3"
    assert await client.delete(b"a", b"c") == 2
    assert (await client.range(b"a", b"c")).kvs == []
    await client.compact(first + 2)
    with pytest.raises(Refused, match="compacted"):
        await client.range(b"a", revision=first)
    with pytest.raises(Refused, match="key is not provided"):
        await client.put(b"", b"")


def test_a_client_of_honest_nodes_gets_all_its_answers(tmp_path) -> None:
    async def main() -> None:
        async with group(tmp_path) as cluster:
            async with cluster.client() as client:
                await use_all(client)
                assert client.core.voting is not None
                assert client.core.voting.faults == 1
                await cluster.converged()
            await until(lambda: all(len(s.replica.sessions) == 0 for s in cluster.running.values()))  # it was closed

    run(main())


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@pytest.mark.parametrize("liar", [1, 4])
def test_a_node_that_lies_is_outvoted(tmp_path, liar: int, lie: bytes) -> None:
    async def main() -> None:
        async with group(tmp_path, liar, lie) as cluster, cluster.client() as client:
            await use_all(client)
            await asyncio.gather(*(client.put(b"k%d" % n, b"v") for n in range(100)))
            assert len((await client.range(b"k", b"l")).kvs) == 100

    run(main())


def test_a_client_that_trusts_one_node_is_fooled(tmp_path) -> None:
    """That the test above can fail."""

    async def main() -> None:
        async with group(tmp_path, 1, LIES["an empty range"]) as cluster, cluster.client() as client:
            await client.put(b"k", b"v")
            async with cluster.client(1, faults=0) as trusting:
                assert await trusting.get(b"k") is None
            async with cluster.client(2, faults=0) as trusting:
                assert (await trusting.get(b"k")).value == b"v"

    run(main())


def test_commands_of_one_turn_of_the_loop_share_a_signature(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    sign = signed.sign

    def counting(signer: Any, commands: Any) -> bytes:
        sizes.append(len(commands))
        return sign(signer, commands)

    async def main() -> None:
        async with group(tmp_path) as cluster, cluster.client() as client:
            before = await client.put(b"first", b"")
            monkeypatch.setattr(signed, "sign", counting)
            revisions = await asyncio.gather(*(client.put(b"k%04d" % n, b"%d" % n) for n in range(1_500)))
            assert sorted(revisions) == list(range(before + 1, before + 1_501))
            assert sizes == [signed.COMMANDS_MAX, 1_500 - signed.COMMANDS_MAX]
            sizes.clear()
            monkeypatch.setattr(module, "BATCH_BYTES_MAX", 10_000)
            await asyncio.gather(*(client.put(b"large%d" % n, bytes(3_000)) for n in range(7)))
            assert sizes == [3, 3, 1]
            await cluster.converged()

    run(main())


# --- nodes that are gone ---


def test_one_node_that_is_gone_is_not_missed_and_two_are_no_quorum(tmp_path) -> None:
    async def main() -> None:
        async with group(tmp_path) as cluster, cluster.client() as client:
            await client.put(b"k", b"0")
            await cluster.crash(4)
            await use_all(client)
            await cluster.crash(3)
            async with cluster.client(timeout_s=0.6) as hasty:
                with pytest.raises(NoQuorum, match="no session could be opened"):
                    await hasty.put(b"k", b"1")
                with pytest.raises(NoQuorum, match="no answer to a read"):
                    await hasty.get(b"k")
                # Two nodes, of which one is honest, have something, however old it is.
                assert (await hasty.get(b"a", serializable=True)) is None
            client.timeout_s = 0.6
            with pytest.raises(OutcomeUnknown, match="may still take effect"):
                await client.put(b"k", b"perhaps")
            await cluster.start(3, 4)
            client.timeout_s = 20.0
            assert await client.put(b"k", b"2") > 0
            assert (await client.get(b"k")).value == b"2"

    run(main())


def test_all_nodes_down_is_unreachable(tmp_path) -> None:
    async def main() -> None:
        async with group(tmp_path) as cluster, cluster.client() as client:
            await client.put(b"k", b"v")
            await cluster.stop()
            client.timeout_s = 0.3
            await until(lambda: all(not node.is_open for node in client.core.voting.nodes))
            for call in (client.put(b"k", b"v"), client.get(b"k")):
                with pytest.raises(Unreachable, match="refused"):
                    await call
            async with cluster.client(timeout_s=0.3) as late:
                with pytest.raises(Unreachable, match="0 nodes have answered, 2 must"):
                    await late.put(b"k", b"v")
                assert all(isinstance(status, Unreachable) for _, status in await late.statuses())

    run(main())


def test_commands_under_way_while_the_primary_dies_take_effect_exactly_once(tmp_path) -> None:
    async def main() -> None:
        async with group(tmp_path) as cluster, cluster.client(timeout_s=40.0) as client:
            before = await client.put(b"first", b"")
            primary = await cluster.leader()
            calls = [asyncio.ensure_future(client.put(b"%d" % n, b"x")) for n in range(200)]
            await asyncio.sleep(0)
            await cluster.crash(primary)
            revisions = await asyncio.gather(*calls)
            assert sorted(revisions) == list(range(before + 1, before + 201))
            await cluster.start(primary)
            await client.put(b"last", b"")
            assert (await client.get(b"199")).version == 1
            assert await cluster.leader() != primary

    run(main())


def test_commands_whose_answers_are_lost_are_sent_again_and_not_applied_again(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio, "PACE", Pace(resend_s=0.1))

    async def main() -> None:
        async with group(tmp_path) as cluster, cluster.client() as client:
            before = await client.put(b"first", b"")
            for server in cluster.running.values():
                server.node.reply = lambda *_: None
            calls = [asyncio.ensure_future(client.put(b"%d" % n, b"x")) for n in range(50)]
            index = max(server.replica.applied_index for server in cluster.running.values())
            await until(lambda: all(s.replica.applied_index > index for s in cluster.running.values()))
            for server in cluster.running.values():
                del server.node.reply
            assert sorted(await asyncio.gather(*calls)) == list(range(before + 1, before + 51))

    run(main())


# --- reads ---


def test_a_read_that_the_nodes_do_not_agree_on_goes_through_the_log(tmp_path) -> None:
    """One lies and one is gone: there are no three equal answers, but there are two.

    That is one fault more than is borne. It goes well because this liar lies to clients alone.
    """

    async def main() -> None:
        async with group(tmp_path, 1, LIES["an empty range"]) as cluster, cluster.client() as client:
            await client.put(b"k", b"v")
            await cluster.crash(4)
            index = cluster.running[2].replica.applied_index
            assert (await client.get(b"k")).value == b"v"
            assert cluster.running[2].replica.applied_index > index

    run(main())


def test_a_read_past_the_log_leaves_the_log_alone(tmp_path) -> None:
    async def main() -> None:
        async with group(tmp_path) as cluster, cluster.client() as client:
            await client.put(b"k", b"v")
            await cluster.converged()
            index = cluster.running[1].replica.applied_index
            assert (await client.get(b"k")).value == b"v"
            assert {server.replica.applied_index for server in cluster.running.values()} == {index}

    run(main())


# --- limits ---


def test_what_is_too_large_is_refused_and_the_client_goes_on(tmp_path) -> None:
    async def main() -> None:
        async with group(tmp_path) as cluster, cluster.client() as client:
            with pytest.raises(TooLarge, match=f"the limit is {COMMAND_BYTES_MAX}"):
                await client.put(b"k", bytes(COMMAND_BYTES_MAX + 1))
            room = COMMAND_BYTES_MAX - len(kv.encode(kv.Put(b"k", bytes(70_000)))) + 70_000
            for name in (b"1", b"2"):
                await client.put(name, bytes(room))
            with pytest.raises(TooLarge, match="ask for less"):
                await client.range(b"1", b"3")
            assert len((await client.get(b"1")).value) == room
            # A command whose answer would be too large changes nothing.
            with pytest.raises(TooLarge, match="ask for less") as caught:
                await client.txn([], [kv.Put(b"k", b"done"), kv.Range(b"1", b"3")])
            assert not caught.value.took_effect
            assert await client.get(b"k") is None

    run(main())


def test_a_session_that_expired_is_told_and_replaced(tmp_path) -> None:
    async def main() -> None:
        async with group(tmp_path) as cluster, cluster.client() as client:
            await client.put(b"k", b"1")
            client.core.session.id += 1
            with pytest.raises(OutcomeUnknown, match="expired"):
                await client.put(b"k", b"2")
            await client.put(b"k", b"3")
            assert (await client.get(b"k")).value == b"3"

    run(main())


def test_a_cancelled_call_leaves_the_others_alone(tmp_path) -> None:
    async def main() -> None:
        async with group(tmp_path) as cluster, cluster.client() as client:
            await client.put(b"k", b"")
            calls = [asyncio.ensure_future(client.put(b"k%d" % n, b"x")) for n in range(100)]
            await asyncio.sleep(0)
            for call in calls[::2]:
                call.cancel()
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in done[::2])
            assert all(isinstance(result, int) for result in done[1::2])
            await until(lambda: not client.core.voting.requests)
            assert not client.core.session._outstanding

    run(main())


def test_calls_under_way_when_the_client_closes_are_told(tmp_path) -> None:
    async def main() -> None:
        async with group(tmp_path) as cluster:
            async with cluster.client() as client:
                await client.put(b"k", b"")
                for server in cluster.running.values():
                    server.node.reply = lambda *_: None
                call = asyncio.ensure_future(client.put(b"k", b"x"))
                await until(lambda: client.core.voting.requests)
            with pytest.raises(OutcomeUnknown, match="closed before"):
                await call
            with pytest.raises(Unreachable, match="closed"):
                await client.put(b"k", b"")

    run(main())


# --- the blocking client, and what a status says ---


def test_statuses_name_primary_and_backups(tmp_path) -> None:
    async def main() -> None:
        async with group(tmp_path) as cluster, cluster.client() as client:
            primary = await cluster.leader()
            found = {status.node: status for _, status in await client.statuses() if isinstance(status, Status)}
            assert {node: status.role for node, status in found.items()} == {
                node: "primary" if node == primary else "backup" for node in cluster.ids
            }
            assert {status.term for status in found.values()} == {0}

    run(main())


def test_the_blocking_client_votes_too(tmp_path) -> None:
    async def main() -> None:
        async with group(tmp_path, 2, LIES["a revision"]) as cluster:

            def blocking() -> bytes:
                with Client(cluster.endpoints(), timeout_s=20.0) as client:
                    client.put(b"k", b"v")
                    return client.get(b"k").value

            assert await asyncio.to_thread(blocking) == b"v"

    run(main())
