"""Host: owns a tree of cores and is pure. Many inputs, one Turn.

How it works. One table maps a path to its core, so dispatch is one look-up whatever the depth. Each input runs its
handler; then the upcalls that it queued run, one after the other, so that no core is ever entered twice at once;
when all inputs are done, each core that was touched may ``settle``. All that was recorded on the way is one Turn.

Two kinds of recovery. *By records*: the cores say what must never be contradicted, and ``restore`` hands it back. *By
inputs*: for a core whose state is too large to record bit by bit, the start and every step persist their own inputs
(and nothing else) and ``restore`` steps through them again with all effects muted. The same seed of ``rng`` then makes
the same choices. Timers do not outlive a process: ``start``, which comes after recovery, sets what is wanted.

A peer is not trusted: a message of an unknown type, for a core that takes no such message, from a node outside the
group, or one too many for the parking, is blamed and dropped.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from types import FunctionType
from typing import Any

import msgspec

from quorate.kernel.core import Core
from quorate.kernel.env import Effects, Env, Rng
from quorate.kernel.ids import PATH_DEPTH_MAX, ROOT, Path
from quorate.kernel.inputs import Asked, Done, Fired, Input, Received, Stalled, Submitted
from quorate.kernel.parking import Parking, Retired
from quorate.kernel.turn import Blame, Record, Turn

PARKED_PER_SENDER_MAX = 256


class Stepped(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The record of recovery by inputs: one step's time and inputs, or the ``start``, which has none."""

    now: float
    inputs: tuple[Input, ...]
    start: bool = False


