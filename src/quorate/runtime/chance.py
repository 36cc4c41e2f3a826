"""Chance on real nodes: streams that nobody outside can predict, and that can be drawn again from the recorded seed."""

from __future__ import annotations

import os
import random
from hashlib import blake2b
from typing import Any

from quorate.kernel import Chance
from quorate.kernel.replay import SEED_BYTES

_BLOCK_BYTES = 64


def new_seed() -> bytes:
    """From the operating system."""
    return os.urandom(SEED_BYTES)


def seeded_streams(seed: bytes) -> Chance:
    """The streams of one life, a path each; of another seed where a record names it."""
    return lambda path, recorded=b"": Stream(recorded or seed, repr(path).encode())


class Stream(random.Random):
    """Blake2b in counter mode: one seed and one name always give the same numbers."""

    def __init__(self, seed: bytes, name: bytes) -> None:
        super().__init__(0)
        self._key = blake2b(name, key=seed, digest_size=_BLOCK_BYTES).digest()
        self._count = 0

    def _bytes(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            self._count += 1
            data += blake2b(self._count.to_bytes(8, "big"), key=self._key, digest_size=_BLOCK_BYTES).digest()
        return data[:count]

    def random(self) -> float:
        """A float in [0, 1) with 53 random bits."""
        return (int.from_bytes(self._bytes(7), "big") >> 3) * 2**-53

    def getrandbits(self, k: int, /) -> int:
        """An integer of k random bits. Raises ValueError for fewer than none."""
        if k < 0:
            raise ValueError(f"{k} bits: their number is not negative")
        count = (k + 7) // 8
        return int.from_bytes(self._bytes(count), "big") >> (8 * count - k)

    def seed(self, *args: Any, **kwargs: Any) -> None:
        """A stream has one seed for ever."""

    def getstate(self) -> tuple[Any, ...]:
        """Where it stands, for a copy: a Host may be forked."""
        return self._key, self._count, self.gauss_next

    def setstate(self, state: tuple[Any, ...]) -> None:
        """Go on from where another stood."""
        self._key, self._count, self.gauss_next = state

    def __reduce__(self) -> tuple[Any, ...]:
        return Stream, (b"", b""), self.getstate()
