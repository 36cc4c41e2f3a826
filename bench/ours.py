"""Quorate processes, started as a user would, and how they are measured: by `quorate bench` and `bench.reads`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.figures import Figures, per_operation
from bench.processes import children_cpu_seconds, cpu_seconds, peak_memory_mb

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

    def puts(self, clients: int, connections: int, seconds: float, key_bytes: int, value_bytes: int) -> Figures:
        """`quorate bench` for so long, of new keys. Its start is measured with it, as etcd's tool does."""
        command = ["quorate", "bench", "--warm-up", "0", "--duration", str(seconds), "--key-bytes", str(key_bytes)]
        measured, spent = self._run(command, clients, connections, value_bytes)
        if measured["errors"]:
            raise RuntimeError(f"{measured['errors']} writes failed: the figures would mean nothing")
        return _figures(measured, measured["puts_per_s"], spent, measured["puts"])

    def reads(
        self, clients: int, connections: int, seconds: float, value_bytes: int, *, is_serializable: bool
    ) -> Figures:
        """`bench.reads` for so long."""
        command = ["bench.reads", "--seconds", str(seconds), *(["--serializable"] if is_serializable else [])]
        measured, spent = self._run(command, clients, connections, value_bytes)
        return _figures(measured, measured["reads_per_s"], spent, measured["all_reads"])

    def _run(
        self, command: list[str], clients: int, connections: int, value_bytes: int
    ) -> tuple[dict[str, Any], tuple[float, float]]:
        """What it says, and the CPU seconds of the nodes and its own."""
        command = [sys.executable, "-m", *command, "--json", "--endpoints", self.endpoints, "--clients", str(clients)]
        command += ["--connections", str(connections), "--value-bytes", str(value_bytes)]
        nodes_s, client_s = cpu_seconds(self.pids), children_cpu_seconds()
        finished = subprocess.run(command, capture_output=True, text=True)
        if finished.returncode != 0:
            raise RuntimeError(f"{' '.join(command[2:4])} failed: {finished.stderr.strip()[-2000:]}")
        return json.loads(finished.stdout), (cpu_seconds(self.pids) - nodes_s, children_cpu_seconds() - client_s)

    @property
    def peak_memory_mb(self) -> float:
        """Of the largest node so far."""
        return peak_memory_mb(self.pids)


def _figures(measured: dict[str, Any], per_s: float, spent: tuple[float, float], count: int) -> Figures:
    return Figures(
        per_s=per_s,
        ms_p50=measured["latency_ms_p50"],
        ms_p99=measured["latency_ms_p99"],
        ms_max=measured["latency_ms_max"],
        nodes_us=per_operation(spent[0], count),
        client_us=per_operation(spent[1], count),
    )
