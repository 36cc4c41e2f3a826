"""Ways: what a message goes through before the delay of its link, if the mix asks for it: an uplink, and a distance.

*Uplinks.* Each node has a line into the network that carries so many bytes per second. Messages leave one after the
other, and so do the copies of a broadcast. What is sent while the line is busy waits in a queue of bounded size, and
what does not fit is lost. The line belongs to the machine: what waits there survives a crash of the process.

*Regions.* Each node is in one, and a message takes longer by the distance from its sender's region to its receiver's.

Neither is a fault, so healing ends neither.
"""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from quorate.sim.swarm import Mix

_encode = msgspec.msgpack.Encoder(enc_hook=repr).encode


class Ways:
    """Of all nodes."""

    __slots__ = ("_bytes_per_s", "_distances", "_free_at", "_queue_bytes_max", "regions")

    def __init__(self, seed: str, mix: Mix, nodes: int) -> None:
        self._bytes_per_s = mix.uplink_bytes_per_s
        self._queue_bytes_max = mix.uplink_queue_bytes_max
        self._free_at = [0.0] * nodes
        """By node, when all that it sent so far will have left."""
        rng = Random(f"{seed}/regions")
        self._distances = mix.regions or ((0.0,),)
        self.regions = [int(rng.random() * len(self._distances)) for _ in range(nodes)]
        """By node, the row of its region."""

    def join(self, rng: Random) -> None:
        """One node more, in any region."""
        self._free_at.append(0.0)
        self.regions.append(int(rng.random() * len(self._distances)))

    def size_bytes(self, message: Any) -> int:
        """The length of its encoding; 0 where sizes do not matter."""
        if self._bytes_per_s is None:
            return 0
        try:
            return len(_encode(message))
        except OverflowError:  # msgpack has no integers of more than 64 bits, such as the mask of many nodes
            return len(_encode(repr(message)))

    def passed_at(self, sender: int, to: int, size_bytes: int, now: float) -> float | None:
        """When a copy that is sent now will have passed both; None: the uplink's queue is too full for it."""
        distance_s = self._distances[self.regions[sender]][self.regions[to]]
        if self._bytes_per_s is None:
            return now + distance_s
        begins = max(now, self._free_at[sender])
        waiting_bytes = round((begins - now) * self._bytes_per_s)  # whole bytes: rounding errors decide nothing
        if self._queue_bytes_max is not None and waiting_bytes + size_bytes > self._queue_bytes_max:
            return None
        leaves = self._free_at[sender] = begins + size_bytes / self._bytes_per_s
        return leaves + distance_s
