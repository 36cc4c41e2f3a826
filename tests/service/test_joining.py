"""Nodes that join and leave a running cluster: real servers, their files and sockets, and clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.parts.log.configuration import Voters
from quorate.protocols.multipaxos import MultiPaxosConfig
from quorate.protocols.pbft import PbftConfig
from quorate.protocols.raft import RaftConfig
from quorate.runtime.folder import Beginning
from quorate.runtime.handshake import Bears
from quorate.runtime.key_files import read_private_key
from quorate.service.client.aio import AsyncClient
from quorate.service.client.errors import OutcomeUnknown, Refused
from quorate.service.config import Member, load
from quorate.service.joining import Plan, join
from quorate.service.recovery import Survey, begin_with_one
from quorate.service.requests import Status
from quorate.service.server import Server
from quorate.service.tokens import Token

from tests.ports import free_ports
from tests.runtime.servers import Servers, run, until

FAST = MultiPaxosConfig(heartbeat_s=0.04, election_timeout_s_min=0.2, alpha=32)
FAST_PBFT = PbftConfig(request_timeout_s=0.6, beat_s=0.1, window=16, checkpoint_batches=8)
FAST_RAFT = RaftConfig(heartbeat_s=0.04, election_timeout_s_min=0.2)
OPTIONS: dict[str, Any] = {"raft": FAST_RAFT, "multipaxos": FAST, "pbft": FAST_PBFT}
SIZE = {"raft": 3, "multipaxos": 3, "pbft": 4}
CRASH_ONLY = pytest.mark.parametrize("protocol", ["raft", "multipaxos"])


class Joining(Servers):
    """A cluster whose founders are nodes 1 to ``nodes``."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.founders = self.ids
        if self.config.entry.traits.has_keys:
            self.key = read_private_key(self.folder / "keys" / "admin.key")
            changed = msgspec.structs.replace(self.config.options, admins=(self.key.public,))
            self.config = msgspec.structs.replace(self.config, options=changed)

    def plan(self, node: int, token: Token, **changes: Any) -> Plan:
        """How a new node is to join those that run, at fresh ports."""
        if node not in self.members:
            peer, client = (f"127.0.0.1:{port}" for port in free_ports(2))
            self.members = {**self.members, node: Member(peer, client)}
        endpoints = ",".join(self.endpoints(*self.running))
        plan = Plan(endpoints, token, self.members[node], self.folder / f"n{node}", 20.0)
        return msgspec.structs.replace(plan, **changes)

    async def join(self, node: int, token: Token) -> None:
        """Have a new node join, and start it; it is a learner then."""
        server = Server(load(await join(self.plan(node, token))), self.machine, Beginning.EXISTING)
        await server.start()
        self.running[node] = server

    async def add(self, client: AsyncClient, node: int) -> Voters:
        """Have a new node join and vote."""
        await self.join(node, await client.invite(node))
        return await client.promote([node])

    def clients(self, *nodes: int, **options: Any) -> AsyncClient:
        """A client of these; where nodes may lie, the administrator."""
        return self.client(*nodes, **({"key": self.key} if self.config.entry.traits.has_keys else {}), **options)


@pytest.mark.parametrize("protocol", OPTIONS)
def test_all_founders_are_replaced_one_by_one(protocol: str, tmp_path: Path) -> None:
    """And the last ones left have all data, through restarts too."""

    async def main() -> None:
        cluster = Joining(tmp_path, SIZE[protocol], options=OPTIONS[protocol], protocol=protocol)
        await cluster.start()
        try:
            async with cluster.clients(*cluster.founders) as client:
                await client.put(b"first", b"1")
            for old in cluster.founders:
                new = old + SIZE[protocol]
                async with cluster.clients(*cluster.running) as client:
                    voters = await cluster.add(client, new)
                    assert new in voters.members
                    voters = await client.remove_nodes([old])
                    assert old not in voters.members
                    assert await client.remove_nodes([old]) == voters, "what is so already changes nothing"
                await until(
                    lambda old=old: all(
                        old not in s.node.host.roster.peers for n, s in cluster.running.items() if n != old
                    )
                )
                await cluster.stop(old)
                async with cluster.clients(*cluster.running) as client:
                    await client.put(b"last", b"%d" % old)
            newest = tuple(cluster.running)
            assert newest == tuple(node + SIZE[protocol] for node in cluster.founders)
            async with cluster.clients(*newest) as client:
                assert (await client.get(b"first")).value == b"1"
                assert (await client.members()).members == newest
                statuses = [status for _, status in await client.statuses() if isinstance(status, Status)]
                assert {status.nodes for status in statuses} == {newest}
        finally:
            await cluster.stop()

    run(main())


