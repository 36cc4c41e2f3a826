"""A verdict for people (text with a timeline) and for programs (plain values for JSON)."""

from collections.abc import Iterable
from math import isfinite
from typing import Any, Final

from quorate.sim.checkers.linearizability import Verdict
from quorate.sim.history import edn
from quorate.sim.history.events import Operation, named
from quorate.sim.history.values import freeze

LABEL_CHARS_MAX: Final = 24
SHOWN_MAX: Final = 12
JSON_BITS_MAX: Final = 63
UNKNOWN_SHOWN_MAX: Final = 4
BEFORE_SHOWN: Final = 3
WORDS: Final = {True: "linearizable", False: "not linearizable", None: "undecided"}


def describe_history(operation: Operation) -> str:
    """An operation in a few words: what was asked, and what came back if that says more."""
    words = operation.f if operation.value is None else f"{operation.f} {_show(operation.value)}"
    if not operation.certain:
        return f"{words} -> ?"
    if operation.value is None:
        reads = operation.output is not None or operation.f in ("read", "get")
        return f"{words} -> {_show(operation.output)}" if reads else words
    told = operation.output is not None and freeze(operation.output) != freeze(operation.value)
    return f"{words} -> {_show(operation.output)}" if told else words


def _show(value: Any) -> str:
    try:
        return edn.write(value)
    except TypeError:
        return repr(value)


def summary(verdict: Verdict) -> str:
    """One line."""
    counts = f"{verdict.operations} operations, {verdict.unknown} of unknown outcome"
    keys = f", {verdict.keys} keys" if verdict.keys > 1 else ""
    return f"{WORDS[verdict.linearizable]}: {verdict.model}, {counts}{keys}, {verdict.explored} states explored"


def text(verdict: Verdict) -> str:
    """The verdict in words; where it gets stuck, with the timeline around it."""
    lines = [summary(verdict)]
    stuck = verdict.stuck
    if stuck is not None:
        where = f" of key {_show(verdict.key)}" if verdict.key is not None else ""
        cannot = "cannot be placed" if verdict.linearizable is False else "is as far as the search came"
        lines += ["", f"process {named(stuck.process)}: {describe_history(stuck)}{where} {cannot}{_lines(stuck)}"]
        lines.append(f"  tried in state: {' or '.join(_show(state) for state in verdict.states)}")
        lines.append(f"  operations placed before it: {len(verdict.order)}")
        if verdict.linearizable is False:
            lines.append("  without this completion the history up to here is linearizable; with it no order is legal")
        lines += ["", *timeline(stuck, verdict.concurrent, verdict.order)]
    return "\n".join(lines)


def _lines(operation: Operation) -> str:
    return f" (invoked on line {operation.line})" if operation.line else f" (invoked at event {operation.invoked})"


def neighbourhood(
    stuck: Operation, concurrent: Iterable[Operation], order: Iterable[Operation]
) -> tuple[list[Operation], int]:
    """The operations worth showing around the stuck one, in the order of invocation, and how many are left out."""
    certain = [operation for operation in concurrent if operation.certain]
    unknown = [operation for operation in concurrent if not operation.certain]
    placed = [operation for operation in order if operation.certain and operation not in certain]
    placed = [operation for operation in placed if operation is not stuck][-BEFORE_SHOWN:]
    shown = [stuck, *certain[-SHOWN_MAX:], *unknown[-UNKNOWN_SHOWN_MAX:], *placed]
    left_out = max(0, len(certain) - SHOWN_MAX) + max(0, len(unknown) - UNKNOWN_SHOWN_MAX)
    return sorted(shown, key=lambda operation: operation.invoked), left_out


def timeline(stuck: Operation, concurrent: Iterable[Operation], order: Iterable[Operation] = ()) -> list[str]:
    """Lines of a drawing in ASCII: a row an operation, time to the right, only its order drawn to scale.

    ``|--- write 1 ---|`` is an operation with its interval; one of unknown outcome has no end.
    """
    shown, left_out = neighbourhood(stuck, concurrent, order)
    columns = _columns(shown)
    end = max(columns.values()) + 4
    names = [f"process {named(operation.process)}" for operation in shown]
    width = max(map(len, names))
    rows = []
    for name, operation in zip(names, shown, strict=True):
        begin = columns[operation.invoked]
        if operation.completed is None:
            body = f"|- {_label(operation)} ".ljust(end - begin - 3, "-") + "..."
        else:
            body = "|" + f" {_label(operation)} ".center(columns[operation.completed] - begin - 1, "-") + "|"
        mark = "   <-- stuck" if operation is stuck else ""
        rows.append(f"{name.ljust(width)}  {' ' * begin}{body}{mark}")
    if left_out:
        rows.append(f"({left_out} more concurrent operations are not shown)")
    return rows


def _label(operation: Operation) -> str:
    words = describe_history(operation)
    return words if len(words) <= LABEL_CHARS_MAX else words[: LABEL_CHARS_MAX - 3] + "..."


def _columns(shown: list[Operation]) -> dict[int, int]:
    """A column for each moment shown, so far apart that each label fits between its ends."""
    begins = {operation.completed: operation for operation in shown if operation.completed is not None}
    moments = sorted({operation.invoked for operation in shown} | set(begins))
    columns: dict[int, int] = {}
    column = 0
    for moment in moments:
        if moment in begins:
            operation = begins[moment]
            column = max(column, columns[operation.invoked] + len(_label(operation)) + 5)
        columns[moment] = column
        column += 2
    last = moments[-1]
    for operation in shown:
        if operation.completed is None:
            columns[last] = max(columns[last], columns[operation.invoked] + len(_label(operation)) + 4)
    return columns


def as_plain(verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain values, ready for JSON."""
    stuck = verdict.stuck
    return {
        "linearizable": verdict.linearizable,
        "model": verdict.model,
        "operations": verdict.operations,
        "unknown": verdict.unknown,
        "keys": verdict.keys,
        "explored": verdict.explored,
        "key": _plain(verdict.key),
        "stuck": None if stuck is None else operation_as_plain(stuck),
        "states": [_plain(state) for state in verdict.states],
        "concurrent": [operation_as_plain(operation) for operation in verdict.concurrent],
        "order": [operation.invoked for operation in verdict.order],
    }


def operation_as_plain(operation: Operation) -> dict[str, Any]:
    """An operation as plain values; `invoked` and `completed` are positions in the history."""
    return {
        "process": _plain(named(operation.process)),
        "f": _plain(operation.f),
        "key": _plain(operation.key),
        "value": _plain(operation.value),
        "output": _plain(operation.output),
        "invoked": operation.invoked,
        "completed": operation.completed,
        "line": operation.line or None,
    }


def _plain(value: Any) -> Any:
    """Numbers, strings and booleans as they are; whatever JSON has no word for as EDN text."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair is not Unicode
    if isinstance(value, int) and value.bit_length() > JSON_BITS_MAX:
        return str(value)
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return _plain(_show(value))
