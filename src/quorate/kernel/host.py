"""Host: owns a tree of cores and is pure. Many inputs, one Turn.

How it works. Inputs run through the tree (``tree.py``), and all that the cores' verbs recorded on the way is one Turn.

Two kinds of recovery. *By records*: the cores say what must never be contradicted, and ``restore`` hands it back. *By
inputs* (``replay.py``): for a subtree whose state is too large to record bit by bit, its inputs are journaled and
stepped through again. Neither timers nor jobs outlive a process: ``start``, which comes after recovery, asks for what
is wanted.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import FunctionType
from typing import Any

from quorate.kernel.core import Core, is_by_inputs
from quorate.kernel.env import Chance, Env, Rng
from quorate.kernel.ids import PATH_DEPTH_MAX, ROOT, Path
from quorate.kernel.inputs import Handed, Input, Misbehaved, Received
from quorate.kernel.replay import SEED_BYTES, Began, Known, Settled, Spawned, Started, Stepped, Subtree
from quorate.kernel.roster import Roster
from quorate.kernel.tree import TO_ALL, Tree
from quorate.kernel.turn import Part, Record, RosterChange, Turn


class Host(Tree):
    """One node's cores. ``make`` builds the root core from its Env; ``peers`` are the members of a closed roster.

    ``chance`` gives each path its stream. ``seed`` is what it draws from, where a start is to record it.
    ``by_inputs`` chooses recovery by journaled inputs for the whole tree. ``incarnation`` as in ``Env``. The order of
    calls is: ``restore`` for each durable record, then ``start`` once, then ``step`` for ever.
    """

    def __init__(
        self,
        make: Callable[[Env], Core],
        node: int,
        peers: Sequence[int],
        chance: Chance,
        *,
        by_inputs: bool = False,
        is_open: bool = False,
        seed: bytes = b"",
        incarnation: bytes = b"",
    ) -> None:
        super().__init__(Roster(node, peers, is_open=is_open, incarnation=incarnation))
        self.seed = seed
        self._chance = chance
        self._started = False
        self.root = self.cores[ROOT] = make(Env(self, self._effects, ROOT, self.roster))
        self.by_inputs = by_inputs or self.root.by_inputs
        if self.by_inputs:
            self._journaled.take_whole()
            for core in self.cores.values():
                core.env.join(self.roster, is_journaled=True)

    @property
    def node(self) -> int:
        """This node's number."""
        return self.roster.node

    # --- the life of a Host ---

    def restore(self, record: Record, now: float = 0.0) -> None:
        """Take back one durable record, in order, before ``start``. Whatever it makes a core do is muted."""
        value = record.value
        if isinstance(value, Stepped):
            self._replay(record.path, value)
        elif isinstance(value, Spawned):
            self._respawn(record.path, value)
        elif isinstance(value, Began):
            pass  # an earlier life's; this one has its own
        else:
            self._effects.now = now
            self._core_to_restore(record.path).restore(value)
            self._upcalls()
        self._effects.take()

    def start(self, now: float, wall_ns: int = 0) -> Turn:
        """Begin, after recovery; the effects of beginning."""
        effects = self._effects
        effects.now, effects.wall_ns = now, wall_ns
        if self.seed and not self.by_inputs:
            effects.records.append(Record(ROOT, Began(now, wall_ns, self.seed)))
        effects.roster.extend(self.roster.changes())
        self._begin()
        return self._take()

    def step(self, inputs: Sequence[Input], now: float, wall_ns: int = 0) -> Turn:
        """Run the inputs in order and return all their effects. ``now``: monotonic; ``wall_ns``: the world's clock."""
        effects = self._effects
        effects.now, effects.wall_ns = now, wall_ns
        for item in inputs:
            if type(item) is Received:
                self._receive(item)
            else:
                self._take_other(item)
            if effects.upcalls:
                self._upcalls()
        self._settle()
        journaled = self._journaled
        return self._take() if journaled.whole or journaled.subtrees else effects.take()

    def checkpoint(self) -> list[Record]:
        """The records that replace everything persisted so far. Empty where the whole tree is journaled: keep all."""
        if self.by_inputs:
            return []
        first, last = self._journaled.checkpoint()
        recorded = ((path, core) for path, core in self.cores.items() if not core.env.is_journaled)
        return [*first, *(Record(path, value) for path, core in recorded for value in core.checkpoint()), *last]

    def fork(self) -> Host:
        """An independent copy in the same state: equal inputs give equal Turns."""
        return copy.deepcopy(self)

    # --- Hosting: what Env asks for ---

    def stream(self, path: Path) -> Rng:
        """The stream of chance of a path."""
        return self._chance(path, self._journaled.seed_of(path))

    def change_roster(self, path: Path, change: RosterChange) -> None:
        """The core at a path meets a node or parts from one."""
        if not self.roster.is_open:
            assert self._journaled.scope_of(path) is None, f"{path} is recovered by inputs: its parent has the roster"
            self.roster.change(change)
            if isinstance(change, Part):
                self._parking.drop_from(change.node)
            if self._started:
                for scope in self._journaled.subtrees:
                    self._follow_roster(scope)
        if self._started:  # before that, the start tells it all
            self._effects.roster.append(change)

    def hand(self, item: Handed) -> None:
        """Have a value come to a child."""
        if self._started or item.path not in self._journaled.subtrees:  # else the child's journal has it
            self._effects.upcalls.append((item.path, self._hand, item))

    def receive(self, item: Received) -> None:
        """Have a message come to a core as if it came from outside, after the running handler."""
        self._effects.upcalls.append((item.path, self._receive, item))

    def spawn(
        self,
        path: Path,
        make: Callable[..., Core],
        args: Iterable[Any],
        kwargs: dict[str, Any],
        upcall: Callable[[Any], None] | None,
    ) -> Core:
        """Make the core at ``path``; what was parked for it comes right after."""
        if path in self.cores or path in self._retired:
            raise ValueError(f"path {path} is taken or retired: names are used once")
        if len(path) > PATH_DEPTH_MAX:
            raise ValueError(f"path {path} is deeper than {PATH_DEPTH_MAX}")
        if isinstance(upcall, FunctionType) and upcall.__closure__:
            raise TypeError(f"the upcall of {path} is a closure, which no fork copies: hand in a method or a partial")

        def made(env: Env) -> Core:
            return make(env, *args, **kwargs)

        journaled = self._journaled
        scope = journaled.scope_of(path)
        if scope is None and not journaled.whole and is_by_inputs(make):
            return self._spawn_subtree(path, made, upcall)
        waiting = self._parking.claim(path)
        if scope is None:
            core = self._add(path, made, upcall, self.roster, is_journaled=journaled.whole)
            is_running = self._started
        else:
            subtree = journaled.subtrees[scope]
            core = self._add(path, made, upcall, subtree.roster, is_journaled=True)
            is_running = subtree.was_started
        if is_running:
            core.start()
            self._touched[path] = None
        self._effects.upcalls += [(path, self._take_message, item) for item in waiting]
        return core

    def _add(
        self,
        path: Path,
        made: Callable[[Env], Core],
        upcall: Callable[[Any], None] | None,
        roster: Roster,
        *,
        is_journaled: bool,
    ) -> Core:
        env = Env(self, self._effects, path, roster, upcall)
        env.is_journaled = is_journaled
        core = self.cores[path] = made(env)
        assert core.by_inputs <= is_journaled, f"{type(core).__name__} is by_inputs: spawn the class itself"
        if type(core).settle is not Core.settle:
            for depth in range(len(self._journaled.scope_of(path) or ROOT), len(path)):
                self._settlers.setdefault(path[:depth], []).append(path)
        return core

    def _spawn_subtree(self, path: Path, made: Callable[[Env], Core], upcall: Callable[[Any], None] | None) -> Core:
        """The core sees what it saw when it was made first; its parent may make it before its inputs are replayed."""
        effects, journaled = self._effects, self._journaled
        waiting = self._parking.claim_below(path)
        recorded, now = journaled.recorded(path), (effects.now, effects.wall_ns)
        spawned = recorded or Spawned(self._new_seed(path), self.roster.peers, *now)
        subtree = Subtree(spawned, self.node, is_open=self.roster.is_open, is_recorded=recorded is not None)
        journaled.subtrees[path] = subtree
        effects.now, effects.wall_ns = spawned.now, spawned.wall_ns
        effects.replayed = None if self._started else path
        self._within(path, partial(self._add, path, made, upcall, subtree.roster, is_journaled=True))
        effects.now, effects.wall_ns = now
        effects.replayed = None
        core = self.cores[path]
        if ROOT not in self.cores and any(each.env.has_drawn for each in self._cores_below(path)):
            raise ValueError(f"{type(core).__name__}, made by its parent's constructor, draws from chance before start")
        if self._started:
            self._start_subtree(path)
        effects.upcalls += [(path, self._receive, item) for item in waiting]  # what waited is an input now
        return core

    def retire(self, path: Path) -> None:
        """Remove the core at ``path`` and all below it."""
        for gone in [p for p in self.cores if p[: len(path)] == path]:
            del self.cores[gone]
            self._settlers.pop(gone, None)
        for depth in range(len(path)):
            if (below := self._settlers.get(path[:depth])) is not None:
                below[:] = [p for p in below if p[: len(path)] != path]
        self._retired.add(path)
        self._parking.claim_below(path)
        self._journaled.drop_below(path)

    # --- starting ---

    def _begin(self) -> None:
        self._started = True
        if self.by_inputs:
            self._journaled.started()
        self._unstarted.update(self._journaled.subtrees)
        self._start_all()
        self._settle()

    def _start_all(self) -> None:
        self._tell_what_ended(ROOT, self.roster, self._stall)
        for path, core in list(self.cores.items()):
            if path not in self.cores:
                continue  # a core that started before it retired it
            scope = self._journaled.scope_of(path)
            if scope is None:
                self._touched[path] = None
                core.start()
            elif scope in self._unstarted:
                self._start_subtree(scope)
            self._upcalls()

    def _take(self) -> Turn:
        turn = self._effects.take()
        if self.by_inputs or self._journaled.subtrees:
            first, last = self._journaled.take(self._effects.now, self._effects.wall_ns, self.seed)
            if first or last:
                turn.records, turn.lazy = [*first, *turn.records, *last], False
        return turn

    # --- recovery ---

    def _respawn(self, path: Path, spawned: Spawned) -> None:
        """A subtree is about to be made again, by its parent or for its first inputs."""
        subtree = self._journaled.subtrees.get(path)
        if subtree is None:
            self._journaled.expect(path, spawned)
            return
        subtree.spawned, subtree.is_recorded = spawned, True
        subtree.roster.replace(spawned.peers)

    def _replay(self, scope: Path, stepped: Stepped) -> None:
        """Step through journaled inputs again."""
        if scope in self._retired:
            return
        if scope not in self.cores:
            self._core_to_restore(scope)
        effects = self._effects
        if scope == ROOT and self.by_inputs:
            effects.now, effects.wall_ns, effects.replayed = stepped.now, stepped.wall_ns, scope
            self._replay_whole(stepped)
        elif scope in self._journaled.subtrees:
            effects.now, effects.wall_ns, effects.replayed = stepped.now, stepped.wall_ns, scope
            self._replay_within(scope, stepped)
        else:
            raise ValueError(f"the journal holds inputs of the core at {scope}, which is recovered by records")
        effects.replayed = None

    def _replay_whole(self, stepped: Stepped) -> None:
        was_started, self._started = self._started, True
        if stepped.start:
            self._start_all()
        for item in stepped.inputs:
            kind = type(item)
            if kind in TO_ALL:
                self._tell_below(ROOT, item)
            elif kind is Misbehaved:
                self._tell(self.root, item)
            else:
                self._dispatch(item)
            self._upcalls()
        self._settle()
        self._started = was_started

    def _replay_within(self, scope: Path, stepped: Stepped) -> None:
        subtree = self._journaled.subtrees[scope]
        subtree.kept.append(stepped)
        for item in stepped.inputs:
            kind = type(item)
            if kind is Started:
                self._start_within(scope)
            elif kind is Settled:
                self._settle_within(scope)
            elif kind is Known:
                for gone in (peer for peer in subtree.roster.peers if peer not in item.peers):
                    self._parking.drop_from(gone, scope)
                subtree.roster.replace(item.peers)
            elif kind in TO_ALL:
                self._within(scope, self._tell_below, scope, item)
            else:
                self._within(scope, self._dispatch, item)
        self._settle_within(scope)

    def _cores_below(self, path: Path) -> list[Core]:
        return [core for at, core in self.cores.items() if at[: len(path)] == path]

    def _new_seed(self, path: Path) -> bytes:
        return self._chance(path).getrandbits(8 * SEED_BYTES).to_bytes(SEED_BYTES, "big")

    def _core_to_restore(self, path: Path) -> Core:
        for depth in range(1, len(path) + 1):
            if path[:depth] not in self.cores:
                self.cores[path[: depth - 1]].revive(path[depth - 1])
        return self.cores[path]
