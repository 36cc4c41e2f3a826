"""Calls in the name of other nodes at whole servers of PBFT: they cost nobody a put. (imposter.py, on one loop.)

The same on processes: ``tests/torture/test_imposters.py``. What each call is answered: ``tests/wire``.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from quorate.parts.crypto.keys import Keys
from quorate.protocols.pbft import PbftConfig
from quorate.runtime.address import parse_address
from quorate.runtime.handshake import LocalNode, Refused, encode
from quorate.runtime.key_files import private_key_name, read_private_key
from quorate.runtime.peer_handshake import PeerDialler
from quorate.runtime.sealing import Ephemeral

from tests.runtime.servers import Servers, run, servers, until
from tests.wire.harness import RawCaller, call, framed

FAST = PbftConfig(request_timeout_s=0.6, beat_s=0.1)
LIAR = 1


class Imposter:
    """Has the keys of one node, and says that it is another."""

    def __init__(self, cluster: Servers) -> None:
        self.cluster = cluster
        self.config = cluster.config
        folder = cluster.folder / "keys"
        keyring = cluster.running[LIAR].config.load_keys().keyring
        self.keys = Keys(read_private_key(folder / private_key_name(LIAR)).within("test"), keyring)
        self.held: list[RawCaller] = []

    async def call(self, victim: int, claims: int, *, proves: bool) -> Refused:
        """One call; what comes of it."""
        host, port = parse_address(self.cluster.members[victim].peer)
        caller = await call(port, host)
        self.held.append(caller)
        me = LocalNode("test", "pbft", claims, frozenset(self.cluster.ids))
        if proves:
            side = PeerDialler(me, self.keys, victim, self.keys.keyring.public(victim), Ephemeral())
            await caller.write(framed(side.opening))
            await caller.write(framed(side.challenged(await caller.frame())))
        else:
            await caller.write(framed(encode(me.hello(victim))))
        return msgspec.msgpack.decode(await caller.frame(), type=Refused)


def test_calls_in_the_name_of_others_cost_nobody_a_put(tmp_path: Path) -> None:
    async def main() -> None:
        async with servers(tmp_path, nodes=4, options=FAST, protocol="pbft") as cluster:
            nodes = {node: server.node.peers for node, server in cluster.running.items()}
            await until(lambda: all(len(peers.incoming) == len(peers.connected()) == 3 for peers in nodes.values()))
            before = {node: dict(peers.incoming) for node, peers in nodes.items()}
            imposter = Imposter(cluster)
            async with cluster.client() as client:
                for number in range(3):
                    for victim in (2, 3, 4):
                        for claims in {2, 3, 4} - {victim}:
                            answer = await imposter.call(victim, claims, proves=bool(number % 2))
                            assert answer.code == "proof"
                    client.timeout_s = 2.0
                    assert await client.put(b"k", b"%d" % number)
            assert {node: peers.incoming for node, peers in nodes.items()} == before
            for caller in imposter.held:
                caller.close()

    run(main())


def test_keys_of_another_cluster_make_no_link(tmp_path: Path) -> None:
    """Two clusters with the same keys and, by mistake or by an attacker's hand, addresses of each other."""

    async def main() -> None:
        async with servers(tmp_path, nodes=4, options=FAST, protocol="pbft") as cluster:
            peers = cluster.running[2].node.peers
            await until(lambda: len(peers.incoming) == 3)
            imposter = Imposter(cluster)
            keys = read_private_key(cluster.folder / "keys" / private_key_name(3)).within("elsewhere")
            imposter.keys = Keys(keys, imposter.keys.keyring.within("elsewhere"))
            before = dict(peers.incoming)
            assert (await imposter.call(2, 3, proves=True)).code == "proof"
            assert peers.incoming == before
            for caller in imposter.held:
                caller.close()

    run(main())
