"""Host: owns a tree of cores and is pure. Many inputs, one Turn.

How it works. One table maps a path to its core, so dispatch is one look-up whatever the depth. Each input runs its
handler; then the upcalls that it queued run, one after the other, so that no core is ever entered twice at once;
when all inputs are done, each core that was touched may ``settle``, and so may its children, which it may have called.
All that was recorded on the way is one Turn.

Two kinds of recovery. *By records*: the cores say what must never be contradicted, and ``restore`` hands it back. *By
inputs* (``replay.py``): for a subtree whose state is too large to record bit by bit, its inputs are journaled and
stepped through again. Neither timers nor jobs outlive a process: ``start``, which comes after recovery, asks for what
is wanted.

A peer is not trusted: a message of an unknown type, or for a core that takes no such message, is blamed and dropped, in
an open roster reported to the cores; one from a node outside the group is blamed; one too many for the parking is
dropped.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial
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
from quorate.kernel.replay import SEED_BYTES, Began, Journaled, Known, Settled, Spawned, Started, Stepped, Subtree
from quorate.kernel.roster import Roster
from quorate.kernel.turn import Blame, Part, Record, RosterChange, Turn

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
        self._touched: dict[Path, None] = {}  # in order of first touch
        self._settlers: dict[Path, list[Path]] = {}
        """By core, those below it that settle and that it may have called; none inside a subtree by inputs."""
        self._started = False
        self._unstarted: set[Path] = set()
        """The subtrees by inputs that this life has not started yet."""
        self._stall: str | None = None
        """Why storage takes no records, as far as the cores were told."""
        self.cores: dict[Path, Core] = {}
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
        self._run(inputs)
        return self._take()

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

    # --- what Env asks for ---

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
        scope = None if journaled.whole else journaled.scope_of(path)
        if getattr(make, "by_inputs", False) and scope is None and not journaled.whole:
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
        recorded = journaled.recorded(path)
        now = effects.now, effects.wall_ns
        spawned = recorded or Spawned(self._new_seed(path), self.roster.peers, *now)
        is_open, is_recorded = self.roster.is_open, recorded is not None
        subtree = Subtree(spawned, self.node, is_open=is_open, is_recorded=is_recorded)
        journaled.subtrees[path] = subtree
        effects.now, effects.wall_ns = spawned.now, spawned.wall_ns
        effects.replayed = None if self._started else path
        self._within(path, partial(self._add, path, made, upcall, subtree.roster, is_journaled=True))
        effects.now, effects.wall_ns = now
        effects.replayed = None
        if self._started:
            self._start_subtree(path)
        effects.upcalls += [(path, self._receive, item) for item in waiting]  # what waited is an input now
        return self.cores[path]

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

    def _start_subtree(self, scope: Path) -> None:
        self._unstarted.discard(scope)
        if not self.roster.is_open:
            self._follow_roster(scope)
        self._journaled.saw_within(scope, Started())
        self._start_within(scope)

    def _start_within(self, scope: Path) -> None:
        subtree = self._journaled.subtrees[scope]
        if subtree.was_started:
            self._within(scope, self._tell_what_ended, scope, subtree.roster, subtree.stall)
        subtree.was_started = True  # from now on what is spawned in it is started there and then
        for path, core in list(self.cores.items()):
            if path[: len(scope)] == scope and path in self.cores:
                self._touched[path] = None
                self._within(scope, core.start)

    def _tell_what_ended(self, top: Path, roster: Roster, stall: str | None) -> None:
        """The links, and a stall of the journal, were those of another life."""
        if stall is not None:
            self._tell_below(top, Stalled(None))
        if roster.is_open:
            for node in roster.peers:
                self._tell_below(top, Parted(node, "this node was started again"))

    # --- dispatch ---

    def _run(self, inputs: Sequence[Input]) -> None:
        upcalls = self._effects.upcalls
        for item in inputs:
            kind = type(item)
            if kind is Received:
                self._receive(item)  # type: ignore[arg-type]
            elif kind in TO_ALL:
                self._tell_everyone(item)
            elif kind is Misbehaved:
                self._journaled.saw(item)
                self._tell(self.root, item)
            else:
                self._take_in(item)
            if upcalls:
                self._upcalls()
        self._settle()

    def _receive(self, item: Received) -> None:
        roster = self.roster
        if item.sender not in roster.members and not (roster.is_open and item.sender == roster.node):
            if not (roster.is_open or roster.has_left(item.sender)):
                self._effects.blames.append(Blame(item.sender, "is not a member of the group"))
            return
        journaled = self._journaled
        if journaled.subtrees or journaled.whole:
            self._take_in(item)
            return
        path, message = item.path, item.message
        core = self.cores.get(path)
        handler = None if core is None else core.handlers.get(type(message))
        if handler is None:
            self._cannot_take(item, core)
            return
        self._touched[path] = None
        handler(core, item.sender, message)

    def _take_in(self, item: Any) -> None:
        """An input for one core; it is journaled where that is recovered by inputs."""
        journaled = self._journaled
        if journaled.subtrees and (scope := journaled.scope_of(item.path)) is not None:
            journaled.saw_within(scope, item)
            self._within(scope, self._dispatch, item)
            return
        if journaled.whole:
            journaled.saw(item)
        self._dispatch(item)

    def _within(self, scope: Path, act: Callable[..., Any], *args: Any) -> None:
        """Do something inside a subtree, and all that this brings about inside it. What goes outside waits in line.

        When inputs are replayed, nothing is outside. So what happens inside must not depend on it.
        """
        effects = self._effects
        outside, effects.upcalls = effects.upcalls, []
        act(*args)
        for entry in effects.upcalls:  # the list may grow while it is walked
            path, call, value = entry
            if path[: len(scope)] != scope or (path == scope and type(value) is Handed):
                outside.append(entry)
            elif path in self.cores:
                self._touched[path] = None
                call(value)
        effects.upcalls = outside

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
        """A local one for a core that is gone (a timer of a retired child, say) is stale and dropped."""
        if type(item) is Received:
            self._take_message(item)
            return
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

    def _tell_everyone(self, item: Any) -> None:
        """An input for every core."""
        self._journaled.saw(item)
        self._tell_below(ROOT, item)

    def _tell_below(self, top: Path, item: Any) -> None:
        """An input for every core at or below a path; those of a subtree hear it together.

        The roster changes first, so that each core sees it as it is.
        """
        self._take_news(top, item)
        heard = set()
        for path, core in list(self.cores.items()):
            if path[: len(top)] != top or path not in self.cores:
                continue
            scope = self._journaled.scope_of(path)
            if scope is None or scope == top:
                self._tell(core, item)
            elif scope not in heard:
                heard.add(scope)
                self._journaled.saw_within(scope, item)
                self._within(scope, self._tell_below, scope, item)

    def _take_news(self, top: Path, item: Any) -> None:
        """What the Host itself, or a subtree, notes of an input for every core."""
        subtree = self._journaled.subtrees.get(top)
        roster = self.roster if subtree is None else subtree.roster
        kind = type(item)
        if kind is Met:
            roster.add(item.node)
        elif kind is Parted:
            roster.remove(item.node)
            self._parking.drop_from(item.node, top)
        elif kind is Stalled:
            if subtree is None:
                self._stall = item.why
            else:
                subtree.stall = item.why

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
        scope = item.path
        if scope not in self._journaled.subtrees:
            self._dispatch(item)
            return
        if scope in self._unstarted:
            self._start_subtree(scope)
        self._journaled.saw_within(scope, item)
        self._within(scope, self._dispatch, item)

    def _upcalls(self) -> None:
        upcalls = self._effects.upcalls
        for path, call, value in upcalls:  # the list may grow while it is walked
            if path in self.cores:  # else it was retired after the child delivered
                self._touched[path] = None
                call(value)
        upcalls.clear()

    # --- settling ---

    def _settle(self) -> None:
        """A core that settles may deliver to its parent, which is then touched as well."""
        for _ in range(SETTLES_MAX):
            if not self._touched:
                return
            if self._journaled.subtrees and self._settle_subtrees():
                self._upcalls()
                continue  # what they delivered may have touched their parents, or each other
            touched, self._touched = self._touched, {}
            if self._settlers:
                self._touch_below(touched)
            for path in touched:
                core = self.cores.get(path)
                if core is not None:
                    core.settle()
            if self._effects.upcalls:
                self._upcalls()
        raise AssertionError(f"{sorted(self._touched)} settle without end: settling must not always deliver")

    def _settle_subtrees(self) -> bool:
        """Each on its own, until nothing is touched inside; whether there was one to settle."""
        scopes = dict.fromkeys(self._journaled.scope_of(path) for path in self._touched)
        scopes.pop(None, None)
        for scope in scopes:
            if scope is not None and scope in self._journaled.subtrees:
                self._journaled.settled(scope)
                self._settle_within(scope)
        return bool(scopes)

    def _settle_within(self, scope: Path) -> None:
        for _ in range(SETTLES_MAX):
            touched = {path: None for path in self._touched if path[: len(scope)] == scope}
            if not touched:
                return
            for path in touched:
                del self._touched[path]
            self._within(scope, self._settle_cores, touched)
        raise AssertionError(f"{scope} settles without end: settling must not always deliver")

    def _settle_cores(self, touched: dict[Path, None]) -> None:
        if self._settlers:
            self._touch_below(touched)
        for path in touched:
            core = self.cores.get(path)
            if core is not None:
                core.settle()

    def _touch_below(self, touched: dict[Path, None]) -> None:
        """A core that was touched may have called its children, and they theirs."""
        for path in list(touched):
            touched.update(dict.fromkeys(self._settlers.get(path, ())))

    def _take(self) -> Turn:
        turn = self._effects.take()
        if self.by_inputs or self._journaled.subtrees:
            first, last = self._journaled.take(self._effects.now, self._effects.wall_ns, self.seed)
            if first or last:
                turn.records, turn.lazy = [*first, *turn.records, *last], False
        return turn

    # --- parking ---

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

    def _respawn(self, path: Path, spawned: Spawned) -> None:
        """A subtree is about to be made again, by its parent or for its first inputs."""
        subtree = self._journaled.subtrees.get(path)
        if subtree is None:
            self._journaled.expect(path, spawned)
            return
        if any(core.env.has_drawn for at, core in self.cores.items() if at[: len(path)] == path):
            raise ValueError(f"the core at {path}, made by its parent's constructor, drew from chance before its start")
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

    def _follow_roster(self, scope: Path) -> None:
        """A subtree knows whom the Host knows."""
        roster, peers = self._journaled.subtrees[scope].roster, self.roster.peers
        if roster.peers != peers:
            roster.replace(peers)
            self._journaled.saw_within(scope, Known(peers))

    def _new_seed(self, path: Path) -> bytes:
        return self._chance(path).getrandbits(8 * SEED_BYTES).to_bytes(SEED_BYTES, "big")

    def _core_to_restore(self, path: Path) -> Core:
        for depth in range(1, len(path) + 1):
            if path[:depth] not in self.cores:
                self.cores[path[: depth - 1]].revive(path[depth - 1])
        return self.cores[path]
