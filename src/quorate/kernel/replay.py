"""Recovery by inputs: what of a step is journaled, for the subtrees of cores that ask for it.

How it works. A core with ``by_inputs`` is the root of a subtree that persists nothing of its own. Instead the inputs of
each step that go into the subtree, and the values that its parent hands down, are one record, a Stepped. After a crash
they are stepped through again with all effects muted.

For the replay to be the same run, a subtree depends on nothing but these inputs. Its chance comes from a seed, and what
its cores saw when they were made is recorded with it (Spawned). It has a roster of its own, whose changes are journaled
(Known). And the Host does whatever an input brings about *inside* the subtree before it does anything outside
(``Host._within``), so that the order inside does not hang on what else was going on.

A subtree that is not the whole Host lives for a while: what was journaled for it is kept in memory as well, so that a
checkpoint of the journal holds it, and is dropped with the subtree. The whole Host never ends, and its journal is never
replaced.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from quorate.kernel.ids import ROOT, NodeId, Path
from quorate.kernel.roster import Roster
from quorate.kernel.turn import Record

SEED_BYTES = 16


class Spawned(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The record of a subtree's beginning, before all other records of its step: what its cores saw when made."""

    seed: bytes
    peers: tuple[NodeId, ...]
    now: float
    wall_ns: int


class Started(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Stands among the inputs of a subtree where its cores were started."""


class Settled(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Stands among the inputs of a subtree where its cores settled before more came."""


class Known(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Stands among the inputs of a subtree where its (closed) roster became another: the peers from there on."""

    peers: tuple[NodeId, ...]


class Stepped(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The record of recovery by inputs: one step's times and inputs.

    Of the whole Host: ``start`` says that before them the cores were started, by ``seed`` if it has one.
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


class Subtree:
    """One subtree by inputs. ``kept`` is all that was journaled for it, ``inputs`` those of the running step."""

    def __init__(self, spawned: Spawned, node: int, *, is_open: bool, is_recorded: bool) -> None:
        self.spawned = spawned
        self.roster = Roster(node, spawned.peers, is_open=is_open)
        self.is_recorded = is_recorded
        """Whether ``spawned`` is in the journal."""
        self.was_started = False
        """In this life or, by what was replayed, in an earlier one."""
        self.stall: str | None = None
        """Why storage takes no records, as far as the cores were told."""
        self.inputs: list[Any] = []
        self.kept: list[Stepped] = []


class Journaled:
    """What of one Host is recovered by inputs: subtrees, by path, or the whole Host."""

    def __init__(self) -> None:
        self.subtrees: dict[Path, Subtree] = {}
        self.whole = False
        self._inputs: list[Any] = []
        self._started = False
        self._recorded: dict[Path, Spawned] = {}
        """What the journal says of subtrees that are not there yet."""

    # --- the whole Host ---

    def take_whole(self) -> None:
        """The whole Host is one, whatever its cores asked for."""
        self.whole = True
        self.subtrees.clear()

    def started(self) -> None:
        """The cores of the whole Host are started."""
        self._started = True

    # --- subtrees ---

    def recorded(self, path: Path) -> Spawned | None:
        """What the journal says of a subtree that is about to be made again."""
        return self._recorded.pop(path, None)

    def expect(self, path: Path, spawned: Spawned) -> None:
        """The journal says this of a subtree that is still to be made again."""
        self._recorded[path] = spawned

    def drop_below(self, path: Path) -> None:
        """Forget the subtrees at this path and below it."""
        for table in (self.subtrees, self._recorded):
            for gone in [scope for scope in table if scope[: len(path)] == path]:
                del table[gone]

    def scope_of(self, path: Path) -> Path | None:
        """The root of the subtree that a path is in, or None where it is in none."""
        subtrees = self.subtrees
        for depth in range(1, len(path) + 1):
            if path[:depth] in subtrees:
                return path[:depth]
        return None

    def seed_of(self, path: Path) -> bytes:
        """What the subtree around a path draws its chance from; empty: from what the shell gives this life."""
        scope = self.scope_of(path)
        return b"" if scope is None else self.subtrees[scope].spawned.seed

    # --- inputs ---

    def saw(self, item: Any) -> None:
        """An input of the whole Host, if that is recovered by inputs."""
        if self.whole:
            self._inputs.append(item)

    def saw_within(self, scope: Path, item: Any) -> None:
        """An input of a subtree."""
        self.subtrees[scope].inputs.append(item)

    def settled(self, scope: Path) -> None:
        """The cores of a subtree are about to settle; inputs that follow come after that."""
        inputs = self.subtrees[scope].inputs
        if inputs and type(inputs[-1]) is not Settled:
            inputs.append(Settled())

    def take(self, now: float, wall_ns: int, seed: bytes) -> tuple[list[Record], list[Record]]:
        """The records of the step that ends: those to be written before all others, and those to be written after."""
        first, last = [], []
        if self.whole and (self._inputs or self._started):
            start = self._started
            last.append(Record(ROOT, Stepped(now, tuple(self._inputs), start, wall_ns, seed if start else b"")))
            self._inputs, self._started = [], False
        for scope, subtree in self.subtrees.items():
            if not subtree.is_recorded:
                subtree.is_recorded = True
                first.append(Record(scope, subtree.spawned))
            if inputs := subtree.inputs:
                if type(inputs[-1]) is Settled:
                    inputs.pop()  # a step ends with that anyway
                stepped = Stepped(now, tuple(inputs), wall_ns=wall_ns)
                subtree.inputs = []
                subtree.kept.append(stepped)
                last.append(Record(scope, stepped))
        return first, last

    def checkpoint(self) -> tuple[list[Record], list[Record]]:
        """All that was journaled for the subtrees that live, as ``take`` gave it."""
        first = [Record(scope, subtree.spawned) for scope, subtree in self.subtrees.items()]
        return first, [Record(scope, stepped) for scope, subtree in self.subtrees.items() for stepped in subtree.kept]


def seed_in(records: Sequence[Record]) -> bytes:
    """The seed of a Host that is recovered by inputs as a whole; empty where the records say none."""
    for record in records:
        if record.path == ROOT and type(record.value) is Stepped and record.value.start:
            return bytes(record.value.seed)
    return b""
