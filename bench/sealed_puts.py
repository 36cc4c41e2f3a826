"""What sealed links cost a put of PBFT: four nodes and a client in one process, with links plain and sealed in turn.

Run `python -m bench.sealed_puts [--rounds 4]` from the root of the checkout. It counts CPU time, which a busy machine
disturbs least. Nodes never run with plain links where they have keys; for this, the links are told of no keys.
"""

import argparse
import asyncio
import socket
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from quorate.protocols.pbft import PbftConfig
from quorate.runtime import key_files
from quorate.runtime.peers import Peers
from quorate.service.client.aio import AsyncClient
from quorate.service.config import Member, NodeConfig
from quorate.service.server import Server

NODES = (1, 2, 3, 4)
VALUE = b"x" * 1024
PIPELINES = {1: 200, 16: 640}
"""Puts under way at once, and how many in all."""


def addresses() -> dict[int, Member]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2 * len(NODES))]
    ports = [sock.getsockname()[1] for sock in held]
    for sock in held:
        sock.close()
    return {node: Member(*[f"127.0.0.1:{ports.pop()}" for _ in range(2)]) for node in NODES}


async def measure(folder: Path, pipeline: int, puts: int, *, is_sealed: bool) -> tuple[float, float]:
    """Microseconds of CPU and frames, a put."""
    nodes = addresses()
    key_files.generate(folder / "keys", len(NODES))
    async with AsyncExitStack() as stack:
        servers: list[Server] = []
        for node in NODES:
            config = NodeConfig(
                cluster="bench",
                node=node,
                data=folder / f"n{node}",
                nodes=nodes,
                protocol="pbft",
                options=PbftConfig(),
                keys=folder / "keys",
            )
            server = Server(config)
            if not is_sealed:
                plain = Peers(node, "bench", "pbft", config.peer_addresses(), server.node.peers.on_frames)
                server.node.peers = plain
                server.node._links = plain
            await server.start()
            stack.push_async_callback(server.stop)
            servers.append(server)
        client = await stack.enter_async_context(AsyncClient([nodes[n].client for n in NODES], timeout_s=30.0))
        await client.put(b"k", VALUE)
        frames = sent_frames(servers)
        began_s = time.process_time()

        async def some() -> None:
            for _ in range(puts // pipeline):
                await client.put(b"k", VALUE)

        await asyncio.gather(*[some() for _ in range(pipeline)])
        return (time.process_time() - began_s) / puts * 1e6, (sent_frames(servers) - frames) / puts


def sent_frames(servers: list[Server]) -> int:
    return sum(counters.sent_frames for server in servers for counters in server.node.peers.counters.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    rounds = parser.parse_args().rounds
    for pipeline, puts in PIPELINES.items():
        found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for number in range(rounds):
            for is_sealed in (False, True) if number % 2 else (True, False):
                with tempfile.TemporaryDirectory() as folder:
                    found[is_sealed].append(asyncio.run(measure(Path(folder), pipeline, puts, is_sealed=is_sealed)))
        for is_sealed, runs in found.items():
            cpu_us = [run[0] for run in runs]
            kind = "sealed" if is_sealed else "plain"
            print(
                f"{kind:6} {pipeline:3} at once  {statistics.median(cpu_us):6.0f} us CPU a put"
                f" ({min(cpu_us):.0f} to {max(cpu_us):.0f}), {statistics.median(run[1] for run in runs):.1f} frames"
            )


if __name__ == "__main__":
    main()
