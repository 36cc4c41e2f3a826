"""Framing: a TCP connection that carries whole frames, many at a time in both directions.

A frame is a length of 4 bytes, little-endian, and that many bytes of payload; a length of zero or above the limit
ends the connection. How it works:

- All frames that one read completes are handed over in one call, so that a node can put them into one step.
- All frames sent within one turn of the event loop leave in one write, or in a few if they are large.
- A connection holds at most one frame and one read of what comes in. What goes out waits while the socket is full, up
  to a limit in bytes and in frames; ``send`` says so instead of growing.
- Bytes go to the transport by ``write`` alone. asyncio's ``writelines`` never pauses the writer in Python 3.12.0 to
  3.12.8, 3.13.0 and 3.13.1 (CVE-2024-12254), and raises TypeError there once the other side has hung up.

Subclasses override the ``on_...`` hooks. After ``cut`` no hook is called but ``on_lost``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address
from typing import Any, cast

import msgspec

from quorate.runtime.address import format_address, literal
from quorate.runtime.forks import let_go, not_for_forks

HEADER_SIZE_BYTES = 4
SEALED_BYTES = 16  # what a sealed frame (sealing.py) has more than its payload
WRITE_HIGH_BYTES = 1 << 20  # the transport says "pause" above this; what comes then waits here, where it is counted
JOINED_BYTES_MAX = 256 << 10  # what is copied into one write; what is larger is given as it is
KEEPALIVE_PROBES = 3


class FrameTooLarge(ValueError):
    """A payload that is empty or above what the other side takes."""


class FrameLimits(msgspec.Struct, frozen=True):
    """Bounds of one connection. ``backlog`` is what was sent and has not left yet."""

    frame_size_bytes_max: int
    backlog_bytes_max: int
    backlog_frames_max: int


class FrameConnection(asyncio.Protocol):
    """One connection of frames. Not thread-safe: the event loop's thread alone touches it."""

    def __init__(self, limits: FrameLimits) -> None:
        self.limits = limits
        self.frame_size_bytes_max = limits.frame_size_bytes_max
        self.loop = asyncio.get_running_loop()
        self.remote = "nobody yet"
        self.why = ""  # it ended, or is ending
        self.seal: Callable[[bytes], bytes] | None = None
        """What is sent of each payload, if not the payload itself."""
        self.is_open = False
        self.is_writable = True
        self.lost: asyncio.Future[str] = self.loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._awaited_bytes = HEADER_SIZE_BYTES  # parsing again is futile until so many have come
        self._waiting: list[bytes] = []  # headers and payloads in turn
        self._waiting_bytes = 0
        self._easy_bytes = min(WRITE_HIGH_BYTES, limits.backlog_bytes_max - WRITE_HIGH_BYTES)
        self._flush_is_due = False
        self._reading = True

    # --- hooks ---

    def on_open(self) -> None:
        """The connection is there."""

    def on_frames(self, frames: list[bytes]) -> None:
        """The payloads that one read completed, in order; never empty."""

    def on_writable(self) -> None:
        """``is_writable`` changed."""

    def on_violation(self, why: str) -> None:
        """The other side does not keep to frames, so nothing after this can be read: the connection ends."""
        self.cut(why)

    def on_lost(self, why: str) -> None:
        """The connection is gone; called once."""

    # --- verbs ---

    @property
    def remote_host(self) -> str:
        """The other side's numeric address; an IPv4 address is spelled as one, whatever the socket."""
        assert self._transport is not None
        peer = self._transport.get_extra_info("peername")
        host = str(peer[0]) if isinstance(peer, tuple) else "unknown"
        found = literal(host)
        mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
        return host if mapped is None else str(mapped)

    def send(self, payload: bytes) -> bool:
        """Send one frame by the end of this turn of the loop; False, and nothing sent, where a limit forbids it.

        A True is no promise that it arrives. Raises FrameTooLarge.
        """
        size = len(payload)
        if not 0 < size <= self.limits.frame_size_bytes_max:
            limit = self.limits.frame_size_bytes_max
            raise FrameTooLarge(f"a frame has 1 to {limit} bytes, not {size}: send it in pieces or raise the limit")
        if not self.is_open or not self._has_room(size):
            return False
        if self.seal is not None:  # only what is sent for sure: the other side counts
            payload = self.seal(payload)
            size = len(payload)
        self._waiting.append(size.to_bytes(HEADER_SIZE_BYTES, "little"))
        self._waiting.append(payload)
        self._waiting_bytes += size + HEADER_SIZE_BYTES
        if not self._flush_is_due and self.is_writable:
            self._flush_is_due = True
            self.loop.call_soon(self._flush)
        return True

    def cut(self, why: str) -> None:
        """End at once; what has not left is lost. The first reason given is the one that counts."""
        self._end(why)
        if self._transport is not None:
            self._transport.abort()

    def close(self, why: str) -> None:
        """Take no more; end when everything sent has left (``cut`` makes an end of waiting for that)."""
        if not self.is_open or self._transport is None:
            return
        while self._waiting and not self._transport.is_closing():
            self._write(self._transport)
        self._end(why)
        self._transport.close()

    def pause(self) -> None:
        """Read no more until ``resume``: the sender feels it through TCP. What was read is still handed over."""
        if self._reading and self.is_open and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self._reading and self.is_open and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()

    @property
    def backlog_bytes(self) -> int:
        """What was sent and is not in the operating system's hands."""
        held = self._transport.get_write_buffer_size() if self._transport is not None and self.is_open else 0
        return self._waiting_bytes + held

    def keep_alive(self, dead_after_s: float) -> None:
        """Have the system end the connection where the other side takes nothing for about this long."""
        assert self._transport is not None
        keep_alive(self._transport.get_extra_info("socket"), dead_after_s)

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self._descriptor = transport.get_extra_info("socket").fileno()
        not_for_forks(self._descriptor)
        address = transport.get_extra_info("peername")
        self.remote = format_address(*address[:2]) if isinstance(address, tuple) else str(address)
        self.is_open = True
        self.on_open()

    def data_received(self, data: bytes) -> None:
        if not self.is_open:
            return
        if self._received:
            self._received += data
            if len(self._received) < self._awaited_bytes:
                return
            data = bytes(self._received)
            self._received.clear()
        start = 0
        while start < len(data) and self.is_open:  # again after on_frames, which may have raised the limit
            frames, rest = self._split(data, start)
            if not frames:
                break
            start = rest
            self.on_frames(frames)
        if start < len(data) and self.is_open:
            self._received += memoryview(data)[start:]
            self._check_length()

    def pause_writing(self) -> None:
        self.is_writable = False
        self.on_writable()

    def resume_writing(self) -> None:
        self.is_writable = True
        self._flush()  # which may fill the transport again at once
        if self.is_writable:
            self.on_writable()

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is None:
            return  # it never was, or is lost already: whoever dials tells it, too
        self._end(f"broke: {error}" if error else "closed by the other side")
        self._received.clear()
        let_go(self._descriptor)  # asyncio closes it after this
        self._transport = None  # asyncio's own does not bear an abort from now on
        if not self.lost.done():
            self.lost.set_result(self.why)
        self.on_lost(self.why)

    # --- inside ---

    def _split(self, data: bytes, start: int) -> tuple[list[bytes], int]:
        """The payloads of the whole frames in ``data`` from ``start`` on, and where the rest begins."""
        frames: list[bytes] = []
        end = len(data)
        while end - start >= HEADER_SIZE_BYTES:
            body = start + HEADER_SIZE_BYTES
            size = int.from_bytes(data[start:body], "little")
            if not 0 < size <= self.frame_size_bytes_max or body + size > end:
                break
            frames.append(data[body : body + size])
            start = body + size
        return frames, start

    def _check_length(self) -> None:
        """The rest of a read begins with a header that is incomplete, right (wait for so much), or wrong."""
        self._awaited_bytes = HEADER_SIZE_BYTES
        if len(self._received) < HEADER_SIZE_BYTES:
            return
        size = int.from_bytes(self._received[:HEADER_SIZE_BYTES], "little")
        if 0 < size <= self.frame_size_bytes_max:
            self._awaited_bytes += size
        else:
            first = bytes(self._received[:HEADER_SIZE_BYTES])
            allowed = f"1 to {self.frame_size_bytes_max} are allowed"
            self.on_violation(f"announced a frame of {size} bytes ({first!r}); {allowed}")

    def _has_room(self, size: int) -> bool:
        limits = self.limits
        if len(self._waiting) >= 2 * limits.backlog_frames_max:
            return False
        if self.is_writable and self._waiting_bytes + size < self._easy_bytes:
            return True  # a writable transport holds less than WRITE_HIGH_BYTES: no need to ask it how much
        return self.backlog_bytes + size + HEADER_SIZE_BYTES <= limits.backlog_bytes_max

    def _flush(self) -> None:
        self._flush_is_due = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return  # it takes no more, and is lost in a moment
        while self._waiting and self.is_open and self.is_writable:
            self._write(transport)

    def _write(self, transport: asyncio.Transport) -> None:
        """One write of what waits, or of the first of it."""
        waiting = self._waiting
        if self._waiting_bytes <= JOINED_BYTES_MAX:
            self._waiting, self._waiting_bytes = [], 0
            transport.write(b"".join(waiting))
            return
        size, count = len(waiting[0]), 1
        while count < len(waiting) and size + len(waiting[count]) <= JOINED_BYTES_MAX:
            size += len(waiting[count])
            count += 1
        first = waiting[:count]
        del waiting[:count]
        self._waiting_bytes -= size
        transport.write(first[0] if count == 1 else b"".join(first))

    def _end(self, why: str) -> None:
        self.is_open = False
        self.why = self.why or why
        self._waiting.clear()
        self._waiting_bytes = 0


def keep_alive(sock: Any, dead_after_s: float) -> None:
    """No Nagle delay, and an end to connections whose other side is gone (no reset comes from a machine without power).

    Probes watch an idle connection; TCP_USER_TIMEOUT (Linux, RFC 5482) watches one with data on its way, and so also
    ends one whose other side lives but has read nothing for that long.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    interval_s = max(1, round(dead_after_s / (KEEPALIVE_PROBES + 1)))
    for name, value in (
        ("TCP_KEEPIDLE", interval_s),
        ("TCP_KEEPINTVL", interval_s),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", round(dead_after_s * 1000)),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


async def close_all(connections: Iterable[FrameConnection], why: str, grace_s: float) -> None:
    """Close many, give them so long to write what was sent, then cut. Returns when all are gone."""
    closing = [connection for connection in connections if not connection.lost.done()]
    for connection in closing:
        connection.close(why)
    losses = [connection.lost for connection in closing]
    if losses:
        await asyncio.wait(losses, timeout=grace_s)
        for connection in closing:
            connection.cut(why)
        await asyncio.wait(losses)
