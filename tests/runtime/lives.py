"""Lives of a node without its core: store, replica, jobs and snapshots in a folder. Its log follows from the index."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from quorate.kernel import ROOT, Job
from quorate.machines.kv.commands import Compact, Digest, DigestResult, Put, decode_result, encode
from quorate.machines.kv.machine import KvMachine
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Chunk, Decided, ReadChunk, WriteChunk, Written, marks_of
from quorate.runtime.files import Identity
from quorate.runtime.jobs import Jobs
from quorate.runtime.stores import SnapshotStores
from quorate.service.replica import Replica
from quorate.service.requests import Apply, OpenSession

CHUNK = 4096
encode_any = msgspec.msgpack.Encoder().encode


class Life:
    """One of a node: its store, its replica and its jobs."""

    def __init__(self, folder: Path, node: int = 1) -> None:
        self.folder = folder
        self.machine = KvMachine.opened(folder / "kv")
        self.replica = Replica(self.machine)
        self.stores = SnapshotStores(folder / "snapshots", Identity("c", node))
        self.ended: list[Exception] = []
        self.jobs = Jobs(self.stores, self.replica, on_spoiled=self.ended.append)

    async def do(self, work: Any) -> Any:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.jobs.start(Job(ROOT, "job", work), done.set_result)
        return await done

    def put(self, count: int) -> int:
        """Commit so many commands; return the index of the last."""
        for _ in range(count):
            index = self.replica.applied_index + 1
            command = encode_any(OpenSession(7)) if index == 1 else self._put(index)
            self.replica.output(Decided(index, (Entry(1, command),)))
        return self.replica.applied_index

    def _put(self, index: int) -> bytes:
        if index % 40 == 0:
            return encode_any(Apply(1, index, index, encode(Compact(self.machine.store.revision - 10))))
        operation = encode(Put(b"%d" % (index % 50), b"%d" % index * 200))
        return encode_any(Apply(1, index, index, operation))

    def state(self) -> tuple[int, int, bytes]:
        result = decode_result(self.replica.read(encode(Digest())))
        assert isinstance(result, DigestResult)
        return self.replica.applied_index, len(self.replica.sessions), result.digest

    def marked(self) -> list[int]:
        return [info.index for info in self.stores(marks_of(ROOT)).infos()]

    def streams(self) -> list[int]:
        return [info.index for info in self.stores().infos()]

    async def stop(self) -> None:
        await self.jobs.stop()
        self.machine.close()


async def began(folder: Path, index: int = 0) -> Life:
    """A life that starts from what the journal names."""
    life = Life(folder)
    if index:
        (await life.jobs.load(index))()
    return life


async def carried(source: Life, target: Life, index: int, pieces: int = 1 << 30) -> Written | None:
    """Send a snapshot's file, or so many pieces of it."""
    offset = 0
    written: Any = None
    while pieces > 0 and not (written and written.complete):
        chunk = await source.do(ReadChunk(index, offset, CHUNK))
        assert isinstance(chunk, Chunk), chunk
        written = await target.do(WriteChunk(chunk.index, chunk.term, offset, chunk.data, chunk.total_bytes))
        offset = written.next_offset
        pieces -= 1
    return written
