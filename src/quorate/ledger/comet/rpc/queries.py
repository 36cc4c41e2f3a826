"""The language of queries: ``tm.event = 'Tx' AND transfer.amount > 5``, over the attributes of events.

A query is conditions joined by AND. Each names an attribute as TYPE.KEY and compares it: ``=`` with a number, a string
in single quotes, ``DATE 2026-11-30`` or ``TIME 2026-11-30T07:04:02Z``; ``<``, ``<=``, ``>``, ``>=`` with a number, a
date or a time; CONTAINS with a string; EXISTS with nothing. A query holds for a set of events if each of its conditions
holds for some value.

Values are text. A number is taken from the beginning of the text, so that "8atom" is more than 7; a value that is not
of the condition's kind does not match. Numbers are compared exactly; CometBFT rounds fractions to 125 bits. A string
without an end is an error here, and ends the query there.

A query is hostile: its length is bounded, and so are the digits of what is compared.

Source: CometBFT 0.38, ``libs/pubsub/query/syntax/doc.go`` (the grammar), and its answers to the queries in the tests.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Final, NamedTuple, TypeAlias

from quorate.ledger.comet.times import NS_PER_S, Timestamp

QUERY_BYTES_MAX: Final = 512
"""maxQueryLength"""
NUMBER_CHARACTERS_MAX: Final = 512
"""Of a value. Ours: a longer one is not compared as a number."""
YEAR_MIN: Final = 1900
YEAR_MAX: Final = 2999


class Comparison(enum.Enum):
    """What a condition asks of a value."""

    EQUAL = "="
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="
    CONTAINS = "CONTAINS"
    EXISTS = "EXISTS"


class BoundKind(enum.Enum):
    """What a value is compared with, as errors name it."""

    STRING = "string"
    NUMBER = "number"
    TIME = "timestamp"
    DATE = "datestamp"


Comparable: TypeAlias = Fraction | Timestamp
_RANGES: Final = (Comparison.LESS, Comparison.AT_MOST, Comparison.MORE, Comparison.AT_LEAST)
_ORDERED: Final = (BoundKind.NUMBER, BoundKind.TIME, BoundKind.DATE)
ALLOWED: Final[Mapping[Comparison, tuple[BoundKind, ...]]] = {
    **dict.fromkeys(_RANGES, _ORDERED),
    Comparison.EQUAL: (*_ORDERED, BoundKind.STRING),
    Comparison.CONTAINS: (BoundKind.STRING,),
    Comparison.EXISTS: (),
}
"""With what a comparison can be made."""


class QueryCondition(NamedTuple):
    """One of a query's conditions. ``argument``: the text of the argument, without quotes and DATE or TIME."""

    tag: str
    comparison: Comparison
    kind: BoundKind | None
    argument: str

    @property
    def is_range(self) -> bool:
        """Whether it bounds a value from one side."""
        return self.comparison in _RANGES

    def text(self) -> str:
        """The one way to write it."""
        match self.kind:
            case None:
                return f"{self.tag} {self.comparison.value}"
            case BoundKind.STRING:
                shown = f"'{self.argument}'"
            case BoundKind.NUMBER:
                shown = self.argument
            case _:
                shown = f"{'TIME' if self.kind is BoundKind.TIME else 'DATE'} {self.argument}"
        return f"{self.tag} {self.comparison.value} {shown}"

    def holds(self, value: str) -> bool:
        """Whether a value is what the condition asks for."""
        match self.comparison:
            case Comparison.EXISTS:
                return True
            case Comparison.CONTAINS:
                return self.argument in value
        if self.kind is BoundKind.STRING:
            return value == self.argument
        assert self.kind is not None
        read = _READERS[self.kind]
        found, bound = read(value), _bound(self.kind, self.argument)
        return found is not None and compare(found, self.comparison, bound)


class EventQuery(NamedTuple):
    """A query: conditions of which all must hold."""

    conditions: tuple[QueryCondition, ...]

    def text(self) -> str:
        """The one way to write it, which tells whether two queries are the same."""
        return " AND ".join(condition.text() for condition in self.conditions)

    def matches(self, events: Mapping[str, Sequence[str]]) -> bool:
        """Whether it holds for these values by TYPE.KEY. A tag that is a TYPE alone finds an empty value."""
        return all(_holds_of_some(condition, events) for condition in self.conditions)


def parse_query(text: str) -> EventQuery:
    """The query that the text says. Raises ValueError, which tells where it goes wrong."""
    if len(text.encode(errors="replace")) > QUERY_BYTES_MAX:
        raise ValueError("maximum query length exceeded")
    scanner = _Scanner(text)
    conditions = [_condition(scanner)]
    while (token := scanner.next()) is not None:
        if token.name != _AND:
            raise ValueError(f"offset {token.at}: got {token.name}, want {_AND}")
        conditions.append(_condition(scanner))
    return EventQuery(tuple(conditions))


def compare(found: Comparable, comparison: Comparison, bound: Comparable) -> bool:
    """Whether ``found`` stands in this relation to ``bound``; both are numbers, or both times."""
    if isinstance(found, Fraction):
        assert isinstance(bound, Fraction)
        difference = (found > bound) - (found < bound)
    else:
        assert isinstance(bound, Timestamp)
        difference = (found > bound) - (found < bound)
    match comparison:
        case Comparison.EQUAL:
            return difference == 0
        case Comparison.LESS:
            return difference < 0
        case Comparison.AT_MOST:
            return difference <= 0
        case Comparison.MORE:
            return difference > 0
        case _:
            return difference >= 0


_WHOLE: Final = re.compile(r"[+-]?[0-9]+|[0-9]+\.[0-9]*", re.ASCII)
_LEADING: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_TIME: Final = re.compile(r"([0-9T:.-]{19,29})(?:Z|([+-])([0-9]{2}):([0-9]{2}))", re.ASCII)


