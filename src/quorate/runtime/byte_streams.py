"""Byte streams: a connection whose bytes somebody else's format gives a meaning. For protocols that others have made.

How it works. What is read goes to ``on_bytes`` as it comes. What is written waits in the transport while the socket is
full; ``unsent_bytes`` says how much that is, and ``on_writable`` when it is little again. Bounds on both are whose
connection it is to keep: ``pause`` stops reading, ``cut`` ends it. After ``cut`` no hook is called but ``on_lost``.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from quorate.runtime.address import format_address
from quorate.runtime.forks import let_go, not_for_forks
from quorate.runtime.framing import WRITE_HIGH_BYTES, keep_alive


class ByteConnection(asyncio.Protocol):
    """One connection. Not thread-safe: the event loop's thread alone touches it."""

    dead_after_s = 30.0
    """When the system ends a connection whose other machine is gone."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.remote = "nobody yet"
        self.is_open = False
        self.is_writable = True
        self.why = ""
        """It ended, or is ending."""
        self._transport: asyncio.Transport | None = None
        self._is_reading = True
        self._descriptor = -1

    # --- hooks ---

    def on_open(self) -> None:
        """The connection is there."""

    def on_bytes(self, data: bytes) -> None:
        """What was read; never empty."""
        raise NotImplementedError

    def on_writable(self) -> None:
        """``is_writable`` changed."""

    def on_lost(self, why: str) -> None:
        """The connection is gone; called once, if it ever was."""

    # --- verbs ---

    def write(self, data: bytes) -> None:
        """Send it, soon; nothing, where the connection is gone or going."""
        if data and self.is_open and self._transport is not None:
            self._transport.write(data)

    def cut(self, why: str) -> None:
        """End at once; what has not left is lost. The first reason given is the one that counts."""
        self._end(why)
        if self._transport is not None:
            self._transport.abort()

    def close(self, why: str) -> None:
        """Take no more, and end when all that was written has left."""
        if self.is_open and self._transport is not None:
            self._end(why)
            self._transport.close()

    def pause(self) -> None:
        """Read no more until ``resume``."""
        if self._is_reading and self.is_open and self._transport is not None:
            self._is_reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self._is_reading and self.is_open and self._transport is not None:
            self._is_reading = True
            self._transport.resume_reading()

    @property
    def unsent_bytes(self) -> int:
        """What was written and is not in the operating system's hands."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        sock = transport.get_extra_info("socket")
        self._descriptor = sock.fileno()
        not_for_forks(self._descriptor)
        if sock.family != socket.AF_UNIX:
            keep_alive(sock, self.dead_after_s)
        address = transport.get_extra_info("peername")
        self.remote = format_address(*address[:2]) if isinstance(address, tuple) else "a Unix socket"
        self.is_open = True
        self.on_open()

    def data_received(self, data: bytes) -> None:
        if self.is_open:
            self.on_bytes(data)

    def pause_writing(self) -> None:
        self.is_writable = False
        self.on_writable()

    def resume_writing(self) -> None:
        self.is_writable = True
        self.on_writable()

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is None:
            return
        self._end(f"broke: {error}" if error else "closed by the other side")
        let_go(self._descriptor)  # asyncio closes it after this
        self._transport = None
        self.on_lost(self.why)

    def _end(self, why: str) -> None:
        self.is_open = False
        self.why = self.why or why
