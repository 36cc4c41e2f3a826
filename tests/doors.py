"""LineDoor: a front door that speaks in lines of words, to be put beside others on one node.

A client sends a line and gets lines, in whatever order the node has answers. When it hangs up, the door says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

LINE_BYTES_MAX = 65_536


class LineCaller:
    """One client at a LineDoor: a kernel Client."""

    def __init__(self, writer: asyncio.StreamWriter, words: Callable[[Any], str]) -> None:
        self.principal = "line " + ":".join(map(str, writer.get_extra_info("peername")))
        self._writer = writer
        self._words = words

    def reply(self, response: Any) -> None:
        """One line; a client that is gone is no error."""
        if not self._writer.is_closing():
            self._writer.write(self._words(response).encode() + b"\n")


class LineDoor:
    """``take(caller, words)`` gets each line, ``closed(caller)`` each client that has left; ``words`` makes a line."""

    def __init__(
        self,
        port: int,
        take: Callable[[LineCaller, list[str]], None],
        closed: Callable[[LineCaller], None],
        words: Callable[[Any], str] = str,
    ) -> None:
        self.port = port
        self.callers: set[LineCaller] = set()
        self._take = take
        self._closed = closed
        self._words = words

    async def start(self) -> None:
        """Listen."""
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=LINE_BYTES_MAX)

    async def stop(self) -> None:
        """Take no more clients."""
        self._listening.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = LineCaller(writer, self._words)
        self.callers.add(caller)
        with suppress(OSError, asyncio.CancelledError):
            while line := await reader.readline():
                self._take(caller, line.decode().split())
        writer.close()
        self.callers.discard(caller)
        self._closed(caller)


class Line:
    """A client of a LineDoor."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Line:
        """Raises OSError where nobody listens."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=LINE_BYTES_MAX * 64))

    async def ask(self, *words: str) -> list[str]:
        """Send a line and read one. Raises OSError where the node is gone."""
        self.send(*words)
        return await self.read()

    def send(self, *words: str) -> None:
        """Send a line."""
        self._writer.write(" ".join(words).encode() + b"\n")

    async def read(self) -> list[str]:
        """The next line. Raises OSError where the node is gone."""
        if not (line := await self._reader.readline()):
            raise ConnectionResetError("the node is gone")
        return line.decode().split()

    def close(self) -> None:
        """Hang up."""
        self._writer.close()
