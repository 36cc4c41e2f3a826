"""How a client finds out whether nodes may lie: no single liar talks one that has all addresses out of voting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import MappingProxyType

import msgspec
import pytest

from quorate.parts.requests import is_signed
from quorate.runtime.handshake import Bears, LocalNode, Welcome
from quorate.runtime.keys import Ed25519Signer, keyring_of
from quorate.runtime.listener import ClientConnection, ClientListener
from quorate.service.client.aio import AsyncClient
from quorate.service.client.errors import QuorateError, Refused, Unreachable
from quorate.service.client.mode import believed_from, faults_of
from quorate.service.requests import AskStatus, Command, Query, Result, decode_request, encode

from tests.ports import free_ports
from tests.runtime.servers import run

CRASH = None
NO_NAMES: Mapping[int, str] = MappingProxyType({})
ONE = Bears(1, 4)
TWO = Bears(2, 7)
ADDRESSES = ["a:1", "b:1", "c:1", "d:1", "e:1", "f:1", "g:1"]


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 2), (7, 3)])
def test_so_many_must_agree_that_one_of_them_is_honest(count: int, needed: int) -> None:
    assert believed_from(ADDRESSES[:count], None) == needed


def test_who_expects_faults_believes_one_more() -> None:
    assert [believed_from(ADDRESSES[:4], faults) for faults in range(4)] == [1, 2, 3, 4]
    for faults in (-1, 4):
        with pytest.raises(ValueError, match="give the address of every node"):
            believed_from(ADDRESSES[:4], faults)
    with pytest.raises(ValueError, match="2 others must agree, and there are 1 endpoints"):
        AsyncClient("127.0.0.1:1", faults=1)


def test_what_is_outvoted_is_what_the_nodes_bear_or_what_was_said() -> None:
    assert faults_of(ONE, None, ADDRESSES[:4]) == 1
    assert faults_of(ONE, None, ADDRESSES[:3]) == 1, "fewer addresses make no client less careful"
    assert faults_of(Bears(2, 7), 1, ADDRESSES) == 1
    assert faults_of(ONE, 0, ADDRESSES[:1]) == 0
    with pytest.raises(Refused, match="bear crashes alone"):
        faults_of(CRASH, 1, ADDRESSES)
    with pytest.raises(Refused, match="there are 1 endpoints: give the address of every node"):
        faults_of(ONE, None, ADDRESSES[:1])


class Told:
    """Nodes that greet as they are told to, and answer every query with their number."""

    def __init__(self, clusters: Mapping[int, str]) -> None:
        self.clusters = clusters
        """What those say that call their cluster another name than "c"."""
        self.entries: list[bytes] = []
        self.listeners: list[ClientListener] = []
        self.addresses: list[str] = []
        self.asked: list[int] = []

    def listener(self, port: int, node: int, bears: Bears | None) -> ClientListener:
        def on_frames(connection: ClientConnection, frames: list[bytes]) -> None:
            for frame in frames:
                request = decode_request(frame)
                if not isinstance(request, AskStatus):
                    assert isinstance(request, Query | Command)
                    self.asked.append(node)
                    if isinstance(request, Command):
                        self.entries.append(request.entry)
                    connection.reply(encode(Result(request.id, b"%d" % node if bears is CRASH else b"same")))

        me = LocalNode(self.clusters.get(node, "c"), "any", node, frozenset({node}), bears)
        return ClientListener("127.0.0.1", port, me, lambda _: None, on_frames, lambda _, __: None)


@asynccontextmanager
async def told(greetings: Sequence[int | str | None], clusters: Mapping[int, str] = NO_NAMES) -> AsyncIterator[Told]:
    """A node for each greeting; "down" is none."""
    made = Told(clusters)
    async with AsyncExitStack() as stack:
        for node, (port, bears) in enumerate(zip(free_ports(len(greetings)), greetings, strict=True)):
            made.addresses.append(f"127.0.0.1:{port}")
            if not isinstance(bears, str):
                listener = made.listener(port, node, bears)
                made.listeners.append(listener)
                await listener.start()
                stack.push_async_callback(listener.stop)
        yield made


@pytest.mark.parametrize(
    ("greetings", "faults", "votes"),
    [
        ([CRASH, CRASH, CRASH], None, None),
        ([CRASH], None, None),
        ([CRASH, CRASH, CRASH, CRASH, "down"], None, None),
        ([CRASH, CRASH], 0, None),
        ([CRASH, ONE, ONE, ONE], None, 1),  # the first lies: it would have us ask it alone
        ([Bears(9, 28), ONE, ONE, ONE], None, 1),  # or not be content with any answer
        ([ONE, "down", ONE, ONE], None, 1),
        ([ONE, ONE, "down", ONE], None, 1),
        ([ONE, ONE, ONE], None, 1),
        ([Bears(0, 3), Bears(0, 3), Bears(0, 3)], None, 0),
        ([ONE, ONE, ONE, ONE], 1, 1),
        ([ONE], 0, 0),
        ([TWO, TWO, TWO, CRASH, CRASH, TWO, TWO], None, 2),
        ([Bears(1, 5), ONE, ONE, ONE], None, 1),
    ],
)
def test_the_greetings_decide_how_nodes_are_asked(
    greetings: list[int | str | None], faults: int | None, votes: int | None
) -> None:
    async def main() -> None:
        async with told(greetings) as nodes, AsyncClient(nodes.addresses, timeout_s=5.0, faults=faults) as client:
            answer = await client.query(b"")
            if votes is None:
                assert client.core.voting is None
                assert answer.isdigit()
            else:
                assert client.core.voting is not None
                assert client.core.voting.faults == votes
                assert answer == b"same"

    run(main())


def test_a_node_of_few_that_tells_the_truth_later_is_heard() -> None:
    """Of three addresses the first is believed. It lied; when the client turns to another, it learns."""

    async def main() -> None:
        async with told([CRASH, ONE, ONE]) as nodes, AsyncClient(nodes.addresses, timeout_s=5.0) as client:
            assert await client.query(b"") == b"0"
            client.core.lost(0, "as if it had hung up", time.monotonic())
            client._flush()
            while client.core.voting is None:  # noqa: ASYNC110 (what is waited for has no event)
                await asyncio.sleep(0.005)
            assert await client.query(b"") == b"same"

    run(main())


def test_who_expects_liars_of_nodes_that_only_crash_is_refused() -> None:
    async def main() -> None:
        async with told([CRASH] * 4) as nodes, AsyncClient(nodes.addresses, timeout_s=5.0, faults=1) as client:
            for call in (client.command(b""), client.query(b""), client.command(b"")):
                with pytest.raises(Refused, match="bear crashes alone"):
                    await call
            assert nodes.asked == []

    run(main())


def test_one_address_of_nodes_that_may_lie_is_refused_with_what_to_do() -> None:
    async def main() -> None:
        async with told([ONE]) as nodes, AsyncClient(nodes.addresses, timeout_s=5.0) as client:
            with pytest.raises(Refused, match="give the address of every node, or say how many faults"):
                await client.query(b"")
            assert nodes.asked == []

    run(main())


@pytest.mark.parametrize(
    ("greetings", "why"),
    [
        (["down", "down", "down", ONE], "1 nodes have answered, 2 must"),
        ([CRASH, ONE, TWO, Bears(1, 5)], "do not agree on how many liars"),
    ],
)
def test_too_few_that_agree_are_not_believed(greetings: list[int | str | None], why: str) -> None:
    async def main() -> None:
        async with told(greetings) as nodes, AsyncClient(nodes.addresses, timeout_s=0.5) as client:
            for call in (client.query(b""), client.command(b"")):
                with pytest.raises(Unreachable, match=why):
                    await call
            assert nodes.asked == []

    run(main())


# --- which cluster requests are signed for ---

KEY = Ed25519Signer(None, b"k" * 32)
"""A client's, which counts in two clusters."""


