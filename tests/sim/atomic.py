"""Histories to check: recorded from an atomic object, or scribbled at random; and a checker that tries everything."""

from collections.abc import Callable
from itertools import permutations
from random import Random
from typing import Any

from quorate.sim.checkers.models import UNKNOWN, Model
from quorate.sim.history import Event, Operation
from quorate.sim.history.values import freeze, thaw

Request = Callable[[Random, int], tuple[str, Any]]


def few_values(rng: Random, serial: int) -> tuple[str, Any]:
    """read, write and cas of five values, as Jepsen's own tests ask."""
    return [("read", None), ("write", rng.randrange(5)), ("cas", [rng.randrange(5), rng.randrange(5)])][
        rng.randrange(3)
    ]


def unique_values(rng: Random, serial: int) -> tuple[str, Any]:
    """read and write; no value is written twice."""
    return ("read", None) if rng.random() < 0.5 else ("write", serial)


def store(rng: Random, serial: int) -> tuple[str, Any]:
    """get, put, append, delete and cas of a key."""
    return [
        ("get", None),
        ("get", None),
        ("put", f"{serial},"),
        ("append", f"{serial},"),
        ("delete", None),
        ("cas", [f"{serial - 1},", f"{serial},"]),
    ][rng.randrange(6)]


def appends(rng: Random, serial: int) -> tuple[str, Any]:
    """get and append; the history that shows most."""
    return ("get", None) if rng.random() < 0.5 else ("append", serial)


def lock(rng: Random, serial: int) -> tuple[str, Any]:
    """acquire and release."""
    return rng.choice(["acquire", "release"]), None


def transactions(rng: Random, serial: int) -> tuple[str, Any]:
    """Up to three steps over three registers."""
    keys = rng.sample("xyz", rng.randrange(1, 4))
    return "txn", [["r", key, None] if rng.random() < 0.5 else ["w", key, rng.randrange(3)] for key in keys]


def choosing(*shapes: str) -> Request:
    """One of these at random: ``read``, ``write 3`` (a number below 3), ``put ab`` (a or b), ``cas 3`` (a pair)."""

    def request(rng: Random, serial: int) -> tuple[str, Any]:
        f, _, domain = rng.choice(shapes).partition(" ")
        if not domain:
            return f, None
        values: list[Any] = list(range(int(domain))) if domain.isdigit() else list(domain)
        return f, [rng.choice(values), rng.choice(values)] if f == "cas" else rng.choice(values)

    return request


class _Client:
    def __init__(self, process: int) -> None:
        self.process = process
        self.request: tuple[str, Any, Any] | None = None
        self.answer: tuple[bool, Any] | None = None


def record(
    model: Model, request: Request, rng: Random, *, operations: int, clients: int, unknown: float = 0.0, keys: int = 1
) -> list[Event]:
    """Run an atomic object under concurrent clients: each operation takes effect at one moment of its interval.

    A share `unknown` of the operations is never answered, half of them without having taken effect; some of those
    take effect long after their client is gone, which becomes a new process, as Jepsen's do.
    """
    states: dict[Any, Any] = {}
    events: list[Event] = []
    everyone = [_Client(process) for process in range(clients)]
    late: list[tuple[str, Any, Any]] = []
    begun, next_process = 0, clients
    while begun < operations or any(client.request for client in everyone):
        client = rng.choice(everyone)
        if late and rng.random() < 0.1:
            _apply(model, states, *late.pop(rng.randrange(len(late))))
        elif client.request is None:
            if begun < operations:
                f, value = request(rng, begun)
                begun += 1
                key = f"k{rng.randrange(keys)}"
                client.request = (f, value, key)
                events.append(Event("invoke", client.process, f, value, key=key))
        elif client.answer is not None:
            f, _, key = client.request
            done, output = client.answer
            events.append(Event("ok" if done else "fail", client.process, f, output if done else None, key=key))
            client.request = client.answer = None
        elif rng.random() < unknown:
            if rng.random() < 0.5:
                late.append(client.request)
            if rng.random() < 0.5:
                events.append(Event("info", client.process, client.request[0]))
            client.request, client.process = None, next_process
            next_process += 1
        else:
            client.answer = _apply(model, states, *client.request)
    return events


def _apply(model: Model, states: dict[Any, Any], f: str, value: Any, key: Any) -> tuple[bool, Any]:
    """Do it now: (did it take place?, its output)."""
    if not model.by_key:
        key = None
    state = states.get(key, model.initial)
    if f in ("read", "get"):
        return True, thaw(state)
    if f == "txn":
        held = thaw(state)
        output = [[kind, name, held.get(name) if kind == "r" else wanted] for kind, name, wanted in value]
        states[key] = model.step(state, f, freeze(value), UNKNOWN)[1]
        return True, output
    done, after = model.step(state, f, freeze(value), UNKNOWN)
    if done:
        states[key] = after
    return done, value


def scribble(
    request: Request, outputs: list[Any], rng: Random, *, operations: int, unknown: float = 0.2
) -> list[Operation]:
    """A history whose intervals and outputs come from nowhere: mostly not linearizable, sometimes only just."""
    moments = list(range(2 * operations))
    for _ in range(operations):  # swap neighbours: short intervals that overlap a little
        at = rng.randrange(2 * operations - 1)
        moments[at], moments[at + 1] = moments[at + 1], moments[at]
    ends = [sorted((moments.index(2 * process), moments.index(2 * process + 1))) for process in range(operations)]
    if rng.random() < 0.3:
        ends[0][1] = 2 * operations  # one that takes for ever
    found = [
        _scribbled(outputs, rng, unknown, begin, end, process, *request(rng, rng.randrange(3)))
        for process, (begin, end) in enumerate(ends)
    ]
    return sorted(found, key=lambda operation: operation.invoked)


def _scribbled(
    outputs: list[Any], rng: Random, unknown: float, begin: int, end: int, process: int, f: str, value: Any
) -> Operation:
    output = rng.choice(outputs) if f in ("read", "get") else value
    if f == "txn":
        output = [[kind, key, rng.choice([None, 0, 1, 2]) if kind == "r" else wanted] for kind, key, wanted in value]
    completed = None if rng.random() < unknown else end
    return Operation(process, f, value, None if completed is None else output, "k", begin, completed)


def legal(order: list[Operation], model: Model) -> bool:
    """Does the order respect real time and the model?"""
    state = model.initial
    latest = -1
    for operation in order:
        if operation.completed is not None and operation.completed < latest:
            return False
        latest = max(latest, operation.invoked)
        output = freeze(operation.output) if operation.certain else UNKNOWN
        possible, state = model.step(state, operation.f, freeze(operation.value), output)
        if not possible:
            return False
    return True


def brute_force(operations: list[Operation], model: Model) -> bool:
    """Try every order of the certain operations with every choice of the unknown ones."""
    certain = [operation for operation in operations if operation.certain]
    unknown = [operation for operation in operations if not operation.certain]
    for mask in range(1 << len(unknown)):
        chosen = [operation for i, operation in enumerate(unknown) if mask >> i & 1]
        if any(legal(list(order), model) for order in permutations(certain + chosen)):
            return True
    return False
