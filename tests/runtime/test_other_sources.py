"""Whole servers on real sockets and disks: the leader has nothing to give of its snapshot, and another source has.

A node is away for longer than the log goes back. Of the leader's snapshot nothing reaches it: reads fail, reads hang,
or its link carries heartbeats and no pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from quorate.kernel import Job, Send
from quorate.parts.leaderlog.config import LeaderConfig
from quorate.parts.leaderlog.transfers import PATIENCE_BEATS, TRIES
from quorate.parts.log.replicated import ReadChunk
from quorate.protocols.multipaxos.messages import MultiPaxosConfig
from quorate.protocols.raft import RaftConfig
from quorate.protocols.raft.messages import InstallSnapshot
from quorate.runtime.jobs import Jobs

from tests.runtime.servers import Disturbed, Servers, run_until_seen, servers, until

OPTIONS: dict[str, Any] = {"heartbeat_s": 0.04, "election_timeout_s_min": 0.4, "snapshot_entries": 20}
CONFIGS: dict[str, LeaderConfig] = {
    "raft": RaftConfig(**OPTIONS, keep_entries=2, chunk_bytes=1000),
    "multipaxos": MultiPaxosConfig(**OPTIONS, keep_entries=2, chunk_bytes=1000),
}
TURN_S = TRIES * PATIENCE_BEATS * OPTIONS["heartbeat_s"]
HONEST_S = 3.0
"""More than an honest transfer takes on a machine that does other things as well."""


class Leading:
    """The server that leads, and how often it was asked in vain."""

    def __init__(self, cluster: Servers, node: int) -> None:
        self.server = cluster.running[node]
        self.vain = 0

    def _read_by(self, read: Callable[[Jobs, Job], Any]) -> None:
        jobs: Any = self.server.node._jobs
        jobs._doers[ReadChunk] = read

    def fails(self) -> None:
        async def read(_: Jobs, job: Job) -> None:
            self.vain += 1
            raise OSError(5, "Input/output error")

        self._read_by(read)

    def hangs(self) -> None:
        async def read(_: Jobs, job: Job) -> None:
            self.vain += 1
            await asyncio.Event().wait()

        self._read_by(read)

    def sends_no_pieces(self) -> None:
        shell: Any = self.server.node.shell
        honest: Callable[[Sequence[Send]], None] = shell._send

        def send(sends: Sequence[Send]) -> None:
            small = [send for send in sends if type(send.message).__name__ != InstallSnapshot.__name__]
            self.vain += len(sends) - len(small)
            honest(small)

        shell._send = send


@pytest.mark.parametrize("protocol", CONFIGS)
@pytest.mark.parametrize("how", [Leading.fails, Leading.hangs, Leading.sends_no_pieces])
def test_a_laggard_gets_the_snapshot_of_another(how: Callable[[Leading], None], protocol: str, tmp_path: Path) -> None:
    async def main(folder: Path) -> None:
        options = CONFIGS[protocol]
        async with servers(folder, 3, options=options, protocol=protocol) as cluster:
            leader = await cluster.leader()
            away = next(node for node in cluster.ids if node != leader)
            await cluster.stop(away)
            async with cluster.client(leader) as client:
                for number in range(60):
                    await client.put(b"key %d" % number, bytes(100))
            core = cluster.core(leader)
            log = core.log if protocol == "raft" else core.acceptor.log
            await until(lambda: log.base_index > 20)
            leading = Leading(cluster, leader)
            how(leading)
            await cluster.start(away)
            began = asyncio.get_running_loop().time()
            await cluster.converged()
            took_s = asyncio.get_running_loop().time() - began
            if await cluster.leader() != leader:
                raise Disturbed
            assert leading.vain > 0
            assert took_s <= HONEST_S + TURN_S

    run_until_seen(main, tmp_path)