async def signed_by(nodes: Told, cluster: str = "") -> list[bytes]:
    """What a client signs that has asked these nodes for something."""
    async with AsyncClient(nodes.addresses, timeout_s=0.5, key=KEY, cluster=cluster) as client:
        with suppress(QuorateError):
            await client.command(b"put")
    return nodes.entries


def counts(entry: bytes, cluster: str) -> bool:
    return is_signed(entry, keyring_of({}, cluster))


@pytest.mark.parametrize("liar", range(4))
def test_a_liar_that_names_another_cluster_gets_nothing_signed_for_it(liar: int) -> None:
    async def main() -> None:
        async with told([ONE] * 4, {liar: "elsewhere"}) as nodes:
            entries = await signed_by(nodes)
            assert entries
            assert all(counts(entry, "c") and not counts(entry, "elsewhere") for entry in entries)
            assert liar not in nodes.asked, "nor is it asked anything"

    run(main())


def test_nodes_that_all_name_their_cluster_otherwise_get_nothing_signed() -> None:
    async def main() -> None:
        async with told([ONE] * 4, {0: "a", 1: "b", 2: "d"}) as nodes:
            async with AsyncClient(nodes.addresses, timeout_s=0.5, key=KEY) as client:
                with pytest.raises(Unreachable, match="do not agree on the name of their cluster"):
                    await client.command(b"put")
            assert nodes.entries == []

    run(main())


def test_a_client_that_was_told_its_cluster_speaks_to_no_other() -> None:
    async def main() -> None:
        async with told([ONE] * 4, dict.fromkeys(range(4), "elsewhere")) as nodes:
            assert await signed_by(nodes, "c") == []
            entries = await signed_by(nodes, "elsewhere")
            assert entries
            assert all(counts(entry, "elsewhere") for entry in entries)

    run(main())


def test_a_node_that_welcomes_for_another_cluster_than_was_asked_for_is_hung_up_on() -> None:
    """A liar takes any Hello."""

    async def main() -> None:
        async with told([ONE] * 4, dict.fromkeys(range(4), "elsewhere")) as nodes:
            for listener in nodes.listeners:
                listener.me = msgspec.structs.replace(listener.me, cluster="c")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(LocalNode, "welcome", lambda me: Welcome(1, me.protocol, "elsewhere", me.node, ONE))
                assert await signed_by(nodes, "c") == []
            assert nodes.asked == []

    run(main())
