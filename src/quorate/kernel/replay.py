"""Recovery by inputs: what of a step is journaled, for the subtrees of cores that ask for it.

How it works. A core with ``by_inputs`` is the root of a subtree that persists nothing of its own. Instead the inputs of
each step that go into the subtree, and the values that its parent hands down, are one record, a Stepped. After a crash
they are stepped through again with all effects muted. The subtree draws its chance from a seed that its first record
holds, so the same choices are made again.

A subtree that is not the whole Host lives for a while: what was journaled for it is kept in memory as well, so that a
checkpoint of the journal holds it, and is dropped with the subtree. The whole Host never ends, and its journal is never
replaced.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from quorate.kernel.ids import ROOT, Path
from quorate.kernel.turn import Record

SEED_BYTES = 16


class Settled(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Stands among the inputs where the cores settled before more came."""


class Stepped(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The record of recovery by inputs: one step's times and inputs; ``start``: before them the cores were started.

    The first record of a subtree has its ``seed``.
    """

    now: float
    inputs: tuple[Any, ...]
    start: bool = False
    wall_ns: int = 0
    seed: bytes = b""


class Began(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The record of a start: by this seed and these times, whatever the node did by chance can be done again."""

    now: float
    wall_ns: int
    seed: bytes


class Journaled:
    """The subtrees of one Host that are recovered by inputs, and what of the running step is to be journaled.

    ``scopes`` has by the path of each subtree what was journaled for it; empty for the whole Host, which keeps nothing.
    """

    def __init__(self) -> None:
        self.scopes: dict[Path, list[Stepped]] = {}
        self._seeds: dict[Path, bytes] = {}
        self._step: dict[Path, list[Any]] = {}
        self._started: set[Path] = set()

    def add(self, path: Path, seed: bytes) -> None:
        """A subtree begins here."""
        self.scopes[path] = []
        self._seeds[path] = seed

    def reseed(self, scope: Path, seed: bytes) -> None:
        """The first record of a subtree tells what its chance was."""
        self._seeds[scope] = seed

    def drop_below(self, path: Path) -> None:
        """Forget the subtrees at this path and below it."""
        for gone in [scope for scope in self.scopes if scope[: len(path)] == path]:
            del self.scopes[gone], self._seeds[gone]
            self._step.pop(gone, None)
            self._started.discard(gone)

    def scope_of(self, path: Path) -> Path | None:
        """The root of the subtree that a path is in, or None where it is in none."""
        for depth in range(len(path) + 1):
            if path[:depth] in self.scopes:
                return path[:depth]
        return None

    def seed_of(self, path: Path) -> bytes:
        """What the subtree around a path draws its chance from; empty: from what the shell gives this life."""
        scope = self.scope_of(path)
        return b"" if scope is None else self._seeds[scope]

    def started(self, scope: Path) -> None:
        """The cores of a subtree are started, before its inputs of this step."""
        self._started.add(scope)
        self._step.setdefault(scope, [])

    def saw(self, path: Path, item: Any) -> None:
        """An input for a path, if it is in a subtree."""
        if (scope := self.scope_of(path)) is not None:
            self._step.setdefault(scope, []).append(item)

    def saw_all(self, item: Any) -> None:
        """An input for every core."""
        for scope in self.scopes:
            self._step.setdefault(scope, []).append(item)

    def settled(self) -> None:
        """The cores are about to settle; inputs that follow come after that."""
        for inputs in self._step.values():
            if not inputs or type(inputs[-1]) is not Settled:
                inputs.append(Settled())

    def keep(self, scope: Path, stepped: Stepped) -> None:
        """A record of a subtree, for the next checkpoint."""
        if scope != ROOT:
            self.scopes[scope].append(stepped)

    def take(self, now: float, wall_ns: int) -> list[Record]:
        """The records of the step that ends."""
        records = []
        for scope, inputs in self._step.items():
            if inputs and type(inputs[-1]) is Settled:
                inputs.pop()  # a step ends with that anyway
            start = scope in self._started
            is_first = start and not self.scopes[scope]
            stepped = Stepped(now, tuple(inputs), start, wall_ns, self._seeds[scope] if is_first else b"")
            self.keep(scope, stepped)
            records.append(Record(scope, stepped))
        self.forget_step()
        return records

    def forget_step(self) -> None:
        """Nothing of this step is to be journaled: it was before."""
        self._step.clear()
        self._started.clear()

    def checkpoint(self) -> list[Record]:
        """All that was journaled for the subtrees that live."""
        return [Record(scope, stepped) for scope, kept in self.scopes.items() for stepped in kept]


def seed_in(records: Sequence[Record]) -> bytes:
    """The seed of a Host that is recovered by inputs as a whole; empty where the records say none."""
    for record in records:
        if record.path == ROOT and type(record.value) is Stepped and record.value.start:
            return bytes(record.value.seed)
    return b""