class Host:
    """One node's cores. ``make`` builds the root core from its Env.

    ``by_inputs`` chooses recovery by journaled inputs. The order of calls is: ``restore`` for each durable record, then
    ``start`` once, then ``step`` for ever.
    """

    def __init__(
        self,
        make: Callable[[Env], Core],
        node: int,
        peers: Sequence[int],
        rng: Rng,
        *,
        by_inputs: bool = False,
    ) -> None:
        self.node = node
        self.peers = tuple(sorted(peers))
        self.by_inputs = by_inputs
        self._rng = rng
        self._effects = Effects()
        self._members = frozenset(self.peers)
        self._parking = Parking(PARKED_PER_SENDER_MAX)
        self._retired = Retired()
        self._touched: dict[Path, None] = {}  # in order of first touch
        self._started = False
        self.cores: dict[Path, Core] = {}
        self.root = self.cores[ROOT] = make(self._env(ROOT, None))

    # --- the life of a Host ---

    def restore(self, record: Record, now: float = 0.0) -> None:
        """Take back one durable record, in order, before ``start``. Whatever it makes a core do is muted."""
        self._effects.now = now
        if isinstance(record.value, Stepped):
            if record.value.start:
                self._begin(record.value.now)
            else:
                self._run(record.value.inputs, record.value.now)
        else:
            self._core_to_restore(record.path).restore(record.value)
            self._upcalls()
        self._effects.take()

    def start(self, now: float) -> Turn:
        """Begin, after recovery; the effects of beginning."""
        self._begin(now)
        return self._take(Stepped(now, (), start=True) if self.by_inputs else None)

    def step(self, inputs: Sequence[Input], now: float) -> Turn:
        """Run the inputs in order and return all their effects."""
        self._run(inputs, now)
        return self._take(Stepped(now, tuple(inputs)) if self.by_inputs else None)

    def checkpoint(self) -> list[Record]:
        """The records that replace everything persisted so far. Empty with recovery by inputs: keep them all."""
        if self.by_inputs:
            return []
        return [Record(path, value) for path, core in self.cores.items() for value in core.checkpoint()]

    def fork(self) -> Host:
        """An independent copy in the same state: equal inputs give equal Turns."""
        return copy.deepcopy(self)

    # --- what Env asks for ---

    def spawn(
        self,
        path: Path,
        make: Callable[..., Core],
        args: Iterable[Any],
        kwargs: dict[str, Any],
        upcall: Callable[[Any], None],
    ) -> Core:
        """Make the core at ``path``; what was parked for it comes right after."""
        if path in self.cores or path in self._retired:
            raise ValueError(f"path {path} is taken or retired: names are used once")
        if len(path) > PATH_DEPTH_MAX:
            raise ValueError(f"path {path} is deeper than {PATH_DEPTH_MAX}")
        if isinstance(upcall, FunctionType) and upcall.__closure__:
            raise TypeError(f"the upcall of {path} is a closure, which no fork copies: hand in a method or a partial")
        core = self.cores[path] = make(self._env(path, upcall), *args, **kwargs)
        if self._started:
            core.start()
            self._touched[path] = None
        for sender, message in self._parking.claim(path):
            self._effects.upcalls.append((path, self._receive, Received(sender, message, path)))
        return core

    def retire(self, path: Path) -> None:
        """Remove the core at ``path`` and all below it."""
        for gone in [p for p in self.cores if p[: len(path)] == path]:
            del self.cores[gone]
        self._retired.add(path)
        self._parking.drop_below(path)

    # --- dispatch ---

    def _env(self, path: Path, upcall: Callable[[Any], None] | None) -> Env:
        return Env(self, self._effects, path, self.node, self.peers, self._rng, upcall)

    def _begin(self, now: float) -> None:
        self._effects.now = now
        self._started = True
        for path, core in list(self.cores.items()):
            if path in self.cores:  # else a core that started before it retired it
                self._touched[path] = None
                core.start()
                self._upcalls()
        self._settle()

    def _run(self, inputs: Sequence[Input], now: float) -> None:
        self._effects.now = now
        upcalls = self._effects.upcalls
        for item in inputs:
            kind = type(item)
            if kind is Received:
                self._receive(item)  # type: ignore[arg-type]
            elif kind is Stalled:
                for path, core in list(self.cores.items()):
                    if path in self.cores:
                        self._touched[path] = None
                        core.on_stalled(item.why)  # type: ignore[union-attr]
            else:
                self._dispatch(item)
            if upcalls:
                self._upcalls()
        self._settle()

    def _receive(self, item: Received) -> None:
        core = self.cores.get(item.path)
        if item.sender not in self._members:
            self._effects.blames.append(Blame(item.sender, "is not a member of the group"))
        elif core is None:
            self._park(item)
        else:
            handler = core.handlers.get(type(item.message))
            if handler is None:
                self._effects.blames.append(Blame(item.sender, f"sent a {type(item.message).__name__} to {item.path}"))
                return
            self._touched[item.path] = None
            handler(core, item.sender, item.message)

    def _dispatch(self, item: Input) -> None:
        """Local inputs. One for a core that is gone (a timer of a retired child, say) is stale and dropped."""
        core = self.cores.get(item.path)  # type: ignore[union-attr]
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
        else:
            raise TypeError(f"{item!r} is not an input")

    def _upcalls(self) -> None:
        upcalls = self._effects.upcalls
        for path, call, value in upcalls:  # the list may grow while it is walked
            if path in self.cores:  # else it was retired after the child delivered
                self._touched[path] = None
                call(value)
        upcalls.clear()

    def _settle(self) -> None:
        """A core that settles may deliver to its parent, which is then touched as well."""
        while self._touched:
            touched, self._touched = self._touched, {}
            for path in touched:
                core = self.cores.get(path)
                if core is not None:
                    core.settle()
            if self._effects.upcalls:
                self._upcalls()

    def _take(self, stepped: Stepped | None) -> Turn:
        turn = self._effects.take()
        if stepped is not None:  # what the cores persisted is made again from the inputs
            turn.records = [Record(ROOT, stepped)]
        return turn

    def _park(self, item: Received) -> None:
        if item.path in self._retired:
            return
        if not self._parking.park(item.path, item.sender, item.message):
            self._effects.blames.append(Blame(item.sender, "has too many messages waiting for cores not there"))

    def _core_to_restore(self, path: Path) -> Core:
        for depth in range(1, len(path) + 1):
            if path[:depth] not in self.cores:
                self.cores[path[: depth - 1]].revive(path[depth - 1])
        return self.cores[path]
