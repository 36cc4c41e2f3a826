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
from quorate.runtime import key_files
from quorate.runtime.handshake import Bears
from quorate.runtime.key_files import read_private_key
from quorate.service.client.aio import AsyncClient
from quorate.service.client.errors import OutcomeUnknown, Refused
from quorate.service.config import ConfigError, Member
from quorate.service.requests import Status
from quorate.service.server import Server

from tests.ports import free_ports
from tests.runtime.servers import Servers, run, until

FAST = MultiPaxosConfig(heartbeat_s=0.04, election_timeout_s_min=0.2, alpha=32)
FAST_PBFT = PbftConfig(request_timeout_s=0.6, beat_s=0.1, window=16, checkpoint_batches=8)
FAST_RAFT = RaftConfig(heartbeat_s=0.04, election_timeout_s_min=0.2)
OPTIONS = {"raft": FAST_RAFT, "multipaxos": FAST, "pbft": FAST_PBFT}


class Joining(Servers):
    """A cluster whose founders are nodes 1 to ``nodes``."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.founders = self.ids
        self.publics: dict[int, bytes] = {}
        if self.config.entry.traits.has_keys:
            self.key = read_private_key(self.folder / "keys" / "admin.key")
            changed = msgspec.structs.replace(self.config.options, admins=(self.key.public,))
            self.config = msgspec.structs.replace(self.config, options=changed)

    def machine_of(self, node: int) -> Server:
        """A new node's server: its file names the founders, and those that run now, and itself."""
        peer, client = (f"127.0.0.1:{port}" for port in free_ports(2))
        self.members = {**self.members, node: Member(peer, client)}
        told = {n: self.members[n] for n in sorted({*self.running, node})}
        changes: dict[str, Any] = {
            "nodes": told,
            "options": msgspec.structs.replace(self.config.options, founders=self.founders),
        }
        if self.config.entry.traits.has_keys:
            folder = self.folder / f"keys-{node}"
            newest = max(self.publics, default=0)
            known = key_files.read_keyring(self.folder / (f"keys-{newest}" if newest else "keys") / "keyring.toml")
            _, self.publics[node] = key_files.add(folder, node, known)
            changes["keys"] = folder
        return self.make(node, **changes)

    async def join(self, node: int) -> None:
        """Start a new node; nobody knows it yet."""
        server = self.machine_of(node)
        await server.start()
        self.running[node] = server

    async def add(self, client: AsyncClient, node: int) -> Voters:
        """Start a new node and have it join."""
        await self.join(node)
        member = self.members[node]
        return await client.add_node(node, member.peer, member.client, self.publics.get(node, b""))

    def clients(self, *nodes: int, **options: Any) -> AsyncClient:
        """A client of these; where nodes may lie, the administrator."""
        return self.client(*nodes, **({"key": self.key} if self.config.entry.traits.has_keys else {}), **options)


@pytest.mark.parametrize("protocol", ["raft", "multipaxos", "pbft"])
def test_all_founders_are_replaced_one_by_one(protocol: str, tmp_path: Path) -> None:
    """And the last ones left have all data, through restarts too."""
    options: Any = OPTIONS[protocol]
    size = 4 if protocol == "pbft" else 3

    async def main() -> None:
        cluster = Joining(tmp_path, size, options=options, protocol=protocol)
        await cluster.start()
        try:
            async with cluster.clients(*cluster.founders) as client:
                await client.put(b"first", b"1")
            for old in cluster.founders:
                new = old + size
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
            assert newest == tuple(node + size for node in cluster.founders)
            async with cluster.clients(*newest) as client:
                assert (await client.get(b"first")).value == b"1"
                assert (await client.members()).members == newest
                statuses = [status for _, status in await client.statuses() if isinstance(status, Status)]
                assert {status.nodes for status in statuses} == {newest}
        finally:
            await cluster.stop()

    run(main())


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_a_node_that_nobody_introduced_is_refused_and_said_so(protocol: str, tmp_path: Path) -> None:
    async def main() -> None:
        cluster = Joining(tmp_path, 3, options=OPTIONS[protocol], protocol=protocol)
        await cluster.start()
        try:
            await cluster.join(4)
            async with cluster.clients(1, 2, 3) as client:
                with pytest.raises(Refused, match="there is no node 4"):
                    await client.set_members([1, 2, 3, 4])
            assert cluster.running[4].node.peers.connected() == ()
        finally:
            await cluster.stop()

    run(main())


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_a_newcomer_that_is_not_there_follows_when_it_comes(protocol: str, tmp_path: Path) -> None:
    async def main() -> None:
        cluster = Joining(tmp_path, 3, options=OPTIONS[protocol], protocol=protocol)
        await cluster.start()
        server = cluster.machine_of(4)
        member = cluster.members[4]
        try:
            async with cluster.clients(1, 2, 3, timeout_s=1.5) as client:
                with pytest.raises(OutcomeUnknown, match="node 4 is in the cluster and follows, and does not vote"):
                    await client.add_node(4, member.peer, member.client)
                assert (await client.members()).members == (1, 2, 3)
            await server.start()
            cluster.running[4] = server
            async with cluster.clients(1, 2, 3) as client:
                voters = await client.add_node(4, member.peer, member.client)
                assert voters.members == (1, 2, 3, 4)
                assert await client.add_node(4, member.peer, member.client) == voters
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


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no address": ({"peer": "nowhere"}, "'nowhere' is not an address"),
    "an address that nobody can dial": ({"peer": "0.0.0.0:1"}, "nobody can dial 0.0.0.0:1"),
    "no key": ({"key": b""}, "node 9 has no public key"),
    "what is no key": ({"key": bytes(32)}, "is not a public key"),
    "the key of another": ({"key": None}, "node 9 has the public key of node 1"),
}


