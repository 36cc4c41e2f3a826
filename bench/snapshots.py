"""What snapshots cost a node with much state: latencies and CPU while it takes some, memory, the time of a start.

    PYTHONPATH=src:. python -m bench.snapshots [--keys 1000000] [--key-bytes 74] [--value-bytes 1000] [--nodes 1]
        [--seconds 60] [--source OTHER/src] [--data DIR]

A cluster of processes is filled with keys in a random order. Then clients put random ones of them for a while, each one
put after the other, so that several snapshots fall into that time; the latencies and the nodes' CPU are of this part.
All nodes are killed with SIGKILL and started again. The start ends when a linearizable read is answered; the state
before and after is compared by its digest. `--source` measures another tree of Quorate with the same clients. Memory
is that of the first node: `anon` is its own, `file` are pages of files that the kernel can take back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quorate.machines.kv.commands import Digest, DigestResult, decode_result, encode
from quorate.service.client.aio import AsyncClient

from bench.processes import cpu_seconds

BASE_PORT = 8600
FILLERS = 256
CONNECTIONS = 16
PATIENCE_S = 300.0


class Cluster:
    """`quorate up`, from some tree."""

    def __init__(self, folder: Path, nodes: int, source: Path) -> None:
        command = [sys.executable, "-m", "quorate", "up", "--json", "--nodes", str(nodes), "--data", str(folder)]
        environment = {**os.environ, "PYTHONPATH": str(source)}
        self._process = subprocess.Popen(
            [*command, "--base-port", str(BASE_PORT)], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("no cluster could be started; `quorate up` said why")
        ready = json.loads(line)
        self.endpoints = tuple(ready["endpoints"])
        self.pids = [int(node["pid"]) for node in ready["nodes"]]

    def kill(self) -> None:
        """All nodes at once."""
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        self._process.wait()


def memory_mb(pid: int) -> dict[str, float]:
    """What the process has in memory, by kind."""
    fields = dict(line.split(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return {
        name: int(fields[field].split()[0]) / 1024
        for name, field in (("anon", "RssAnon"), ("file", "RssFile"), ("peak", "VmHWM"))
    }


def key_of(number: int, size_bytes: int) -> bytes:
    return random.Random(number).randbytes(size_bytes)


async def put_all(clients: list[AsyncClient], keys: Iterator[bytes], value: bytes, writers: int) -> list[float]:
    """Each writer puts one key after the other; how long each put took, in seconds."""
    took: list[float] = []

    async def write(client: AsyncClient) -> None:
        for key in keys:
            began = time.perf_counter()
            await client.put(key, value)
            took.append(time.perf_counter() - began)

    await asyncio.gather(*(write(clients[number % len(clients)]) for number in range(writers)))
    return took


async def digest_of(client: AsyncClient) -> tuple[int, bytes]:
    result = decode_result(await client.query(encode(Digest())))
    assert isinstance(result, DigestResult)
    return result.revision, result.digest


def until(deadline: float, keys: Iterator[bytes]) -> Iterator[bytes]:
    for key in keys:
        if time.perf_counter() >= deadline:
            return
        yield key


async def opened(endpoints: tuple[str, ...], count: int) -> list[AsyncClient]:
    clients = [AsyncClient(endpoints, timeout_s=PATIENCE_S) for _ in range(count)]
    return list(await asyncio.gather(*(client.__aenter__() for client in clients)))


async def filled_and_loaded(cluster: Cluster, asked: argparse.Namespace) -> dict[str, Any]:
    clients = await opened(cluster.endpoints, CONNECTIONS)
    order = list(range(asked.keys))
    random.Random(1).shuffle(order)
    value = random.Random(2).randbytes(asked.value_bytes)
    await put_all(clients, (key_of(number, asked.key_bytes) for number in order), value, FILLERS)
    filled = memory_mb(cluster.pids[0])
    rng = random.Random(3)
    some = (key_of(rng.randrange(asked.keys), asked.key_bytes) for _ in iter(int, 1))
    cpu_s, began = cpu_seconds(cluster.pids), time.perf_counter()
    took = sorted(await put_all(clients, until(began + asked.seconds, some), value, asked.clients))
    elapsed_s = time.perf_counter() - began
    found = {
        "puts_per_s": len(took) / elapsed_s,
        "put_ms_p50": took[len(took) // 2] * 1e3,
        "put_ms_p99": took[len(took) * 99 // 100] * 1e3,
        "put_ms_max": took[-1] * 1e3,
        "nodes_cpu_us_per_put": (cpu_seconds(cluster.pids) - cpu_s) / len(took) * 1e6,
        "memory_mb_filled": filled,
        "memory_mb_loaded": memory_mb(cluster.pids[0]),
    }
    found["digest"] = await digest_of(clients[0])
    await asyncio.gather(*(client.close() for client in clients))
    return found


async def first_read(cluster: Cluster) -> tuple[float, tuple[int, bytes]]:
    """When a read was answered, and the state."""
    (client,) = await opened(cluster.endpoints, 1)
    try:
        await client.get(b"nothing")
        return time.perf_counter(), await digest_of(client)
    finally:
        await client.close()


def files_mb(folder: Path) -> dict[str, float]:
    """What the first node has on the disk, by what it is."""
    node = folder / "n1"
    parts = {part: node / part for part in ("journal", "snapshots", "kv")}
    return {
        part: sum(path.stat().st_blocks * 512 for path in below.rglob("*") if path.is_file()) / (1 << 20)
        for part, below in parts.items()
    }


def measured(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    cluster = Cluster(folder, asked.nodes, asked.source)
    found = asyncio.run(filled_and_loaded(cluster, asked))
    found["state_mb"] = asked.keys * (asked.key_bytes + asked.value_bytes) / (1 << 20)
    found["disk_mb"] = files_mb(folder)
    cluster.kill()
    began = time.perf_counter()
    cluster = Cluster(folder, asked.nodes, asked.source)
    try:
        found["memory_mb_started"] = memory_mb(cluster.pids[0])
        answered, state = asyncio.run(first_read(cluster))
        found["start_s"] = answered - began
        assert state == found.pop("digest"), "the state is another one after the restart"
    finally:
        cluster.kill()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--key-bytes", type=int, default=74)
    parser.add_argument("--value-bytes", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--source", type=Path, default=Path(__file__).parent.parent / "src")
    parser.add_argument("--data", type=Path, default=None, help="on the disk that is to be measured")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.data) as folder:
        print(json.dumps(measured(Path(folder) / "cluster", asked), indent=2))


if __name__ == "__main__":
    main()