@CRASH_ONLY
def test_a_learner_follows_and_votes_when_it_is_told_to(protocol: str, tmp_path: Path) -> None:
    async def main() -> None:
        cluster = Joining(tmp_path, 3, options=OPTIONS[protocol], protocol=protocol)
        await cluster.start()
        try:
            async with cluster.clients(1, 2, 3) as client:
                await client.put(b"k", b"v")
                token = await client.invite(4)
                path = await join(cluster.plan(4, token))
                assert (await client.members()).members == (1, 2, 3)
                client.timeout_s = 1.5
                with pytest.raises(OutcomeUnknown, match="node 4 is in the cluster and follows, and does not vote"):
                    await client.promote([4])
                with pytest.raises(Refused, match="there is no node n5: `quorate members add n5` prints"):
                    await client.promote([5])
                client.timeout_s = 20.0
                server = Server(load(path), cluster.machine, Beginning.EXISTING)
                await server.start()
                cluster.running[4] = server
                voters = await client.promote([4])
                assert voters.members == (1, 2, 3, 4)
                assert await client.promote([4]) == voters, "what is so already changes nothing"
                assert (await client.demote([4])).members == (1, 2, 3)
        finally:
            await cluster.stop()

    run(main())


@pytest.mark.parametrize("protocol", OPTIONS)
def test_nodes_that_start_again_look_for_one_that_moved_where_it_is(protocol: str, tmp_path: Path) -> None:
    """Their own configurations have its old address, and without it they are no quorum."""

    async def main() -> None:
        cluster = Joining(tmp_path, SIZE[protocol], options=OPTIONS[protocol], protocol=protocol)
        await cluster.start()
        try:
            async with cluster.clients() as client:
                await client.put(b"k", b"v")
            await cluster.stop(1)
            old = dict(cluster.members)
            moved = Member(*(f"localhost:{port}" for port in free_ports(2)))

            async def start_there() -> None:
                server = cluster.make(1, nodes={**old, 1: moved})
                await server.start()
                cluster.running[1] = server

            await start_there()
            cluster.members = {**old, 1: moved}  # for clients
            rest = cluster.ids[1:]
            async with cluster.clients(*rest) as client:
                await client.move_node(1, moved.peer, moved.client)
                there = (await client.look()).cluster.there
                assert (there[0].peer, there[0].client) == (moved.peer, moved.client)
            await cluster.stop()
            await cluster.start(*rest[:-1])
            await start_there()
            async with cluster.clients(*cluster.ids[:-1], **({"faults": 1} if protocol == "pbft" else {})) as client:
                await client.put(b"k", b"w")
        finally:
            await cluster.stop()

    run(main())


@CRASH_ONLY
def test_clients_leave_a_leader_that_has_left_and_names_itself(protocol: str, tmp_path: Path) -> None:
    """It led when it was heard of last, and hears of nobody since."""

    async def main() -> None:
        cluster = Joining(tmp_path, 4, options=OPTIONS[protocol], protocol=protocol)
        await cluster.start()
        try:
            leader = await cluster.leader()
            others = [node for node in cluster.ids if node != leader]
            async with cluster.clients(*others) as client:
                await client.put(b"k", b"v")
                await client.remove_nodes([leader])
            async with cluster.clients(leader, *others, timeout_s=20.0) as client:
                await client.put(b"k", b"w")
        finally:
            await cluster.stop()

    run(main())