def whole_number(text: str) -> Fraction | None:
    """The number that the whole text is; None if it is not one."""
    if len(text) > NUMBER_CHARACTERS_MAX or _WHOLE.fullmatch(text) is None:
        return None
    return Fraction(text.rstrip("."))


def leading_number(text: str) -> Fraction | None:
    """The number that the text begins with, without a sign."""
    found = _LEADING.match(text)
    return None if found is None else whole_number(found[0])


def date_of(text: str) -> Timestamp | None:
    """The first moment of a day, in UTC."""
    if _DATE.fullmatch(text) is None:
        return None
    try:
        return Timestamp.of_text(f"{text}T00:00:00Z")
    except ValueError:
        return None


def time_of(text: str) -> Timestamp | None:
    """A moment, as RFC 3339 has it, in any zone."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    local, sign, hours, minutes = found.groups()
    try:
        time = Timestamp.of_text(f"{local}Z")
        if sign is None:
            return time
        if int(hours) > 23 or int(minutes) > 59:
            return None
        ahead = (int(hours) * 3600 + int(minutes) * 60) * NS_PER_S
        return time.plus_ns(-ahead if sign == "+" else ahead)
    except ValueError:
        return None


_READERS: Final[Mapping[BoundKind, Callable[[str], Comparable | None]]] = {
    BoundKind.NUMBER: leading_number,
    BoundKind.TIME: time_of,
    BoundKind.DATE: date_of,
}


def _bound(kind: BoundKind, argument: str) -> Comparable:
    """What a value is compared with; parsing has made sure that it is one."""
    bound = whole_number(argument) if kind is BoundKind.NUMBER else _READERS[kind](argument)
    assert bound is not None
    return bound


def _holds_of_some(condition: QueryCondition, events: Mapping[str, Sequence[str]]) -> bool:
    if any(condition.holds(value) for value in events.get(condition.tag, ())):
        return True
    is_type = any(name.rpartition(".")[0] == condition.tag for name in events)
    return is_type and condition.holds("")


class _Token(NamedTuple):
    name: str
    text: str
    at: int
    """Bytes before it."""


_AND: Final = "AND operator"
_TAG: Final = "tag"
_WORDS: Final = {"AND": _AND, "EXISTS": "EXISTS operator", "CONTAINS": "CONTAINS operator"}
_OPERATORS: Final = {f"{comparison.value} operator": comparison for comparison in Comparison}
_SIGNS: Final = re.compile(r"<=|>=|<|>|=")
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]*)?", re.ASCII)
_NAME: Final = re.compile(r"[\w][\w.-]*")
"""Letters and digits of any alphabet."""
_MOMENTS: Final = {
    "TIME": (BoundKind.TIME, re.compile(r"[0-9T:+Z-]*", re.ASCII), time_of),
    "DATE": (BoundKind.DATE, re.compile(r"[0-9-]*", re.ASCII), date_of),
}


class _Scanner:
    """The tokens of a text, one by one."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def bytes_before(self) -> int:
        """What errors call the offset."""
        return len(self.text[: self.at].encode(errors="replace"))

    def next(self) -> _Token | None:
        """None at the end. Raises ValueError for what is no token."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        start = self.bytes_before()
        if self.at == len(self.text):
            return None
        if number := _NUMBER.match(self.text, self.at):
            return self._token(BoundKind.NUMBER.value, number[0], start, number.end())
        if name := _NAME.match(self.text, self.at):
            return self._word(name[0], start, name.end())
        if sign := _SIGNS.match(self.text, self.at):
            return self._token(f"{sign[0]} operator", sign[0], start, sign.end())
        if self.text[self.at] == "'":
            end = self.text.find("'", self.at + 1)
            if end < 0:
                raise ValueError(f"offset {start}: a string without an end")
            return self._token(BoundKind.STRING.value, self.text[self.at + 1 : end], start, end + 1)
        self.at += 1
        raise ValueError(f"offset {start}: invalid input {self.text[self.at - 1]} at offset {self.bytes_before()}")

    def _token(self, name: str, text: str, start: int, end: int) -> _Token:
        self.at = end
        return _Token(name, text, start)

    def _word(self, word: str, start: int, end: int) -> _Token:
        if word not in _MOMENTS or self.text[end : end + 1] != " ":
            return self._token(_WORDS.get(word, _TAG), word, start, end)
        kind, pattern, read = _MOMENTS[word]
        found = pattern.match(self.text, end + 1)
        assert found is not None
        if read(found[0]) is None:
            raise ValueError(f"offset {start}: invalid {word} value: {found[0]!r}")
        if not YEAR_MIN <= int(found[0][:4]) <= YEAR_MAX:
            raise ValueError(f"offset {start}: {kind.value} year {found[0][:4]} out of range")
        return self._token(kind.value, found[0], start, found.end())


def _condition(scanner: _Scanner) -> QueryCondition:
    tag = _required(scanner, _TAG)
    operator = _required(scanner, *_OPERATORS)
    comparison = _OPERATORS[operator.name]
    if comparison is Comparison.EXISTS:
        return QueryCondition(tag.text, comparison, None, "")
    argument = _required(scanner, *(kind.value for kind in ALLOWED[comparison]))
    return QueryCondition(tag.text, comparison, BoundKind(argument.name), argument.text)


def _required(scanner: _Scanner, *names: str) -> _Token:
    token = scanner.next()
    if token is None:
        raise ValueError(f"offset {scanner.bytes_before()}: EOF")
    if token.name not in names:
        wanted = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
        raise ValueError(f"offset {token.at}: got {token.name}, wanted {wanted}")
    return token
