"""Three etcd processes on this machine."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

READY_TIMEOUT_S = 60.0
PUT = "/etcdserverpb.KV/Put"


def installed() -> bool:
    """Whether etcd and etcdctl are there."""
    return all(shutil.which(tool) for tool in ("etcd", "etcdctl"))


@contextmanager
def cluster(options: Sequence[str] = (), *, programs: tuple[str, str] = ("etcd", "etcdctl")) -> Iterator[Etcd]:
    """A fresh cluster of three; its data is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="bench-etcd-") as folder:
        etcd = Etcd(Path(folder), options, programs=programs)
        try:
            etcd.wait()
            yield etcd
        finally:
            etcd.stop()


class Etcd:
    """The three processes, with the data in ``folder``, each at its host; ``options`` go to each."""

    hosts: tuple[str, str, str] = ("127.0.0.1",) * 3

    def __init__(
        self, folder: Path, options: Sequence[str] = (), *, programs: tuple[str, str] = ("etcd", "etcdctl")
    ) -> None:
        ports = free_ports(6)
        self.endpoints = [f"{host}:{port}" for host, port in zip(self.hosts, ports[:3], strict=True)]
        peers = [f"http://{host}:{port}" for host, port in zip(self.hosts, ports[3:], strict=True)]
        members = ",".join(f"e{number}={peer}" for number, peer in enumerate(peers))
        self._commands = []
        for number, (endpoint, peer) in enumerate(zip(self.endpoints, peers, strict=True)):
            name, client = f"e{number}", f"http://{endpoint}"
            command = [programs[0], "--name", name, "--data-dir", str(folder / name), "--initial-cluster", members]
            command += ["--listen-client-urls", client, "--advertise-client-urls", client]
            command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            self._commands.append([*command, *options])
        self._folder = folder
        self._etcdctl_program = programs[1]
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
        command = [self._etcdctl_program, "--endpoints", ",".join(self.endpoints), *arguments]
        return subprocess.run(command, env={"ETCDCTL_API": "3", "PATH": _path()}, capture_output=True, text=True)


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
