"""The search for a linearization: Wing and Gong's, with Lowe's memory.

Depth first: of the operations that may come next (invoked before any operation left has completed) place one that
the model allows, and undo it when it leads nowhere. What is left is a linked list in the order of invocation, so
that to place and to undo cost the same few steps however long the history is. A (set of placed operations, state)
met before is not searched again.

    J. Wing, C. Gong. Testing and verifying concurrent objects. JPDC 17, 1993
    G. Lowe. Testing for linearizability. Concurrency and Computation: Practice and Experience 29(4), 2017
    A. Horn, D. Kroening. Faster linearizability checking via P-compositionality. FORTE 2015

What is added, and why nothing is lost by it:

* An operation that changes nothing is placed as soon as the state allows it, with no way back: in any completion
  that places it later it can be moved to the front.
* An operation of unknown outcome may be left out for ever, so it is placed only where something needs it: where what
  comes next (perhaps after more such operations) is a certain operation that does not overwrite it. Where the model
  says which state that one demands, only what leads there is tried.
* Where states grow (appends), what the next reads saw tells which states lead there; others are not followed,
  and states from which nobody's demand can come are all alike.
* Of two ways to the same placed certain operations and the same state, the one that used up fewer unknown
  operations can do whatever the other can: the memory keeps the minimal sets and cuts off their supersets.

Linearizability is closed under prefixes, so a failed search has one first completion that no order can meet, whatever
order was tried first. The operation it belongs to is the one reported.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from quorate.sim.checkers.models import ANY, LOST, State
from quorate.sim.checkers.problem import NEVER, Kind, Problem, Unknowns
from quorate.sim.history.events import Operation

STATES_KEPT_MAX: Final = 16
WATCH_STATES: Final = 4096
FORESEEN_READS: Final = 4
SPARE_STATES: Final = 1000
READ, LOOK, BLIND, EXACT, FREE = (int(kind) for kind in Kind)

Placement = tuple[Any, Any] | None  # the last operation placed, and the path before it
Watcher = Callable[[int], bool]  # called with the states explored now and then; False gives up


class Found(msgspec.Struct):
    """What a search found. `linearizable` is None if it gave up.

    `order` is the linearization, or the deepest prefix of one; `stuck_at` indexes the operation that no order can
    place (None unless linearizable is False); `states` are those in which it was tried.
    """

    linearizable: bool | None
    explored: int
    order: list[Operation]
    stuck: Operation | None = None
    states: tuple[State, ...] = ()


class _Frame:
    """A state of the search: what was placed to come here, and what is still to be tried from here."""

    __slots__ = (
        "base",
        "candidates",
        "goals",
        "helped",
        "limit",
        "moves",
        "path",
        "placed",
        "state",
        "unknown",
        "used",
        "window",
    )

    def __init__(self, state: State, path: Placement, base: int, window: int, used: int) -> None:
        self.state = state
        self.path = path
        self.base = base
        self.window = window
        self.used = used
        self.placed: list[int] = []  # taken off the list on the way here, to be put back
        self.unknown: Unknowns | None = None
        self.candidates: list[int] = []
        self.limit: float = NEVER
        self.goals: list[State] = []
        self.moves: list[tuple[int | Unknowns, State]] = []  # best last
        self.helped = False


class Search:
    """One search. `run` can be called once."""

    def __init__(self, problem: Problem, states_max: int, watch: Watcher | None = None) -> None:
        n = len(problem.operations)
        self.problem = problem
        self.states_max = states_max
        self.watch = watch
        self.head = n
        self.next = [*range(1, n + 1), 0]
        self.previous = [n, *range(n)]
        self.invoked = [*problem.invoked, NEVER]
        self.completed = problem.completed
        self.kinds = [int(action.kind) for action in problem.actions]
        self.needs = [action.needs for action in problem.actions]
        self.hopeful: dict[State, float] = {}
        self.ways: dict[int, list[Unknowns]] = {}
        self.seen: dict[tuple[int, int, State], list[int]] = {}
        self.explored = 0
        self.spare_states = SPARE_STATES
        self.best_limit: float = -1
        self.best_path: Placement = None
        self.best_states: list[State] = []

    def run(self) -> Found:
        """Search until there is a linearization, there can be none, or the budget is spent."""
        ceiling = self.problem.ceiling()
        stack = [_Frame(self.problem.initial, None, 0, 0, 0)]
        if self._enter(stack[0]):
            return Found(True, self.explored, self._order(stack[0].path))
        while stack and not self._condemned(stack[-1], ceiling):
            frame = stack[-1]
            if not frame.moves and not frame.helped:
                frame.helped = True
                frame.moves = self._helpers(frame)
            if not frame.moves:
                self._leave(stack.pop())
                continue
            move, state = frame.moves.pop()
            child = self._place(frame, move, state)
            if self._enter(child):
                return Found(True, self.explored, self._order(child.path))
            stack.append(child)
            if self.explored >= self.states_max or not self._go_on():
                return self._found(None)
        return self._found(False)

    def _condemned(self, frame: _Frame, ceiling: float) -> bool:
        """At the ceiling the answer is known; what is left is to see in which states its operation was tried."""
        if self.best_limit < ceiling:
            return False
        self.spare_states -= 1
        return frame.limit < ceiling or self.spare_states < 0

    def _go_on(self) -> bool:
        return self.watch is None or self.explored % WATCH_STATES != 0 or self.watch(self.explored)

    def _found(self, linearizable: bool | None) -> Found:
        stuck = self.problem.operations[self.completed.index(self.best_limit)]
        order = self._order(self.best_path)
        return Found(linearizable, self.explored, order, stuck, tuple(self.best_states))

    def _order(self, path: Placement) -> list[Operation]:
        order: list[Operation] = []
        while path is not None:
            operation, path = path
            order.append(operation)
        order.reverse()
        return order

    def _place(self, frame: _Frame, move: int | Unknowns, state: State) -> _Frame:
        """The frame after a move, before it is entered."""
        if isinstance(move, Unknowns):
            operation, bit = move.members[move.used], move.bits[move.used]
            move.used += 1
            child = _Frame(state, (operation, frame.path), frame.base, frame.window, frame.used | bit)
            child.unknown = move
            return child
        child = _Frame(state, (self.problem.operations[move], frame.path), frame.base, frame.window, frame.used)
        self._take(child, move)
        self._slide(child)
        return child

    def _take(self, frame: _Frame, i: int) -> None:
        """Take an operation off the list."""
        before, after = self.previous[i], self.next[i]
        self.next[before] = after
        self.previous[after] = before
        frame.placed.append(i)
        frame.window |= 1 << (i - frame.base)

    def _slide(self, frame: _Frame) -> None:
        """Begin the window at the first operation left: equal sets have equal windows, and windows stay small."""
        window = frame.window
        ones = (window ^ (window + 1)).bit_length() - 1
        frame.base += ones
        frame.window = window >> ones

    def _leave(self, frame: _Frame) -> None:
        """Undo a frame: put back what was taken, in reverse."""
        for i in reversed(frame.placed):
            self.next[self.previous[i]] = i
            self.previous[self.next[i]] = i
        if frame.unknown is not None:
            frame.unknown.used -= 1

    def _enter(self, frame: _Frame) -> bool:
        """Place what changes nothing, then list the moves; True if nothing is left to place."""
        self.explored += 1
        self._scan(frame)
        if self.next[self.head] == self.head:
            return True
        state = frame.state
        if frame.limit > self.best_limit:
            self.best_limit, self.best_path, self.best_states = frame.limit, frame.path, [state]
        elif frame.limit == self.best_limit and len(self.best_states) < STATES_KEPT_MAX:
            if state not in self.best_states:
                self.best_states.append(state)
        if self._known(frame) or (self.problem.foresees and not self._foresee(frame)):
            frame.helped = True
            return False
        actions, completed = self.problem.actions, self.completed
        for i in sorted(frame.candidates, key=completed.__getitem__, reverse=True):
            if self.kinds[i] > LOOK:
                possible, after = actions[i].apply(state)
                if possible:
                    after = self._settled(after, frame.limit)
                    if self._promising(after, frame.goals):
                        frame.moves.append((i, after))
        return False

    def _settled(self, state: State, limit: float) -> State:
        """The state, or LOST if no demand still open can come of it: all such states are alike."""
        hope = self.problem.hope
        if hope is None or state is LOST:
            return state
        until = self.hopeful.get(state)
        if until is None:
            until = self.hopeful[state] = hope(state)
        return LOST if until < limit else state

    def _leads(self, state: State, goal: State) -> bool:
        return state is not LOST and self.problem.model.leads(state, goal)

    def _foresee(self, frame: _Frame) -> bool:
        """Collect what the next reads demand and only appends can lead to; False if they cannot from here.

        Without it every order of concurrent appends is tried until the read that shows the right one is due.
        """
        i, reads = self.next[self.head], 0
        while i != self.head and reads < FORESEEN_READS:
            if self.kinds[i] == READ:
                reads += 1
                if not self._other_way(i):
                    if not self._leads(frame.state, self.needs[i]):
                        return False
                    frame.goals.append(self.needs[i])
            i = self.next[i]
        return True

    def _other_way(self, read: int) -> bool:
        """Is an operation left that may come before this read and sets the state to something that leads to it?"""
        leads, goal, before = self.problem.model.leads, self.needs[read], self.completed[read]
        i = self.next[self.head]
        while self.invoked[i] < before:
            action = self.problem.actions[i]
            if self.kinds[i] in (BLIND, EXACT) and leads(action.gives, goal):
                return True
            i = self.next[i]
        ways = self.ways.get(read)
        if ways is None:
            ways = self.ways[read] = [
                unknown
                for unknown in self.problem.unknowns
                if unknown.action.kind != FREE and leads(unknown.action.gives, goal)
            ]
        return any(unknown.available(before) for unknown in ways)

    def _promising(self, state: State, goals: list[State]) -> bool:
        return not goals or all(self._leads(state, goal) for goal in goals)

    def _scan(self, frame: _Frame) -> None:
        """Find what may come next, and place at once what changes nothing and fits."""
        state = frame.state
        kinds, needs, after = self.kinds, self.needs, self.next
        invoked, completed = self.invoked, self.completed
        limit = NEVER
        candidates = frame.candidates
        i = after[self.head]
        while invoked[i] < limit:
            kind = kinds[i]
            if kind <= LOOK and (needs[i] == state if kind == READ else self.problem.actions[i].apply(state)[0]):
                self._take(frame, i)
                frame.path = (self.problem.operations[i], frame.path)
            else:
                candidates.append(i)
                if completed[i] < limit:
                    limit = completed[i]
            i = after[i]
        frame.limit = limit
        self._slide(frame)

    def _known(self, frame: _Frame) -> bool:
        """Was a state like this one, with no more unknown operations used up, searched already?"""
        key = (frame.base, frame.window, frame.state)
        used = frame.used
        sets = self.seen.get(key)
        if sets is None:
            self.seen[key] = [used]
            return False
        for fewer in sets:
            if fewer & used == fewer:
                return True
        sets[:] = [other for other in sets if used & other != used]
        sets.append(used)
        return False

    def _helpers(self, frame: _Frame) -> list[tuple[int | Unknowns, State]]:
        """Unknown operations that may let a certain one follow that cannot otherwise, or differently."""
        if not self.problem.unknowns:
            return []
        kinds, state, limit = self.kinds, frame.state, frame.limit
        wanting = [i for i in frame.candidates if kinds[i] != BLIND]
        if not wanting:
            return []
        free = [unknown for unknown in self.problem.free if unknown.available(limit)]
        if free or any(kinds[i] in (LOOK, FREE) for i in wanting):
            return self._all_helpers(frame)
        moves: list[tuple[int | Unknowns, State]] = []
        goals = {self.needs[i]: None for i in wanting if self.needs[i] != state}
        queue = list(goals)
        for goal in queue:
            for unknown in self.problem.givers.get(goal, ()):
                if not unknown.available(limit):
                    continue
                needs = unknown.action.needs
                if needs is ANY or needs == state:
                    moves.append((unknown, goal))
                elif needs not in goals:
                    goals[needs] = None
                    queue.append(needs)
        moves.reverse()
        return moves

    def _all_helpers(self, frame: _Frame) -> list[tuple[int | Unknowns, State]]:
        moves: list[tuple[int | Unknowns, State]] = []
        for unknown in self.problem.unknowns:
            if unknown.available(frame.limit):
                possible, after = unknown.action.apply(frame.state)
                after = self._settled(after, frame.limit)
                if possible and after not in (frame.state, LOST) and self._promising(after, frame.goals):
                    moves.append((unknown, after))
        return moves
