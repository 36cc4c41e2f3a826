"""One key's operations, compiled for the search.

Each operation becomes a kind with the state it needs and the state it leaves, so that the search mostly compares
states instead of calling the model. Operations of unknown outcome are grouped: those with equal `f` and value are
interchangeable, so the search only ever takes the earliest one left (an earlier invocation can stand wherever a
later one can). Unknown reads constrain nothing and are left out.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from enum import IntEnum
from itertools import chain
from math import inf
from typing import Final

from quorate.sim.checkers.models import ANY, LOST, UNKNOWN, Model, State
from quorate.sim.history.events import Operation
from quorate.sim.history.values import freeze

NEVER: Final = inf


class Kind(IntEnum):
    """How an operation meets a state."""

    READ = 0  # changes nothing; happens in the state it demands
    LOOK = 1  # changes nothing; the model says where it can happen
    BLIND = 2  # happens anywhere, leaves the same state always
    EXACT = 3  # happens in the state it demands, leaves one state
    FREE = 4  # anything else: ask the model


class Action:
    """An operation as the search sees it. `needs` and `gives` are ANY where the kind has none."""

    __slots__ = ("f", "gives", "kind", "model", "needs", "output", "value")

    def __init__(self, model: Model, operation: Operation) -> None:
        f = self.f = operation.f
        value = self.value = freeze(operation.value)
        output = self.output = freeze(operation.output) if operation.certain else UNKNOWN
        self.model = model
        self.needs = model.demand(f, value, output)
        self.gives: State = ANY
        if model.readonly(f, value, output):
            self.kind = Kind.LOOK if self.needs is ANY else Kind.READ
            self.gives = self.needs
        elif model.blind(f, value, output):
            self.kind = Kind.BLIND
            self.gives = model.step(model.initial, f, value, output)[1]
        elif self.needs is not ANY:
            possible, gives = model.step(self.needs, f, value, output)
            self.kind = Kind.EXACT if possible else Kind.FREE
            self.gives = gives if possible else ANY
        else:
            self.kind = Kind.FREE

    def apply(self, state: State) -> tuple[bool, State]:
        """(can it happen in this state?, the state it leaves)."""
        if self.kind == Kind.BLIND:
            return True, self.gives
        if self.kind == Kind.EXACT or self.kind == Kind.READ:
            return state == self.needs, self.gives
        if state is LOST:
            return True, LOST
        return self.model.step(state, self.f, self.value, self.output)


class Unknowns:
    """Operations of unknown outcome that are alike, earliest first; `used` of them are linearized."""

    __slots__ = ("action", "bits", "invoked", "members", "used")

    def __init__(self, action: Action) -> None:
        self.action = action
        self.members: list[Operation] = []
        self.invoked: list[int] = []
        self.bits: list[int] = []
        self.used = 0

    def available(self, before: float) -> bool:
        """Is one left that was invoked before this moment?"""
        return self.used < len(self.invoked) and self.invoked[self.used] < before


class Problem:
    """The operations of one key, in the order of invocation, certain ones apart from unknown ones.

    `foresees` says that the search may ask the model where states lead; `telling` that what an operation can do
    hangs on its output, so that to know the output of what is still open may rule out more than was known then.
    """

    def __init__(self, model: Model, operations: Sequence[Operation]) -> None:
        self.model = model
        self.initial = model.initial
        self.operations: list[Operation] = []
        self.actions: list[Action] = []
        self.invoked: list[float] = []
        self.completed: list[float] = []
        classes: dict[tuple[str, State], Unknowns] = {}
        bit = 1
        for operation in operations:
            action = Action(model, operation)
            if operation.completed is not None:
                self.operations.append(operation)
                self.actions.append(action)
                self.invoked.append(operation.invoked)
                self.completed.append(operation.completed)
            elif action.kind > Kind.LOOK:
                alike = classes.setdefault((action.f, action.value), Unknowns(action))
                alike.members.append(operation)
                alike.invoked.append(operation.invoked)
                alike.bits.append(bit)
                bit <<= 1
        self.unknowns = list(classes.values())
        self.free = [unknown for unknown in self.unknowns if unknown.action.kind == Kind.FREE]
        self.foresees = model.foresees and (self.free != [] or self._has(Kind.FREE))
        self.telling = self.free != [] or self._has(Kind.FREE) or self._has(Kind.LOOK)
        self.hope = self._hope() if self.foresees and not self._has(Kind.LOOK) else None
        self.givers: dict[State, list[Unknowns]] = {}
        for unknown in self.unknowns:
            if unknown.action.kind != Kind.FREE:
                self.givers.setdefault(unknown.action.gives, []).append(unknown)

    def _has(self, kind: Kind) -> bool:
        return any(action.kind == kind for action in self.actions)

    def _hope(self) -> Callable[[State], float]:
        certain = ((action.needs, self.completed[i]) for i, action in enumerate(self.actions))
        unknown = ((unknown.action.needs, NEVER) for unknown in self.unknowns)
        return self.model.hopes(item for item in chain(certain, unknown) if item[0] is not ANY)

    def ceiling(self) -> float:
        """The earliest completion of an operation that cannot have happened whatever the order; NEVER if none shows.

        An operation that needs state v is impossible if nothing can have left v for it: every operation that gives
        v is either invoked too late, or over before another one begins that certainly leaves or sees something else and
        is itself over in time. This is a shortcut for the common violations (a value never written, a stale read): the
        search may stop at the ceiling instead of exhausting every order of all that came before.
        """
        if self._has(Kind.FREE) or self.free:
            return NEVER  # anything may give anything
        givers = self._intervals_by_gift()
        covers = _Covers(self)
        lowest = NEVER
        for i in sorted(range(len(self.actions)), key=self.completed.__getitem__):
            needs = self.actions[i].needs
            if needs is ANY:
                continue
            cover = covers.latest_begin(self.invoked[i], needs)
            if needs == self.initial and cover < 0:
                continue
            if self._unknown_gives(needs, self.completed[i]):
                continue
            if not givers.get(needs, _NO_INTERVALS).survives(self.completed[i], cover):
                lowest = self.completed[i]
                break
        return lowest

    def _unknown_gives(self, state: State, before: float) -> bool:
        return any(unknown.invoked[0] < before for unknown in self.givers.get(state, ()))

    def _intervals_by_gift(self) -> "dict[State, _Intervals]":
        found: dict[State, _Intervals] = {}
        for i, action in enumerate(self.actions):
            if action.kind >= Kind.BLIND:
                found.setdefault(action.gives, _Intervals()).add(self.invoked[i], self.completed[i])
        return found


class _Intervals:
    """Intervals in the order of their begin, with the latest end so far."""

    __slots__ = ("begins", "latest_ends")

    def __init__(self) -> None:
        self.begins: list[float] = []
        self.latest_ends: list[float] = []

    def add(self, begin: float, end: float) -> None:
        self.begins.append(begin)
        self.latest_ends.append(max(end, self.latest_ends[-1]) if self.latest_ends else end)

    def survives(self, before: float, cover: float) -> bool:
        """Does one that begins `before` end after `cover` begins?"""
        at = bisect_left(self.begins, before)
        return at > 0 and self.latest_ends[at - 1] > cover


_NO_INTERVALS: Final = _Intervals()


class _Covers:
    """For each moment, the latest begin of an operation over by then that shows another state than a given one."""

    def __init__(self, problem: Problem) -> None:
        self._ends: list[float] = []
        self._best: list[tuple[float, State, float]] = []  # latest begin, what it gives, latest with another gift
        gift: State = ANY
        best = other = -1.0
        telling = [i for i, action in enumerate(problem.actions) if action.gives is not ANY]
        for i in sorted(telling, key=problem.completed.__getitem__):
            begin, gives = problem.invoked[i], problem.actions[i].gives
            if gives == gift:
                best = max(best, begin)
            elif begin > best:
                best, gift, other = begin, gives, best
            else:
                other = max(other, begin)
            self._ends.append(problem.completed[i])
            self._best.append((best, gift, other))

    def latest_begin(self, before: float, unless: State) -> float:
        """-1 if there is none."""
        at = bisect_left(self._ends, before)
        if at == 0:
            return -1
        best, gift, other = self._best[at - 1]
        return other if gift == unless else best
