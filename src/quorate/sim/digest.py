"""The digest of a run: one number over all that its nodes did, equal for equal runs.

Each step is folded in with its time, its node and the encoded contents of its effects, so that a single changed field
of a single message changes the digest.
"""

from zlib import crc32

import msgspec

from quorate.kernel import Turn


class Digest:
    """``value`` is the digest so far."""

    __slots__ = ("_buffer", "_encode_into", "value")

    def __init__(self) -> None:
        self.value = 0
        self._buffer = bytearray()
        self._encode_into = msgspec.msgpack.Encoder(enc_hook=repr).encode_into

    def step(self, now: float, node: int, inputs: int, turn: Turn) -> None:
        """Fold in one step of a node at a virtual time."""
        step = (
            now,
            node,
            inputs,
            turn.early,
            turn.records,
            turn.sends,
            turn.timers,
            turn.jobs,
            turn.outputs,
            [(blame.node, blame.why) for blame in turn.blames] if turn.blames else (),
            *((turn.at_once,) if turn.at_once else ()),
        )
        try:
            self._encode_into(step, self._buffer)
        except OverflowError:  # msgpack has no integers of more than 64 bits, such as the mask of many nodes
            self._encode_into(repr(step), self._buffer)
        self.value = crc32(self._buffer, self.value)

    def add(self, data: bytes) -> None:
        """Fold in anything else."""
        self.value = crc32(data, self.value)
