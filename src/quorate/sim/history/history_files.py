"""Read and write histories: Jepsen's EDN (one map a line, or one vector of maps) and JSON lines.

The format is found from the first character that tells. A file is hostile until decoded: the length of a line, the
size of the file, the number of events and the depth of a value are bounded, and every error names file and line.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import msgspec

from quorate.sim.history import edn
from quorate.sim.history.events import (
    EVENT_TYPES,
    NEMESIS,
    Event,
    HistoryError,
    ProcessName,
    brief,
    split_independent,
)
from quorate.sim.history.values import Character, Exact, Keyword, Mapping, Real, Symbol, Tagged, Truth, thaw

Format = Literal["edn", "json"]
PROGRESS_EVENTS: Final = 4096
BLANK_LINES_MAX: Final = 100  # at the beginning of a file


class Limits(msgspec.Struct, frozen=True):
    """How much of a stranger's file to take."""

    events_max: int = 2_000_000
    line_size_bytes_max: int = 1 << 20
    file_size_bytes_max: int = 1 << 30


def read_history(
    path: Path,
    *,
    independent: bool = False,
    limits: Limits | None = None,
    watch: Callable[[int], None] | None = None,
) -> list[Event]:
    """All events of a file, in its order. `independent` takes values as `[key value]`.

    `watch` is called with the number of events every few thousand. Raises HistoryError, naming file and line.
    """
    limits = limits or Limits()
    events: list[Event] = []
    try:
        with path.open("rb") as file:
            for event in _events(file, limits):
                if len(events) >= limits.events_max:
                    raise HistoryError(
                        f"line {event.line}: more than {limits.events_max} events; check a shorter part of the history"
                    )
                events.append(event)
                if watch is not None and len(events) % PROGRESS_EVENTS == 0:
                    watch(len(events))
        if not events:
            raise HistoryError(_NO_EVENTS)
        return split_independent(events) if independent else events
    except (HistoryError, edn.EdnError) as error:
        raise HistoryError(f"{path}: {error}") from None
    except OSError as error:
        raise HistoryError(f"{path}: cannot be read: {error.strerror or error}") from None


def _events(file: BinaryIO, limits: Limits) -> Iterator[Event]:
    lines = _lines(file, limits)
    head: list[str] = []
    form: Format | None = None
    seen = ""
    for line in lines:
        head.append(line)
        seen = (seen + line).lstrip(" \t\r\n,\ufeff([")
        form = _detect(seen) if len(head) < BLANK_LINES_MAX else "edn"
        if form is not None:
            break
    head[:1] = [head[0].removeprefix("\ufeff")] if head else []
    everything = _chain(head, lines)
    if form is None:
        raise HistoryError(_NO_EVENTS)
    return _edn_events(everything) if form == "edn" else _json_events(everything)


def _chain(head: list[str], rest: Iterator[str]) -> Iterator[str]:
    yield from head
    yield from rest


def _detect(text: str) -> Format | None:
    """The format, from the first character that tells; None while there is nothing but space."""
    if not text:
        return None
    if text[0] != "{":
        return "edn"
    text = text[1:].lstrip()
    if not text:
        return None
    return "json" if text[0] == '"' else "edn"


def _lines(file: BinaryIO, limits: Limits) -> Iterator[str]:
    number = size_bytes = 0
    while raw := file.readline(limits.line_size_bytes_max + 1):
        number += 1
        size_bytes += len(raw)
        if len(raw) > limits.line_size_bytes_max:
            raise HistoryError(f"line {number}: longer than {limits.line_size_bytes_max} bytes; write one event a line")
        if size_bytes > limits.file_size_bytes_max:
            raise HistoryError(
                f"line {number}: the file is larger than {limits.file_size_bytes_max} bytes; check a part of it"
            )
        try:
            yield raw.decode()
        except UnicodeDecodeError as error:
            raise HistoryError(
                f"line {number}: not UTF-8 ({error.reason}); is this a history in EDN or JSON lines?"
            ) from None


def _json_events(lines: Iterable[str]) -> Iterator[Event]:
    decode = msgspec.json.Decoder().decode
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = _with_surrogates(line) if "\\u" in line else decode(line)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise HistoryError(
                f"line {number}: not one JSON object a line: {error}; write an array of events as JSON lines"
            ) from None
        if not isinstance(value, dict):
            raise HistoryError(f"line {number}: expected one object a line such as {_EXAMPLE_JSON}, got {brief(value)}")
        if _depth(value) > edn.DEPTH_MAX:
            raise HistoryError(f"line {number}: nested deeper than {edn.DEPTH_MAX} levels")
        yield _event(number, value)


