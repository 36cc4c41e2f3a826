"""Host: owns a tree of cores and is pure. Many inputs, one Turn.

How it works. One table maps a path to its core, so dispatch is one look-up whatever the depth. Each input runs its
handler; then the upcalls that it queued run, one after the other, so that no core is ever entered twice at once;
when all inputs are done, each core that was touched may ``settle``, and so may its children, which it may have called.
All that was recorded on the way is one Turn.

Two kinds of recovery. *By records*: the cores say what must never be contradicted, and ``restore`` hands it back. *By
inputs* (``replay.py``): for a subtree whose state is too large to record bit by bit, its inputs are journaled and
stepped through again. Timers do not outlive a process: ``start``, which comes after recovery, sets what is wanted.

A peer is not trusted: a message of an unknown type, or for a core that takes no such message, is blamed and dropped, in
an open roster reported to the cores; one from a node outside the group is blamed; one too many for the parking is
dropped.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from types import FunctionType
from typing import Any

from quorate.kernel.core import Core
from quorate.kernel.env import Chance, Effects, Env, Rng
from quorate.kernel.ids import PATH_DEPTH_MAX, ROOT, Path
from quorate.kernel.inputs import (
    Asked,
    Done,
    Fired,
    Handed,
    Input,
    Met,
    Misbehaved,
    Parted,
    Received,
    Stalled,
    Submitted,
    Unmet,
)
from quorate.kernel.parking import Parking, Retired
from quorate.kernel.replay import SEED_BYTES, Began, Journaled, Settled, Stepped
from quorate.kernel.roster import Roster
from quorate.kernel.turn import Blame, Record, RosterChange, Turn

TO_ALL = frozenset((Stalled, Met, Parted, Unmet))
"""The inputs that go to every core."""
SETTLES_MAX = 10_000
"""Rounds of settling in one step; far more than any tree of cores needs."""


class Host:
    """One node's cores. ``make`` builds the root core from its Env; ``peers`` are the members of a closed roster.

    ``chance`` gives each path its stream. ``seed`` is what it draws from, where a start is to record it.
    ``by_inputs`` chooses recovery by journaled inputs for the whole tree. The order of calls is: ``restore`` for each
    durable record, then ``start`` once, then ``step`` for ever.
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
    ) -> None:
        self.roster = Roster(node, peers, is_open=is_open)
        self.seed = seed
        self._chance = chance
        self._effects = Effects()
        self._parking = Parking()
        self._retired = Retired()
        self._journaled = Journaled()
        self._scopes = self._journaled.scopes
        self._touched: dict[Path, None] = {}  # in order of first touch
        self._settlers: dict[Path, list[Path]] = {}
        """By parent, the children that settle."""
        self._started = False
        self._seed_on_record: bytes | None = None
        """Of the subtree that is about to be made again."""
        self.cores: dict[Path, Core] = {}
        self.root = self.cores[ROOT] = make(Env(self, self._effects, ROOT, self.roster))
        self.by_inputs = by_inputs or self.root.by_inputs
        if self.by_inputs:
            self._journaled.add(ROOT, seed)
            for core in self.cores.values():
                core.env.is_journaled = True

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
        self._run(inputs)
        return self._take() if self._scopes else effects.take()

    def checkpoint(self) -> list[Record]:
        """The records that replace everything persisted so far. Empty where the whole tree is journaled: keep all."""
        if self.by_inputs:
            return []
        records = [Record(path, value) for path, core in self.cores.items() for value in core.checkpoint()]
        return records + self._journaled.checkpoint()

    def fork(self) -> Host:
        """An independent copy in the same state: equal inputs give equal Turns."""
        return copy.deepcopy(self)

    # --- what Env asks for ---

    def stream(self, path: Path) -> Rng:
        """The stream of chance of a path."""
        return self._chance(path, self._journaled.seed_of(path))

    def change_roster(self, change: RosterChange) -> None:
        """A core meets a node or parts from one."""
        if not self.roster.is_open:
            self.roster.change(change)
        if self._started:  # before that, the start tells it all
            self._effects.roster.append(change)

    def hand(self, item: Handed) -> None:
        """Have a value come to a child."""
        self._effects.upcalls.append((item.path, self._hand, item))

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
        env = Env(self, self._effects, path, self.roster, upcall)
        env.is_journaled = self._journaled.scope_of(path) is not None
        if not env.is_journaled and getattr(make, "by_inputs", False):
            self._journaled.add(path, self._new_seed(path))
            env.is_journaled = True
        in_scope = path in self._journaled.scopes
        waiting = self._parking.claim_below(path) if in_scope else self._parking.claim(path)
        core = self.cores[path] = make(env, *args, **kwargs)
        assert core.by_inputs <= env.is_journaled, f"{type(core).__name__} is by_inputs: spawn the class itself"
        if type(core).settle is not Core.settle:
            self._settlers.setdefault(path[:-1], []).append(path)
        if self._started:
            if in_scope:
                self._journaled.started(path)
            core.start()
            self._touched[path] = None
        take = self._receive if in_scope else self._take_message  # what waited is an input now
        self._effects.upcalls += [(path, take, item) for item in waiting]
        return core

    def retire(self, path: Path) -> None:
        """Remove the core at ``path`` and all below it."""
        for gone in [p for p in self.cores if p[: len(path)] == path]:
            del self.cores[gone]
            self._settlers.pop(gone, None)
        siblings = self._settlers.get(path[:-1])
        if siblings is not None and path in siblings:
            siblings.remove(path)
        self._retired.add(path)
        self._parking.claim_below(path)
        self._journaled.drop_below(path)

    # --- dispatch ---

    def _begin(self) -> None:
        self._started = True
        for scope in self._journaled.scopes:
            self._journaled.started(scope)
        self._start_below(ROOT)
        self._settle()

    def _start_below(self, top: Path) -> None:
        if self.roster.is_open:  # the links were those of another life
            for node in self.roster.peers:
                self._tell_all(Parted(node, "this node was started again"), top)
        for path, core in list(self.cores.items()):
            if path[: len(top)] == top and path in self.cores:  # else a core that started before it retired it
                self._touched[path] = None
                core.start()
                self._upcalls()

    def _run(self, inputs: Sequence[Input]) -> None:
        upcalls = self._effects.upcalls
        for item in inputs:
            kind = type(item)
            if kind is Received:
                self._receive(item)  # type: ignore[arg-type]
            elif kind in TO_ALL:
                self._journaled.saw_all(item)
                self._tell_all(item, ROOT)
            elif kind is Misbehaved:
                self._journaled.saw(ROOT, item)
                self._tell(self.root, item)
            else:
                if self._scopes:
                    self._journaled.saw(item.path, item)  # type: ignore[union-attr]
                self._dispatch(item)
            if upcalls:
                self._upcalls()
        self._settle()

    def _receive(self, item: Received) -> None:
        if item.sender not in self.roster.members and item.sender != self.roster.node:
            if not (self.roster.is_open or self.roster.has_left(item.sender)):
                self._effects.blames.append(Blame(item.sender, "is not a member of the group"))
            return
        if self._scopes:
            self._journaled.saw(item.path, item)
        path, message = item.path, item.message
        core = self.cores.get(path)
        handler = None if core is None else core.handlers.get(type(message))
        if handler is None:
            self._cannot_take(item, core)
            return
        self._touched[path] = None
        handler(core, item.sender, message)

    def _take_message(self, item: Received) -> None:
        """One that was let in before."""
        core = self.cores.get(item.path)
        handler = None if core is None else core.handlers.get(type(item.message))
        if handler is None:
            self._cannot_take(item, core)
        else:
            self._touched[item.path] = None
            handler(core, item.sender, item.message)

    def _cannot_take(self, item: Received, core: Core | None) -> None:
        if core is None:
            self._park(item)
        else:
            self._misbehaved(item.sender, f"sent a {type(item.message).__name__} to {item.path}")

    def _misbehaved(self, node: int, why: str) -> None:
        if not self.roster.is_open:
            self._effects.blames.append(Blame(node, why))
        elif self._effects.replayed in (None, ROOT):  # else the root was told, and is not replayed
            self._tell(self.root, Misbehaved(node, why))

    def _dispatch(self, item: Any) -> None:
        """Local inputs. One for a core that is gone (a timer of a retired child, say) is stale and dropped."""
        core = self.cores.get(item.path)
        if core is None:
            return
        self._touched[core.env.path] = None
        if isinstance(item, Submitted):
            core.submit(item.values)
        elif isinstance(item, Asked):
            core.read(item.tokens)
        elif isinstance(item, Fired):
            core.on_timer(item.key)
        elif isinstance(item, Done):
            core.on_done(item.key, item.result)
        elif isinstance(item, Handed):
            core.on_handed(item.value)
        else:
            raise TypeError(f"{item!r} is not an input")

    def _tell_all(self, item: Any, top: Path) -> None:
        """An input for every core at or below a path. The roster changes first, so that each core sees it as it is."""
        if type(item) is Met:
            self.roster.add(item.node)
        elif type(item) is Parted:
            self.roster.remove(item.node)
            self._parking.drop_from(item.node)
        for path, core in list(self.cores.items()):
            if path in self.cores and path[: len(top)] == top:
                self._tell(core, item)

    def _tell(self, core: Core, item: Any) -> None:
        self._touched[core.env.path] = None
        kind = type(item)
        if kind is Stalled:
            core.on_stalled(item.why)
        elif kind is Met:
            core.on_met(item.node, item.key, item.address, item.outbound)
        elif kind is Parted:
            core.on_parted(item.node, item.why)
        elif kind is Unmet:
            core.on_unmet(item.address, item.why)
        else:
            core.on_misbehaved(item.node, item.why)

    def _hand(self, item: Handed) -> None:
        if item.path in self._journaled.scopes:  # else its parent is replayed as well, or neither is
            self._journaled.saw(item.path, item)
        self._dispatch(item)

    def _upcalls(self) -> None:
        upcalls = self._effects.upcalls
        for path, call, value in upcalls:  # the list may grow while it is walked
            if path in self.cores:  # else it was retired after the child delivered
                self._touched[path] = None
                call(value)
        upcalls.clear()

    def _settle(self) -> None:
        """A core that settles may deliver to its parent, which is then touched as well."""
        rounds = 0
        while self._touched:
            rounds += 1
            assert rounds < SETTLES_MAX, f"{sorted(self._touched)} settle without end: settling must not always deliver"
            if self._scopes:
                self._journaled.settled()
            touched, self._touched = self._touched, {}
            if self._settlers:
                self._touch_children(touched)
            for path in touched:
                core = self.cores.get(path)
                if core is not None:
                    core.settle()
            if self._effects.upcalls:
                self._upcalls()

    def _touch_children(self, touched: dict[Path, None]) -> None:
        """Children may have been called by a parent that was touched; not those that are only handed values."""
        for path in list(touched):
            for child in self._settlers.get(path, ()):
                if child not in touched and not self.cores[child].by_inputs:
                    touched[child] = None

    def _take(self) -> Turn:
        turn = self._effects.take()
        if self._scopes:
            if records := self._journaled.take(self._effects.now, self._effects.wall_ns):
                turn.records, turn.lazy = [*turn.records, *records], False
        return turn

    def _park(self, item: Received) -> None:
        if item.path in self._retired:
            return
        for depth in range(len(item.path) - 1, -1, -1):
            owner = self.cores.get(item.path[:depth])
            if owner is not None:
                if owner.awaits(item.path):
                    self._parking.park(item.path, item.sender, item.message, item.path[:depth], owner.parking)
                return

    # --- recovery ---

    def _replay(self, scope: Path, stepped: Stepped) -> None:
        """Step through journaled inputs again."""
        if scope not in self.cores:
            self._seed_on_record = stepped.seed
            self._core_to_restore(scope)
            self._seed_on_record = None
        if scope not in self._journaled.scopes:
            raise ValueError(f"the journal holds inputs of the core at {scope}, which is recovered by records")
        self._journaled.keep(scope, stepped)
        if stepped.seed:
            self._journaled.reseed(scope, stepped.seed)  # the parent may have spawned it before it was to be restored
        effects = self._effects
        effects.now, effects.wall_ns, effects.replayed = stepped.now, stepped.wall_ns, scope
        was_started, self._started = self._started, True
        if stepped.start:
            self._start_below(scope)
        for item in stepped.inputs:
            self._run_again(item, scope)
        self._settle()
        self._started, effects.replayed = was_started, None
        self._journaled.forget_step()

    def _run_again(self, item: Any, scope: Path) -> None:
        kind = type(item)
        if kind is Settled:
            self._settle()
        elif kind is Received:
            self._take_message(item)
        elif kind in TO_ALL:
            self._tell_all(item, scope)
        elif kind is Misbehaved:
            self._tell(self.root, item)
        else:
            self._dispatch(item)
        self._upcalls()

    def _new_seed(self, path: Path) -> bytes:
        """Of a subtree: that of its first record, where it has one."""
        if self._seed_on_record is not None:
            return self._seed_on_record
        return self._chance(path).getrandbits(8 * SEED_BYTES).to_bytes(SEED_BYTES, "big")

    def _core_to_restore(self, path: Path) -> Core:
        for depth in range(1, len(path) + 1):
            if path[:depth] not in self.cores:
                self.cores[path[: depth - 1]].revive(path[depth - 1])
        return self.cores[path]
