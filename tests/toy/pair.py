"""Pair: two logs in one process, children of a small root, and TwoLogs, the one App that they serve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec

from quorate.kernel import ROOT, App, Core, Env, Name, Path, Requester
from quorate.parts.log.entries import COMMAND
from quorate.protocols.raft import Raft, RaftConfig

from tests.toy.asking import Decided

LEFT: Path = (("log", 1),)
RIGHT: Path = (("log", 2),)
PATHS = (LEFT, RIGHT)
SMALL = RaftConfig(snapshot_entries=12, keep_entries=3, chunk_bytes=64, message_entries_max=4)
"""Snapshots often, and followers that need one."""


class Pair(Core):
    """Two logs that know nothing of each other. What they deliver leaves the Host with their paths."""

    children = (Raft,)

    def __init__(self, env: Env, config: RaftConfig = SMALL) -> None:
        super().__init__(env)
        for (name,) in PATHS:
            env.spawn(name, Raft, config, upcall=None)

    def revive(self, name: Name) -> None:
        raise ValueError(f"there is no log {name}")


class TwoLogs(App):
    """By path, what that log committed. A request is a path and a value; it is answered when that is committed here.

    ``snapshots`` and ``restores`` count by path.
    """

    def __init__(self) -> None:
        self.logs: dict[Path, list[bytes]] = {path: [] for path in PATHS}
        self.positions = dict.fromkeys(PATHS, 0)
        self.snapshots = dict.fromkeys(PATHS, 0)
        self.restores = dict.fromkeys(PATHS, 0)
        self._waiting: dict[tuple[Path, bytes], Requester] = {}

    def request(self, client: Requester, request: tuple[Path, bytes]) -> None:
        path, value = request
        if value in self.logs[path]:
            self.port.reply(client, value)
            return
        self._waiting[request] = client
        self.port.submit([value], path)

    def output(self, value: Any, path: Path = ROOT) -> None:
        if isinstance(value, Decided):
            assert value.first_index == self.positions[path] + 1, (path, value.first_index, self.positions)
            self.positions[path] += len(value.entries)
            for entry in value.entries:
                if entry.kind == COMMAND:
                    self.logs[path].append(entry.data)
                    if (client := self._waiting.pop((path, entry.data), None)) is not None:
                        self.port.reply(client, entry.data)

    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        self.snapshots[path] += 1
        data = msgspec.msgpack.encode((self.positions[path], self.logs[path]))
        return lambda file: (file.write(data), None)[1]

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        position, log = msgspec.msgpack.decode(file.read(), type=tuple[int, list[bytes]])

        def adopt() -> None:
            self.restores[path] += 1
            self.positions[path], self.logs[path] = position, log

        return adopt