def _edn_events(lines: Iterable[str]) -> Iterator[Event]:
    for number, value in edn.read_edn(lines):
        while isinstance(value, Tagged):
            value = value.value
        if not isinstance(value, dict):
            raise HistoryError(f"line {number}: expected a map such as {_EXAMPLE_EDN}, got {brief(value)}")
        yield _event(number, {key.name: item for key, item in value.items() if isinstance(key, Keyword)})


def _with_surrogates(line: str) -> Any:
    """JSON with half a surrogate pair, which its grammar allows and msgspec does not."""
    return json.loads(line, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


_NO_EVENTS: Final = "no events; expected Jepsen's EDN or JSON lines"
_EXAMPLE_JSON: Final = '{"type":"invoke","process":0,"f":"read"}'
_EXAMPLE_EDN: Final = "{:type :invoke, :process 0, :f :read}"


def _event(line: int, fields: dict[str, Any]) -> Event:
    """An Event of what a file says.

    What decides is checked: type and process, and f of a client. What is there for people to read (index, time, what
    the nemesis does) is dropped where its type is wrong. Other fields than an Event's are left out.
    """
    for name in ("type", "process"):
        if fields.get(name) is None:
            raise _absent(line, name)
    kind = _name(line, "type", fields["type"])
    if kind not in EVENT_TYPES:
        raise HistoryError(f"line {line}: type is {brief(kind)}; expected one of {', '.join(EVENT_TYPES)}")
    process = _process(line, fields["process"])
    f = fields.get("f")
    if process == NEMESIS:
        f = _name_of(f) or ""
    elif f is None:
        raise _absent(line, "f")
    return Event(
        type=kind,
        process=process,
        f=_name(line, "f", f),
        value=fields.get("value"),
        key=fields.get("key"),
        index=_number(fields.get("index")),
        time=_number(fields.get("time")),
        line=line,
    )


def _absent(line: int, name: str) -> HistoryError:
    return HistoryError(f"line {line}: an event without {name}; expected for example {_EXAMPLE_JSON}")


def _process(line: int, value: Any) -> ProcessName:
    """The process; a keyword is not the string of the same letters, but for the nemesis."""
    if _name_of(value) == NEMESIS:
        return NEMESIS
    if isinstance(value, (int, str, Keyword, Symbol)) and not isinstance(value, bool):
        return value
    raise HistoryError(f"line {line}: process is {brief(value)}; expected a number or a name")


def _name_of(value: Any) -> str | None:
    if isinstance(value, (Keyword, Symbol)):
        return value.name
    return value if isinstance(value, str) else None


def _name(line: int, field: str, value: Any) -> str:
    name = _name_of(value)
    if name is None:
        raise HistoryError(f"line {line}: {field} is {brief(value)}; expected a name")
    return name


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _depth(value: Any) -> int:
    """How deep lists and objects nest; walks level by level, so it needs no stack of its own."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [item for parent in level for item in (parent.values() if isinstance(parent, dict) else parent)]
    return depth


def write_history(path: Path, events: Iterable[Event], form: Format = "json") -> None:
    """Write one event a line, as JSON lines or as Jepsen's EDN."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for event in events:
            file.write(format_event(event, form) + "\n")


def format_event(event: Event, form: Format = "json") -> str:
    """One event as one line. In JSON a Keyword becomes the string ":name": JSON has no other word for it."""
    fields: dict[str, Any] = {"type": event.type, "process": event.process, "f": event.f}
    if event.key is not None:
        fields["key"] = event.key
    fields["value"] = event.value
    if event.time is not None:
        fields["time"] = event.time
    if event.index is not None:
        fields["index"] = event.index
    if form == "json":
        return _json(_plain(fields))
    fields["type"], fields["f"] = Keyword(event.type), Keyword(event.f)
    if event.process == NEMESIS:
        fields["process"] = Keyword(NEMESIS)
    return edn.write({Keyword(name): value for name, value in fields.items()})


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (UnicodeEncodeError, OverflowError):  # half a surrogate pair, or more than 64 bits
        return json.dumps(value, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """A value in JSON's types."""
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(item) for item in value), key=repr)
    if isinstance(value, Keyword):
        return f":{value.name}"
    if isinstance(value, Symbol):
        return value.name
    if isinstance(value, Character):
        return value.text
    if isinstance(value, Tagged):
        return {f"#{value.tag}": _plain(value.value)}
    if isinstance(value, (Fraction, Decimal)):
        return edn.write(value)
    if isinstance(value, (Truth, Real, Exact, Mapping)):
        return _plain(thaw(value))
    return value
