"""A store whose machine may lose its power: pages that were not synced are on its disk in no order, or are not.

A crash of a process alone leaves a file as the process had it. ``LossyKvMachine`` keeps what its table was when it was
synced last, and ``lose`` makes of each page that was written since one of the two. A mark that rests on any of them
shows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from quorate.kernel import Rng, StateMark
from quorate.machines.kv.machine import KvMachine

PAGE_BYTES: Final = 4096


class _Watched(StateMark):
    """A mark that tells when its pages are on the disk."""

    def __init__(self, mark: StateMark, on_synced: Callable[[], None]) -> None:
        self._mark = mark
        self._on_synced = on_synced

    def write(self, file: BinaryIO) -> None:
        self._mark.write(file)
        self._on_synced()

    def stream(self) -> Callable[[BinaryIO], None]:
        return self._mark.stream()

    def close(self) -> None:
        self._mark.close()


class LossyKvMachine(KvMachine):
    """``synced`` outlives it: by path, what is on the disk of each table for certain."""

    synced: dict[Path, bytes]

    def mark(self) -> StateMark:
        """As the base says."""
        store, mark = self.store, super().mark()

        def on_synced() -> None:
            self.synced[store.records.path] = store.records.path.read_bytes()

        return _Watched(mark, on_synced)


def lose(synced: dict[Path, bytes], rng: Rng) -> None:
    """The power fails. Nobody has the tables open."""
    for path, before in list(synced.items()):
        if not path.exists():
            del synced[path]
            continue
        cached = path.read_bytes()
        left = bytearray(cached)
        for at in range(0, len(cached), PAGE_BYTES):
            if rng.random() < 0.5:
                old = before[at : at + PAGE_BYTES]
                left[at : at + PAGE_BYTES] = old + bytes(min(PAGE_BYTES, len(cached) - at) - len(old))
        path.write_bytes(left)
        synced[path] = bytes(left)
