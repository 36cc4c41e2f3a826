"""Quorate processes, started as a user would, and how they are measured: by `quorate bench`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from bench.processes import cpu_seconds, peak_memory_mb
from bench.reads import run_reads

BASE_PORTS = range(8400, 9400, 10)
COMMAND = [sys.executable, "-m", "quorate"]


@contextmanager
def cluster(protocol: str, nodes: int) -> Iterator[Quorate]:
    """A fresh `quorate up --ephemeral`."""
    for base in BASE_PORTS:
        command = [*COMMAND, "up", "--ephemeral", "--json", "--protocol", protocol, "--nodes", str(nodes)]
        command += ["--base-port", str(base)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.wait()
            continue  # the ports are taken
        try:
            yield Quorate(json.loads(line))
        finally:
            process.terminate()
            process.wait()
        return
    raise RuntimeError("no cluster could be started; try `quorate up --ephemeral` to see why")


class Quorate:
    """A running cluster, from the event that `up --json` prints."""

    def __init__(self, ready: dict[str, Any]) -> None:
        self.endpoints = ",".join(ready["endpoints"])
        self.pids = [int(node["pid"]) for node in ready["nodes"]]

    def load(
        self, clients: int, seconds: float, sizes: tuple[int, int], connections: int | None = None
    ) -> dict[str, float]:
        """`quorate bench` with so many clients; sizes of key and value in bytes."""
        key_bytes, value_bytes = sizes
        command = [*COMMAND, "bench", "--json", "--endpoints", self.endpoints, "--clients", str(clients)]
        command += ["--duration", str(seconds), "--key-bytes", str(key_bytes), "--value-bytes", str(value_bytes)]
        if connections is not None:
            command += ["--connections", str(connections)]
        finished = subprocess.run(command, capture_output=True, text=True)
        if finished.returncode != 0:
            raise RuntimeError(f"quorate bench failed: {finished.stderr.strip()}")
        measured = json.loads(finished.stdout)
        if measured["errors"]:
            raise RuntimeError(f"{measured['errors']} writes failed: the figures would mean nothing")
        return {
            "writes_per_s": measured["puts_per_s"],
            "latency_ms_p50": measured["latency_ms_p50"],
            "latency_ms_p99": measured["latency_ms_p99"],
            "latency_ms_max": measured["latency_ms_max"],
        }

    def reads(self, clients: int, connections: int | None, seconds: float, value_bytes: int) -> dict[str, float]:
        """Reads a second, their median latency, and CPU of the servers for one."""
        measured = asyncio.run(
            run_reads(self.endpoints, clients, connections, seconds, value_bytes, lambda: cpu_seconds(self.pids))
        )
        return msgspec.structs.asdict(measured)

    def cost(self, puts: int, clients: int, sizes: tuple[int, int], connections: int | None = None) -> dict[str, float]:
        """CPU seconds of the servers for 10,000 writes, and the peak memory of the largest so far."""
        key_bytes, value_bytes = sizes
        before = cpu_seconds(self.pids)
        command = [
            *COMMAND,
            "bench",
            "--json",
            "--endpoints",
            self.endpoints,
            "--clients",
            str(clients),
            "--puts",
            str(puts),
        ]
        command += [
            "--duration",
            "120",
            "--key-bytes",
            str(key_bytes),
            "--value-bytes",
            str(value_bytes),
            "--warm-up",
            "0",
        ]
        if connections is not None:
            command += ["--connections", str(connections)]
        measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return {
            "cpu_s_per_10k_writes": (cpu_seconds(self.pids) - before) / measured["puts"] * 10_000,
            "peak_memory_mb": peak_memory_mb(self.pids),
        }
