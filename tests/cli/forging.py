"""A proxy that forges answers of an RPC: bytes of the same length, in those that come back, and all else as it is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from quorate.service.client.loop_thread import LoopThread

CHUNK_BYTES = 1 << 20


class Forger:
    """``forge`` changes what came back, and keeps its length. ``url``: of the proxy. ``count``: changed answers."""

    def __init__(self, target: str, forge: Callable[[bytes], bytes]) -> None:
        parts = urlsplit(target)
        self._target = parts.hostname, parts.port
        self._forge = forge
        self.url = ""
        self.count = 0

    def forged(self, data: bytes) -> bytes:
        made = self._forge(data)
        assert len(made) == len(data), "or its header says otherwise"
        self.count += made != data
        return made

    async def serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_connection(*self._target, limit=CHUNK_BYTES)
        with suppress(ConnectionError):
            await asyncio.gather(
                self._pipe(reader, their_writer, is_answer=False), self._pipe(their_reader, writer, is_answer=True)
            )

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                writer.write(self.forged(data) if is_answer else data)
                await writer.drain()
        finally:
            writer.close()


def one_byte(where: bytes, what: bytes) -> Callable[[bytes], bytes]:
    """``what``: a pattern whose first group is a byte, to be another one; ``where``: what else the answer must have."""

    def forge(data: bytes) -> bytes:
        found = re.search(what, data) if where in data else None
        if found is None:
            return data
        place = found.start(1)
        return data[:place] + (b"1" if data[place : place + 1] == b"0" else b"0") + data[place + 1 :]

    return forge


@contextmanager
def forging(target: str, forge: Callable[[bytes], bytes]) -> Iterator[Forger]:
    """In a thread of its own."""
    thread, forger = LoopThread("forger"), Forger(target, forge)
    server = thread.run(forger.serve())
    try:
        yield forger
    finally:

        async def close() -> None:
            server.close()

        thread.run(close())
        thread.stop()
