"""Three etcd processes on this machine, and how they are measured.

Throughput is what `etcdctl check perf` reports. Its presets fix the number of clients and a rate limit: `m` has 200
clients but no more than 1,000 writes/s, `l` 500 clients (counted by their connections) and 8,000/s, `xl` 1,000 and
15,000/s. So `l` stands against our 200 clients: more clients than ours favour etcd. Latency of one client is measured
through gRPC from Python, since etcdctl has no such mode.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.processes import cpu_seconds, peak_memory_mb

READY_TIMEOUT_S = 60.0
PUT = "/etcdserverpb.KV/Put"


def installed() -> bool:
    """Whether etcd and etcdctl are there."""
    return all(shutil.which(tool) for tool in ("etcd", "etcdctl"))


@contextmanager
def cluster() -> Iterator[Etcd]:
    """A fresh cluster of three; its data is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="bench-etcd-") as folder:
        etcd = Etcd(Path(folder))
        try:
            etcd.wait()
            yield etcd
        finally:
            etcd.stop()


class Etcd:
    """The three processes, with the data in ``folder``, each at its host; ``options`` go to each."""

    hosts: tuple[str, str, str] = ("127.0.0.1",) * 3

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        ports = free_ports(6)
        self.endpoints = [f"{host}:{port}" for host, port in zip(self.hosts, ports[:3], strict=True)]
        peers = [f"http://{host}:{port}" for host, port in zip(self.hosts, ports[3:], strict=True)]
        members = ",".join(f"e{number}={peer}" for number, peer in enumerate(peers))
        self._commands = []
        for number, (endpoint, peer) in enumerate(zip(self.endpoints, peers, strict=True)):
            name, client = f"e{number}", f"http://{endpoint}"
            command = ["etcd", "--name", name, "--data-dir", str(folder / name), "--initial-cluster", members]
            command += ["--listen-client-urls", client, "--advertise-client-urls", client]
            command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            self._commands.append([*command, *options])
        self._folder = folder
        self.processes = [self._spawn(number) for number in range(3)]

    def _spawn(self, number: int) -> subprocess.Popen[bytes]:
        with (self._folder / f"e{number}.log").open("ab") as log:
            return subprocess.Popen(self._commands[number], stdout=log, stderr=log)

    def start(self, number: int) -> None:
        """One that has ended, again."""
        self.processes[number] = self._spawn(number)
        self.wait()

    @property
    def pids(self) -> list[int]:
        """Of the servers."""
        return [process.pid for process in self.processes]

    def wait(self) -> None:
        """Until all are healthy. Raises RuntimeError."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while self._etcdctl("endpoint", "health").returncode != 0:
            if time.monotonic() > deadline:
                raise RuntimeError("etcd did not become healthy; is another one running?")
            time.sleep(0.2)

    def stop(self) -> None:
        """Kill them."""
        for process in self.processes:
            process.kill()
            process.wait()

    def check_perf(self, load: str) -> dict[str, float]:
        """`etcdctl check perf`, a minute. Writes/s, the slowest request, and what the servers spent."""
        before = cpu_seconds(self.pids)
        began = time.monotonic()
        output = self._etcdctl("check", "perf", f"--load={load}", f"--prefix=/check-perf-{load}/").stdout
        elapsed_s = time.monotonic() - began
        throughput = re.search(r"(?:Throughput is|Throughput too low:) (\d+) writes/s", output)
        slowest = re.search(r"(?:Slowest request took|too long:) ([\d.]+)s", output)
        if throughput is None:
            raise RuntimeError(f"etcdctl check perf said nothing that is understood:\n{output[-2000:]}")
        per_s = float(throughput[1])
        return {
            "writes_per_s": per_s,
            "latency_ms_max": float(slowest[1]) * 1000 if slowest else float("nan"),
            "cpu_s_per_10k_writes": (cpu_seconds(self.pids) - before) / (per_s * min(elapsed_s, 60.0)) * 10_000,
            "peak_memory_mb": peak_memory_mb(self.pids),
        }

    def one_client(self, seconds: float, key_bytes: int, value_bytes: int) -> dict[str, float]:
        """One Python client that puts in sequence through gRPC to the leader."""
        import grpc

        latencies: list[float] = []
        with grpc.insecure_channel(self._leader()) as channel:
            put = channel.unary_unary(PUT, request_serializer=_same, response_deserializer=_same)
            value = random.randbytes(value_bytes)
            until = time.perf_counter() + seconds + 1.0
            while (begin := time.perf_counter()) < until:
                put(put_request(random.randbytes(key_bytes), value), timeout=10.0)
                latencies.append(time.perf_counter() - begin)
        kept = sorted(latencies[len(latencies) // 10 :])  # the first tenth is warm-up
        return {
            "writes_per_s": len(kept) / sum(kept),
            "latency_ms_p50": kept[len(kept) // 2] * 1000,
            "latency_ms_p99": kept[len(kept) * 99 // 100] * 1000,
        }

    def _leader(self) -> str:
        return self.endpoints[(self.leading() or 1) - 1]

    def leading(self) -> int | None:
        """The place of the one that leads, from 1 on; None where nobody does, or not all say so."""
        status = self._etcdctl("endpoint", "status", "-w", "json")
        if status.returncode != 0:
            return None
        rows = json.loads(status.stdout)
        for row in rows:
            leader = row["Status"].get("leader")  # left out where it knows of none
            is_it = leader == row["Status"]["header"]["member_id"]
            if is_it and all(leader == other["Status"].get("leader") for other in rows):
                return self.endpoints.index(row["Endpoint"]) + 1
        return None

    def _etcdctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["etcdctl", "--endpoints", ",".join(self.endpoints), *arguments]
        return subprocess.run(command, env={"ETCDCTL_API": "3", "PATH": _path()}, capture_output=True, text=True)


def _same(data: Any) -> Any:
    return data


def put_request(key: bytes, value: bytes) -> bytes:
    """PutRequest of etcd's rpc.proto: field 1 is the key, field 2 the value."""
    return b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _path() -> str:
    import os

    return os.environ.get("PATH", os.defpath)


def free_ports(count: int) -> list[int]:
    """Ports that are free at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
