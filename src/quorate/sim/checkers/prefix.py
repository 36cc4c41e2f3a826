"""The first completion that no order can meet, found by cutting the history short.

A search knows outputs before they were given, and with foresight it condemns a state for what is read later. So when
it fails it may have turned back before the completion that is to blame. Linearizability is closed under prefixes: of
the histories cut after each completion the first ones are linearizable and the others are not. So gallop, then
bisect, from where the search ended.
"""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from quorate.sim.checkers.models import UNKNOWN, Model, State
from quorate.sim.checkers.problem import Problem
from quorate.sim.checkers.search import Found, Search
from quorate.sim.history.events import Operation
from quorate.sim.history.values import freeze

STATES_MAX: Final = 500_000


class _Undecided(Exception):
    """A cut history took more states than the budget."""


def pin_down(model: Model, operations: list[Operation], found: Found, states_max: int = STATES_MAX) -> Found:
    """The same finding (not linearizable) with the operation that is to blame; unchanged if that takes too long."""
    left = states_max
    by_end = {operation.completed: operation for operation in operations if operation.completed is not None}
    ends = sorted(by_end)
    if found.stuck is None or found.stuck.completed is None:
        return found

    def search(end: int) -> Found:
        nonlocal left
        result = Search(Problem(model, cut_after(operations, end)), left).run()
        left -= result.explored
        if result.linearizable is None:
            raise _Undecided
        return result

    try:
        first = _first_false(
            ends.index(found.stuck.completed), len(ends) - 1, lambda at: search(ends[at]).linearizable is True
        )
        before = search(ends[first] - 1)
    except _Undecided:
        return found
    state = _state_after(model, before.order)
    return replace(found, stuck=by_end[ends[first]], order=before.order, states=(state,))


def cut_after(operations: list[Operation], end: int) -> list[Operation]:
    """The history up to a moment: what is still open then has an unknown outcome."""
    return [
        operation
        if operation.completed is None or operation.completed <= end
        else replace(operation, completed=None, output=None)
        for operation in operations
        if operation.invoked <= end
    ]


def _first_false(low: int, high: int, test: Callable[[int], bool]) -> int:
    """The first index for which a test that turns from True to False once is False; it is False at `high`."""
    probe, step = low, 1
    while probe < high and test(probe):
        low = probe + 1
        probe, step = min(high, low + step), step * 2
    high = probe
    while low < high:
        middle = (low + high) // 2
        if test(middle):
            low = middle + 1
        else:
            high = middle
    return low


def _state_after(model: Model, order: list[Operation]) -> State:
    state = model.initial
    for operation in order:
        output = freeze(operation.output) if operation.certain else UNKNOWN
        state = model.step(state, operation.f, freeze(operation.value), output)[1]
    return state
