"""How many writes clients get while a backup is taken, beside how many they get without.

    PYTHONPATH=src:. python bench/backup.py [--clients 200] [--keys 20000] [--value-bytes 1024] [--rounds 3]

Three nodes of Raft on this machine, and clients that put one value after the other over shared connections. The store
is filled first, so that a backup takes a while. Then, in turns, writes are counted for as long as backups are taken one
after the other by another process, and for the same time without. The share is that of the writes during backups: 1.0
costs nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from quorate import AsyncClient

from tests.cluster import LocalCluster

SPAN_S = 5.0
SAVE = (sys.executable, "-m", "quorate", "backup", "save")
CONNECTIONS = 10


class Writers:
    """Clients, and how many writes they were told of."""

    def __init__(self, endpoints: list[str], clients: int, value: bytes) -> None:
        self.written = 0
        self._value = value
        self._connections = [AsyncClient(endpoints, timeout_s=60) for _ in range(min(CONNECTIONS, clients))]
        self._clients = clients

    async def run(self) -> None:
        for connection in self._connections:
            await connection.__aenter__()
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._clients):
                    group.create_task(self._write(self._connections[number % len(self._connections)], number))
        finally:
            for connection in self._connections:
                await connection.close()

    async def _write(self, connection: AsyncClient, number: int) -> None:
        key = b"writer %d" % number
        while True:
            await connection.put(key, self._value)
            self.written += 1


async def rate(writers: Writers, endpoints: list[str], path: Path | None) -> float:
    """Writes a second, for SPAN_S and until a backup ends; with backups where there is a path."""
    began, before = time.monotonic(), writers.written
    if path is None:
        await asyncio.sleep(SPAN_S)
    while path is not None and time.monotonic() - began < SPAN_S:
        command = [*SAVE, str(path), "--force", "--endpoints", ",".join(endpoints)]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        assert await process.wait() == 0
    return (writers.written - before) / (time.monotonic() - began)


async def measure(endpoints: list[str], path: Path, arguments: argparse.Namespace) -> None:
    value = b"x" * arguments.value_bytes
    async with AsyncClient(endpoints, timeout_s=60) as client:
        for start in range(0, arguments.keys, 500):
            await asyncio.gather(*(client.put(b"key %08d" % number, value) for number in range(start, start + 500)))
    writers = Writers(endpoints, arguments.clients, value)
    writing = asyncio.create_task(writers.run())
    try:
        await asyncio.sleep(1)
        shares = []
        for _ in range(arguments.rounds):
            alone = await rate(writers, endpoints, None)
            during = await rate(writers, endpoints, path)
            shares.append(during / alone)
            size_bytes = await asyncio.to_thread(os.path.getsize, path)
            print(f"{alone:8.0f} writes/s alone, {during:8.0f} during backups of {size_bytes >> 20} MiB")
        print(f"share {min(shares):.2f} to {max(shares):.2f}")
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--value-bytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, LocalCluster(Path(folder) / "c") as cluster:
        asyncio.run(measure(cluster.endpoints, Path(folder) / "b", arguments))


if __name__ == "__main__":
    main()
