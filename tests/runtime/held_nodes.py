"""Real Nodes around the least core and App by which the rules of the Shell show: real sockets, journals and snapshots.

A disk can be held: what is appended then is not durable, and nothing of it is in the file. ``crash`` ends a node as a
power cut would: it comes back with what the file held at that moment.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pytest

from quorate.kernel import ROOT, App, Core, Env, Key, Requester, Shell
from quorate.kernel import Path as CorePath
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Decided, Restored, SnapshotInfo, TakeSnapshot
from quorate.runtime.codec import Codec
from quorate.runtime.journal.writer import SegmentWriter
from quorate.runtime.node import Node

from tests.ports import free_ports
from tests.runtime.crashes import power_cut


class Told(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """To the others: this is my vote."""

    vote: int


class Voted(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The record of a vote."""

    vote: int


class Put(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The record of an entry of the log."""

    data: bytes


class Snapped(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The record of a snapshot."""

    index: int


class Voter(Core):
    """Does what it is submitted: ``vote 5``, ``tell``, ``mark 3``, ``put x``, ``snap x``. Its log is never cut.

    A mark goes past the barrier. ``heard`` has the votes of the other, and ``marks`` the newest mark.
    """

    messages = (Told,)
    records = (Voted, Put, Snapped)
    gathers = False

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.votes: list[int] = []
        self.entries: list[bytes] = []
        self.snapshot_index = 0
        self.heard: list[int] = []
        self.marks = 0

    def start(self) -> None:
        if self.snapshot_index:
            self.env.deliver(Restored(self.snapshot_index, 1))
        for index in range(self.snapshot_index + 1, len(self.entries) + 1):
            self._commit(index)

    def restore(self, record: Any) -> None:
        if isinstance(record, Voted):
            self.votes.append(record.vote)
        elif isinstance(record, Put):
            self.entries.append(record.data)
        else:
            self.snapshot_index = record.index

    def checkpoint(self) -> Iterator[Any]:
        yield from map(Voted, self.votes)
        yield from map(Put, self.entries)
        yield Snapped(self.snapshot_index)

    def submit(self, values: Sequence[bytes]) -> None:
        for value in values:
            verb, _, what = value.partition(b" ")
            if verb == b"vote":
                self.votes.append(int(what))
                self.env.persist(Voted(int(what)))
                self._tell(int(what))
            elif verb == b"tell":
                for vote in self.votes:
                    self._tell(vote)
            elif verb == b"mark":
                self.env.send_now(self.env.others, Told(-int(what)))
            else:
                self.entries.append(what)
                self.env.persist(Put(what))
                self._commit(len(self.entries))
                if verb == b"snap":
                    self.env.work("snapshot", TakeSnapshot(len(self.entries), 1))

    def on_told(self, sender: int, message: Told) -> None:
        if message.vote > 0:
            self.heard.append(message.vote)
        else:
            self.marks = -message.vote

    def on_done(self, key: Key, result: Any) -> None:
        assert isinstance(result, SnapshotInfo)
        self.snapshot_index = result.index
        self.env.persist(Snapped(result.index))

    def _tell(self, vote: int) -> None:
        for node in self.env.others:
            self.env.send(node, Told(vote))

    def _commit(self, index: int) -> None:
        self.env.deliver(Decided(index, [Entry(1, self.entries[index - 1])]))


class VoterByInputs(Voter):
    """The same, recovered by its inputs."""

    by_inputs = True


class Words(App):
    """The log as its state. ``may_restore`` holds a snapshot back while it is being loaded."""

    def __init__(self) -> None:
        self.words: list[bytes] = []
        self.may_restore = threading.Event()
        self.may_restore.set()

    def output(self, value: Any, path: CorePath = ROOT) -> None:
        if isinstance(value, Decided):
            self.words += [entry.data for entry in value.entries]

    def request(self, client: Requester, request: Any) -> None:
        raise NotImplementedError

    def snapshot(self, path: CorePath = ROOT) -> Callable[[BinaryIO], None]:
        data = b" ".join(self.words)
        return lambda file: (file.write(data), None)[1]

    def restore(self, file: BinaryIO, path: CorePath = ROOT) -> Callable[[], None]:
        words = file.read().split()
        self.may_restore.wait()
        return lambda: setattr(self, "words", words)


class Disks:
    """Holds what the journals of nodes write, by the name of a node's folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._gates: dict[str, threading.Event] = {}
        for name in ("append", "make_way"):
            monkeypatch.setattr(SegmentWriter, name, self._gated(getattr(SegmentWriter, name)))

    def hold(self, folder: Path) -> None:
        self._gates.setdefault(folder.name, threading.Event()).clear()

    def release(self, folder: Path) -> None:
        self._gates.setdefault(folder.name, threading.Event()).set()

    def _gated(self, write: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def gated(writer: Any, frames: Any) -> Any:
            gate = self._gates.get(writer._directory.parent.name)
            if gate is not None:
                gate.wait()
            return write(writer, frames)

        return gated


class Pair:
    """Nodes 1 and 2; the first has the Shell that is tested."""

    def __init__(
        self, folder: Path, disks: Disks, shell: type[Shell], core: type[Voter], app: Callable[[], Words]
    ) -> None:
        self.disks = disks
        self._app = app
        self.running: dict[int, Node] = {}
        self._folder = folder
        self._marks = 0
        self._shells = {1: shell, 2: Shell}
        self._core = core
        self._codec = Codec(core)
        ports = free_ports(2)
        self._addresses = {node: ("127.0.0.1", ports[node - 1]) for node in (1, 2)}

    def data(self, node: int) -> Path:
        return self._folder / f"n{node}"

    async def start(self, node: int, app: Words | None = None) -> None:
        made = Node(
            node=node,
            cluster="c",
            protocol="voter",
            addresses=self._addresses,
            make=self._core,
            codec=self._codec,
            app=app or self._app(),
            data=self.data(node),
            shell=self._shells[node],
        )
        await made.start()
        self.running[node] = made
        if len(self.running) == 2:
            await self.mark()

    async def stop(self, *nodes: int) -> None:
        for node in nodes or tuple(self.running):
            self.disks.release(self.data(node))
            self.app(node).may_restore.set()
            await self.running.pop(node).stop()

    async def crash(self, node: int) -> None:
        await power_cut(self.data(node), lambda: self.stop(node))

    def core(self, node: int) -> Voter:
        core = self.running[node].host.root
        assert isinstance(core, Voter)
        return core

    def app(self, node: int) -> Words:
        app = self.running[node].app
        assert isinstance(app, Words)
        return app

    def submit(self, *values: bytes) -> None:
        self.running[1].submit(values)

    async def mark(self) -> None:
        """When this returns, node 2 has heard all that node 1 had sent before."""
        self._marks += 1
        while self.core(2).marks < self._marks:
            self.submit(b"mark %d" % self._marks)  # again, for a link that is not there yet
            await asyncio.sleep(0.001)


@asynccontextmanager
async def pair(
    folder: Path,
    disks: Disks,
    shell: type[Shell] = Shell,
    core: type[Voter] = Voter,
    app: Callable[[], Words] = Words,
) -> AsyncIterator[Pair]:
    """Two nodes that run and hear each other."""
    made = Pair(folder, disks, shell, core, app)
    try:
        await made.start(2)
        await made.start(1)
        yield made
    finally:
        await made.stop()
