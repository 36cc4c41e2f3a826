"""Events and operations: the words of a history.

A client *invokes* an operation; later it learns that the operation took place (`ok`), that it certainly did not
(`fail`), or nothing (`info`, or no completion at all). The words and their meaning are Jepsen's. `pair` turns
the events into Operations: an `ok` one has an interval, a `fail` one is dropped (it never happened), one whose
outcome is unknown has no end: it may take effect at any time after its invocation, or never.

The order of events is their order in the history. `index` and `time` are carried for people to read; they decide
nothing, because clocks of different clients are not to be compared.
"""

from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec

from quorate.sim.history.values import Keyword, Symbol, freeze

EventType = Literal["invoke", "ok", "fail", "info"]
EVENT_TYPES: Final[tuple[EventType, ...]] = ("invoke", "ok", "fail", "info")
ProcessName = int | str | Keyword | Symbol
NEMESIS: Final = "nemesis"
SHOWN_CHARS_MAX: Final = 60


class HistoryError(ValueError):
    """A history that cannot be read or makes no sense; the text says where, what was wrong and what to do."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a history.

    `process` is a client, whatever its name, or "nemesis", which does the faults and which checkers ignore. `value`
    is the argument in an `invoke` and the result in an `ok`. `time` is in nanoseconds, as Jepsen's. `line` is the
    line of the file it came from, 0 in memory.
    """

    type: EventType
    process: ProcessName
    f: str
    value: Any = None
    key: Any = None
    index: int | None = None
    time: int | None = None
    line: int = 0

    @property
    def by_client(self) -> bool:
        """Is it of a client, and not of the nemesis?"""
        return self.process != NEMESIS


class Operation(msgspec.Struct, frozen=True):
    """One operation of one client.

    `invoked` and `completed` are positions in the history (0 is the first event). `completed` is None when the
    outcome is unknown; then `output` says nothing.
    """

    process: ProcessName
    f: str
    value: Any = None
    output: Any = None
    key: Any = None
    invoked: int = 0
    completed: int | None = None
    index: int | None = None
    line: int = 0

    @property
    def certain(self) -> bool:
        """Did the client learn that it took place?"""
        return self.completed is not None


def pair(events: Iterable[Event]) -> list[Operation]:
    """Pair invocations with completions, in the order of invocation; failed operations and non-clients are left out.

    Raises HistoryError when a completion has no invocation, or a process invokes twice without completing.
    """
    open_: dict[ProcessName, tuple[int, Event]] = {}
    found: dict[int, Operation] = {}
    for position, event in enumerate(events):
        process = event.process
        if not event.by_client:
            continue
        if event.type == "invoke":
            if process in open_:
                before = open_[process]
                raise HistoryError(
                    f"{where(event, position)}: process {named(process)} invokes {event.f} while its {before[1].f} "
                    f"({where(before[1], before[0])}) is still open; a process has one operation at a time: "
                    "complete it with ok, fail or info first, or give the new client a new process number"
                )
            open_[process] = (position, event)
            continue
        if process not in open_:
            raise HistoryError(
                f"{where(event, position)}: {event.type} of {event.f} by process {named(process)}, "
                "which has nothing open; is its invoke missing, or out of order?"
            )
        start, invoke = open_.pop(process)
        if event.type != "fail":
            found[start] = _operation(start, invoke, position, event)
    for start, invoke in open_.values():
        found[start] = _operation(start, invoke, None, None)
    return [found[start] for start in sorted(found)]


def _operation(start: int, invoke: Event, end: int | None, completion: Event | None) -> Operation:
    if completion is not None and completion.f != invoke.f:
        raise HistoryError(
            f"{where(completion, end or 0)}: process {named(invoke.process)} completes {completion.f} but its "
            f"open operation is {invoke.f} ({where(invoke, start)})"
        )
    key = None if completion is None or completion.key is invoke.key else completion.key
    if completion is not None and key is not None and freeze(key) != freeze(invoke.key):
        raise HistoryError(
            f"{where(completion, end or 0)}: process {named(invoke.process)} completes {completion.f} of key "
            f"{brief(key)} but invoked it with key {brief(invoke.key)} ({where(invoke, start)})"
        )
    known = completion is not None and completion.type == "ok"
    return Operation(
        process=invoke.process,
        f=invoke.f,
        value=invoke.value,
        output=completion.value if known and completion is not None else None,
        key=invoke.key,
        invoked=start,
        completed=end if known else None,
        index=invoke.index,
        line=invoke.line,
    )


def where(event: Event, position: int) -> str:
    """Name the place of an event: its line in a file, or its position in memory."""
    return f"line {event.line}" if event.line else f"event {position}"


def named(process: ProcessName) -> int | str:
    """A process as people write it."""
    if isinstance(process, Keyword):
        return f":{process.name}"
    return process.name if isinstance(process, Symbol) else process


def brief(value: Any) -> str:
    """A value of a history in a message: not longer than people read."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 3] + "..."


def split_independent(events: Iterable[Event]) -> list[Event]:
    """Take the `[key value]` values that jepsen.independent writes apart into key and value.

    Raises HistoryError for a client's invoke or ok whose value is no such pair. The nemesis' events pass unchanged.
    """
    split = []
    for position, event in enumerate(events):
        value = event.value
        if not event.by_client or (event.type in ("fail", "info") and value is None):
            split.append(event)
            continue
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise HistoryError(
                f"{where(event, position)}: the value of an independent history is [key value], got {brief(value)}; "
                "is this a history of one key?"
            )
        split.append(msgspec.structs.replace(event, key=value[0], value=value[1]))
    return split
