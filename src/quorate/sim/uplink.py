"""Uplinks: each node's line into the network, which carries so many bytes per second, one message after the other.

What is sent while the line is busy waits in a queue of bounded size. What does not fit is lost, as in a router that is
overrun. The line belongs to the machine: what waits there survives a crash of the process.
"""

from __future__ import annotations

from typing import Any

import msgspec

_encode = msgspec.msgpack.Encoder(enc_hook=repr).encode


def size_bytes(message: Any) -> int:
    """What a message weighs: the length of its encoding."""
    try:
        return len(_encode(message))
    except OverflowError:  # msgpack has no integers of more than 64 bits, such as the mask of many nodes
        return len(_encode(repr(message)))


class Uplinks:
    """Those of all nodes. ``queue_bytes_max`` counts what has not left yet; None: any number of bytes may wait."""

    __slots__ = ("_bytes_per_s", "_free_at", "_queue_bytes_max")

    def __init__(self, nodes: int, bytes_per_s: float, queue_bytes_max: int | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._queue_bytes_max = queue_bytes_max
        self._free_at = [0.0] * nodes
        """By node, when all that it sent so far will have left."""

    def leave_at(self, sender: int, size: int, now: float) -> float | None:
        """When the last of so many bytes will have left their sender; None: its queue is too full for them."""
        begins = self._free_at[sender]
        if begins <= now:
            begins = now
        waiting = round((begins - now) * self._bytes_per_s)  # whole bytes: rounding errors decide nothing
        if self._queue_bytes_max is not None and waiting + size > self._queue_bytes_max:
            return None
        leaves = self._free_at[sender] = begins + size / self._bytes_per_s
        return leaves
