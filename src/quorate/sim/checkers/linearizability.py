"""Is a history linearizable? (Herlihy and Wing, 1990)

    verdict = check_linearizable(events, CasRegister())

Operations are partitioned by key where the model allows it: a history is linearizable if and only if its part for
each object is (locality; Horn and Kroening call the use of it P-compositionality). Each part is searched on its own
(see `search`). The search is exact: True and False are proofs, and None says honestly that the budget was spent.

Nothing here reads a clock: a caller that wants a limit of time passes `watch` and decides.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from quorate.sim.checkers.models import Model, State
from quorate.sim.checkers.prefix import pin_down
from quorate.sim.checkers.problem import Problem
from quorate.sim.checkers.search import Found, Search
from quorate.sim.history.events import Event, Operation, pair
from quorate.sim.history.values import freeze, thaw

STATES_MAX: Final = 2_000_000
WATCH_KEYS: Final = 256


class CheckProgress(msgspec.Struct, frozen=True):
    """How far a check is: keys decided of all keys, and states explored so far."""

    keys_done: int
    keys: int
    explored: int


class Verdict(msgspec.Struct, frozen=True):
    """What a check found.

    linearizable  True, False, or None if the budget was spent before either was proved
    explored      states of the search, over all keys
    key           the key the rest is about; None if the history has no keys, or many and is linearizable
    stuck         the operation that cannot be placed: the history up to just before its completion is linearizable,
                  with its completion no more. If undecided, the furthest that the search came to
    states        states of the object in which the search tried to place it (some of them, if there are many)
    order         a linearization; if not linearizable, the longest prefix of one that was found
    concurrent    the operations whose intervals overlap that of `stuck`
    """

    linearizable: bool | None
    model: str
    operations: int
    unknown: int
    keys: int
    explored: int
    key: Any = None
    stuck: Operation | None = None
    states: tuple[Any, ...] = ()
    order: tuple[Operation, ...] = ()
    concurrent: tuple[Operation, ...] = ()


def check_linearizable(
    history: Iterable[Event] | Iterable[Operation],
    model: Model,
    *,
    states_max: int = STATES_MAX,
    watch: Callable[[CheckProgress], bool] | None = None,
) -> Verdict:
    """Check a history against a sequential model.

    At most `states_max` states are explored. `watch` is called now and then; when it returns False the check gives
    up. Raises HistoryError if the history is malformed or has operations that the model does not know.
    """
    operations = operations_of(history)
    for operation in operations:
        model.validate(operation)
    parts = _partition(operations, model)
    explored = 0
    undecided: tuple[Any, list[Operation], Found] | None = None
    gave_up = False
    order: tuple[Operation, ...] = ()
    for done, (key, part) in enumerate(parts):

        def tell(states: int, done: int = done, before: int = explored) -> bool:
            nonlocal gave_up
            gave_up = watch is not None and not watch(CheckProgress(done, len(parts), before + states))
            return not gave_up

        problem = Problem(model, part)
        if done % WATCH_KEYS == 0 and not tell(0):
            found = Found(None, 0, [])
        else:
            found = Search(problem, states_max - explored, tell if watch else None).run()
        explored += found.explored
        order = tuple(found.order)
        if found.linearizable is False:
            if problem.telling:
                found = pin_down(model, part, found)
            return _verdict(operations, model, len(parts), explored, (key, part, found))
        if found.linearizable is None:
            undecided = undecided or (key, part, found)
            if gave_up or explored >= states_max:
                break
    return _verdict(operations, model, len(parts), explored, undecided, order)


def operations_of(history: Iterable[Event] | Iterable[Operation]) -> list[Operation]:
    """The operations of a history in the order of invocation, given either its events or its operations."""
    items = list(history)
    operations = [item for item in items if isinstance(item, Operation)]
    if not operations:
        return pair(item for item in items if isinstance(item, Event))
    if len(operations) < len(items):
        raise TypeError("a history is made of Events or of Operations, not both")
    return sorted(operations, key=lambda operation: operation.invoked)


def _partition(operations: list[Operation], model: Model) -> list[tuple[Any, list[Operation]]]:
    if not model.by_key:
        return [(None, operations)]
    parts: dict[State, tuple[Any, list[Operation]]] = {}
    for operation in operations:
        parts.setdefault(freeze(operation.key), (operation.key, []))[1].append(operation)
    return list(parts.values())


def _verdict(
    operations: list[Operation],
    model: Model,
    keys: int,
    explored: int,
    trouble: tuple[Any, list[Operation], Found] | None,
    order: tuple[Operation, ...] = (),
) -> Verdict:
    unknown = sum(not operation.certain for operation in operations)
    if trouble is None:
        only = operations[0].key if keys == 1 and model.by_key else None
        order = order if keys == 1 else ()
        return Verdict(True, model.name, len(operations), unknown, keys, explored, key=only, order=order)
    key, part, found = trouble
    stuck = found.stuck
    return Verdict(
        linearizable=found.linearizable,
        model=model.name,
        operations=len(operations),
        unknown=unknown,
        keys=keys,
        explored=explored,
        key=key,
        stuck=stuck,
        states=tuple(thaw(state) for state in found.states),
        order=tuple(found.order),
        concurrent=tuple(other for other in part if stuck is not None and _overlap(stuck, other)),
    )


def _overlap(stuck: Operation, other: Operation) -> bool:
    assert stuck.completed is not None
    if other is stuck or other.invoked > stuck.completed:
        return False
    return other.completed is None or other.completed > stuck.invoked