def test_what_cannot_join_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        cluster = Joining(tmp_path, 4, options=FAST_PBFT, protocol="pbft")
        await cluster.start()
        key = key_files.read_keyring(tmp_path / "keys" / "keyring.toml").public(1)
        try:
            async with cluster.clients() as client:
                for given, why in WRONG.values():
                    what = {"node": 9, "peer": "127.0.0.1:9", "client": "127.0.0.1:10", "key": b"x" * 32, **given}
                    what["key"] = key if what["key"] is None else what["key"]
                    with pytest.raises(Refused, match=why):
                        await client.add_node(**what)
                assert (await client.members()).epoch == 0
                with pytest.raises(Refused, match="too few"):
                    await client.remove_nodes([4])
        finally:
            await cluster.stop()

    run(main())


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_a_number_that_left_is_not_used_again(protocol: str, tmp_path: Path) -> None:
    async def main() -> None:
        cluster = Joining(tmp_path, 4, options=OPTIONS[protocol], protocol=protocol)
        await cluster.start()
        try:
            async with cluster.clients() as client:
                await client.remove_nodes([4])
                with pytest.raises(Refused, match="node 4 has left the cluster, and a number is used once"):
                    await client.add_node(4, "127.0.0.1:9", "127.0.0.1:10")
                with pytest.raises(Refused, match="there is no node 4"):
                    await client.set_members([1, 2, 3, 4])
        finally:
            await cluster.stop()

    run(main())


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_a_file_that_counts_a_newcomer_among_the_founders_stops_it(protocol: str, tmp_path: Path) -> None:
    async def main() -> None:
        cluster = Joining(tmp_path, 3, options=OPTIONS[protocol], protocol=protocol)
        await cluster.start()
        server = cluster.machine_of(4)
        member = cluster.members[4]
        wrong = cluster.make(4, nodes=server.config.nodes)
        await wrong.start()
        try:
            async with cluster.clients(1, 2, 3, timeout_s=3.0) as client:
                with pytest.raises(OutcomeUnknown):
                    await client.add_node(4, member.peer, member.client)
            with pytest.raises(ValueError, match="write in founders which nodes the cluster began with"):
                await wrong.wait()
        finally:
            await wrong.stop()
            await cluster.stop()

    run(main())


def test_keys_of_a_newcomer(tmp_path: Path) -> None:
    cluster = Joining(tmp_path, 4, options=FAST_PBFT, protocol="pbft")
    config = cluster.machine_of(5).config
    assert config.load_keys().keyring.nodes == (1, 2, 3, 4, 5)
    few = msgspec.structs.replace(config, options=msgspec.structs.replace(config.options, founders=(1, 2, 3, 4, 7)))
    with pytest.raises(ConfigError, match="has nodes 1, 2, 3, 4, 5, the cluster has 1, 2, 3, 4, 5, 7"):
        few.load_keys()