def test_clients_count_on_the_nodes_that_there_are(tmp_path: Path) -> None:
    """Three equal answers of four nodes hold an honest one of every quorum; of six it takes four."""

    async def main() -> None:
        cluster = Joining(tmp_path, 4, options=FAST_PBFT, protocol="pbft")
        await cluster.start()
        try:
            async with cluster.clients() as early, cluster.clients() as client:
                await early.put(b"k", b"v")
                voting = early.core.voting
                assert voting is not None
                assert voting._for_read() == (3, 4)
                for new in (5, 6):
                    await cluster.add(client, new)
                await until(lambda: voting._for_read() == (4, 6))
                assert (await early.get(b"k")).value == b"v"
                behind = cluster.running[1].listener  # it has not heard of them, and greets as it did before
                behind.me = msgspec.structs.replace(behind.me, bears=Bears(1, 4))
                for connection in list(behind.clients):
                    connection.cut("call again")
                await until(lambda: voting.nodes[0].bears == Bears(1, 4))
                assert voting._for_read() == (4, 6), "one that knows no better does not make it fewer"
        finally:
            await cluster.stop()

    run(main())


def test_a_node_that_speaks_of_more_nodes_is_done_without(tmp_path: Path) -> None:
    async def main() -> None:
        cluster = Joining(tmp_path, 4, options=FAST_PBFT, protocol="pbft")
        await cluster.start()
        liar = cluster.running[4]
        liar.listener.me = msgspec.structs.replace(liar.listener.me, bears=Bears(1, 60))
        try:
            async with cluster.clients() as client:
                await client.put(b"k", b"v")
                voting = client.core.voting
                assert voting is not None
                await until(lambda: all(node.bears is not None for node in voting.nodes))
                assert voting._for_read() == (3, 4)
                assert (await client.get(b"k")).value == b"v"
                await cluster.stop(3)
                await until(lambda: voting.nodes[2].bears is None)
                assert (await client.get(b"k")).value == b"v", "through the log"
        finally:
            await cluster.stop()

    run(main())


@CRASH_ONLY
def test_a_number_that_left_is_not_used_again(protocol: str, tmp_path: Path) -> None:
    async def main() -> None:
        cluster = Joining(tmp_path, 4, options=OPTIONS[protocol], protocol=protocol)
        await cluster.start()
        try:
            async with cluster.clients() as client:
                await client.remove_nodes([4])
                with pytest.raises(Refused, match="node 4 has left the cluster, and a number is used once"):
                    await client.invite(4)
                with pytest.raises(Refused, match="there is a node 3 already"):
                    await client.invite(3)
                with pytest.raises(Refused, match="there is no node 4"):
                    await client.set_members([1, 2, 3, 4], force=True)
        finally:
            await cluster.stop()

    run(main())


@CRASH_ONLY
def test_who_begins_anew_with_one_node_hears_of_those_that_joined_too(protocol: str, tmp_path: Path) -> None:
    """They are the ones never to be started again, and the file that the node was begun with does not name them."""
    cluster = Joining(tmp_path, 3, options=OPTIONS[protocol], protocol=protocol)

    async def main() -> None:
        await cluster.start()
        try:
            async with cluster.clients(*cluster.founders) as client:
                voters = await cluster.add(client, 4)
                await client.remove_nodes([3])
                await client.put(b"key", b"value")
            assert 4 in voters.members
            await until(lambda: cluster.core(1).in_force().voters.members == (1, 2, 4))
        finally:
            await cluster.stop()

    run(main())
    founder = msgspec.structs.replace(cluster.config, node=1, data=tmp_path / "n1")
    founder = msgspec.structs.replace(founder, nodes={node: cluster.members[node] for node in cluster.founders})
    found: list[Survey] = []
    assert begin_with_one(founder, tmp_path / "new", lambda survey, _: bool(found.append(survey))) is None
    assert found[0].others == (2, 3, 4)
