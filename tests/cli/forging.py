"""A proxy that forges answers of an RPC: bytes of the same length, in those that come back, and all else as it is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from quorate.service.client.loop_thread import LoopThread

CHUNK_BYTES = 1 << 20


class Forger:
    """``what``: a pattern whose first group is one byte, to be another one; ``where``: what else the answer must have.

    ``url``: of the proxy. ``count``: forged answers.
    """

    def __init__(self, target: str, where: bytes, what: bytes) -> None:
        parts = urlsplit(target)
        self._target = parts.hostname, parts.port
        self._where, self._what = where, re.compile(what)
        self.url = ""
        self.count = 0

    def forged(self, data: bytes) -> bytes:
        found = self._what.search(data) if self._where in data else None
        if found is None:
            return data
        self.count += 1
        place, byte = found.start(1), found.group(1)
        return data[:place] + (b"0" if byte != b"0" else b"1") + data[place + 1 :]

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


@contextmanager
def forging(target: str, where: bytes, what: bytes) -> Iterator[Forger]:
    """In a thread of its own."""
    thread, forger = LoopThread("forger"), Forger(target, where, what)
    server = thread.run(forger.serve())
    try:
        yield forger
    finally:

        async def close() -> None:
            server.close()

        thread.run(close())
        thread.stop()
