"""Extensible Data Notation, as far as histories need it: a streaming reader and a writer.

The reader takes lines and yields top-level values with the line they began on. A file that is one vector or list
(possibly tagged) is taken as the sequence of its elements, so a history of millions of events is never held
twice. It keeps an explicit stack: a hostile file cannot exhaust Python's, and depth is bounded.

nil None; true/false bool; 12, 12N int; 1.5, 1.5M, ##Inf float; "s" and \\c str; :k Keyword; symbol Symbol;
[..] list; (..) tuple; {..} dict; #{..} frozenset; #tag v Tagged. What is a key of a map or a member of a set becomes
hashable (lists become tuples). See https://github.com/edn-format/edn.
"""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

DEPTH_MAX: Final = 64
LINE_CHARS_MAX: Final = 1 << 20
DIGITS_MAX: Final = 1000  # Python's int() takes quadratic time
STRING_LINES_MAX: Final = 100  # each further line of a string is matched from its beginning again


class EdnError(ValueError):
    """Text that is no EDN. `line` is where."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"line {line}: {what}")
        self.line = line


class Keyword(msgspec.Struct, frozen=True, order=True):
    """`:name`, without the colon."""

    name: str


class Symbol(msgspec.Struct, frozen=True, order=True):
    """A bare word other than nil, true and false."""

    name: str


class Tagged(msgspec.Struct, frozen=True):
    """`#tag value`."""

    tag: str
    value: Any


_TOKEN = re.compile(
    r"""
    (?P<space>[\s,]+|;.*)
  | (?P<open>\#\{|[\[({])
  | (?P<close>[\])}])
  | (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<discard>\#_)
  | (?P<char>\\(?:u[0-9a-fA-F]{4}|[a-zA-Z]+|.))
  | (?P<special>\#\#[A-Za-z]+)
  | (?P<tag>\#[A-Za-z][^\s,;"()\[\]{}]*)
  | (?P<keyword>:[^\s,;"()\[\]{}:][^\s,;"()\[\]{}]*)
  | (?P<number>[+-]?[0-9][^\s,;"()\[\]{}]*)
  | (?P<symbol>[^\s,;"()\[\]{}\#:\\0-9][^\s,;"()\[\]{}]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSER: Final = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_NO_TAG: Final = frozenset((*_CLOSER, "#_"))
_INT = re.compile(r"[+-]?[0-9]+N?\Z")
_FLOAT = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?M?\Z")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\"}
_CHARS: Final = {
    "newline": "\n",
    "tab": "\t",
    "return": "\r",
    "space": " ",
    "backspace": "\b",
    "formfeed": "\f",
}
_WORDS: Final = {"nil": None, "true": True, "false": False}
_SPECIALS: Final = {"##Inf": math.inf, "##-Inf": -math.inf, "##NaN": math.nan}


def _tokens(lines: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    """(line number, kind, text); a string may run over several lines."""
    number = 0
    source = iter(lines)
    for line in source:
        number += 1
        at, first, joined = 0, number, 0
        while at < len(line):
            if len(line) > LINE_CHARS_MAX:
                raise EdnError(first, f"longer than {LINE_CHARS_MAX} characters; write one event a line")
            match = _TOKEN.match(line, at)
            if match is None:
                more = next(source, None) if line[at] == '"' and joined < STRING_LINES_MAX else None
                if more is None:
                    raise EdnError(first, f"unexpected {line[at : at + 20].strip()!r}; is a quote or bracket missing?")
                number += 1
                joined += 1
                line = line[at:] + more
                at = 0
                continue
            if match.lastgroup != "space":
                yield first, str(match.lastgroup), match.group()
            at = match.end()


class _Frame:
    """A collection, a tag or a discard whose contents are still being read."""

    __slots__ = ("items", "kind", "line", "root")

    def __init__(self, kind: str, line: int, root: bool = False) -> None:
        self.kind = kind
        self.line = line
        self.items: list[Any] = []
        self.root = root


def read_edn(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) for each top-level value, or each element of the one top-level vector or list.

    Raises EdnError at the first thing that is not EDN.
    """
    stack: list[_Frame] = []
    began = False
    for line, kind, text in _tokens(lines):
        if kind == "open" or kind == "tag" or kind == "discard":
            if len(stack) >= DEPTH_MAX:
                raise EdnError(line, f"nested deeper than {DEPTH_MAX} levels; a history needs no more than a few")
            root = not began and text in ("[", "(") and all(frame.kind not in _NO_TAG for frame in stack)
            if root:
                stack.clear()  # a tag of the whole history, such as #jepsen.history.History, says nothing more
            stack.append(_Frame(text, line, root))
            began = began or kind == "open"
            continue
        started = line
        if kind == "close":
            if not stack or _CLOSER.get(stack[-1].kind) != text:
                raise EdnError(line, _mismatch(stack, text))
            frame = stack.pop()
            if frame.root:
                continue
            value, started = _collect(frame), frame.line
        else:
            began = True
            value = _atom(line, kind, text)
        yield from _place(stack, started, value)
    if stack:
        raise EdnError(stack[-1].line, f"{stack[-1].kind!r} opened here is never completed; is the file cut short?")


def _place(stack: list[_Frame], line: int, value: Any) -> Iterator[tuple[int, Any]]:
    """Give a complete value to what encloses it, or to the caller when nothing does."""
    while stack and stack[-1].kind not in _CLOSER:
        frame = stack.pop()
        if frame.kind == "#_":
            return
        value, line = Tagged(frame.kind[1:], value), frame.line
    if stack and not stack[-1].root:
        stack[-1].items.append(value)
    else:
        yield line, value


def _mismatch(stack: list[_Frame], text: str) -> str:
    if not stack:
        return f"{text!r} closes nothing"
    top = stack[-1]
    if top.kind not in _CLOSER:
        return f"{top.kind!r} (line {top.line}) has no value before {text!r}"
    return f"{text!r} cannot close {top.kind!r}, opened on line {top.line}"


def _collect(frame: _Frame) -> Any:
    items = frame.items
    if frame.kind == "[":
        return items
    if frame.kind == "(":
        return tuple(items)
    if frame.kind == "#{":
        return frozenset(_hashable(item) for item in items)
    if len(items) % 2:
        raise EdnError(frame.line, "a map with a key that has no value")
    return {_hashable(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def _hashable(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_hashable(item) for item in value)
    if isinstance(value, dict):
        return frozenset((key, _hashable(item)) for key, item in value.items())
    if isinstance(value, Tagged):
        return Tagged(value.tag, _hashable(value.value))
    return value


def _atom(line: int, kind: str, text: str) -> Any:
    if kind == "keyword":
        return Keyword(text[1:])
    if kind == "number":
        return _number(line, text)
    if kind == "symbol":
        return _WORDS[text] if text in _WORDS else Symbol(text)
    if kind == "string":
        return _ESCAPE.sub(lambda match: _unescape(line, match.group(1)), text[1:-1])
    if kind == "char":
        name = text[1:]
        if len(name) == 5 and name[0] == "u":
            return chr(int(name[1:], 16))
        if len(name) == 1 or name in _CHARS:
            return _CHARS.get(name, name)
        raise EdnError(line, f"unknown character {text!r}")
    if text in _SPECIALS:
        return _SPECIALS[text]
    raise EdnError(line, f"unexpected {text!r}")


def _number(line: int, text: str) -> int | float:
    if len(text) > DIGITS_MAX:
        raise EdnError(line, f"a number of more than {DIGITS_MAX} digits")
    if _INT.match(text):
        return int(text.rstrip("N"))
    if _FLOAT.match(text):
        return float(text.rstrip("M"))
    raise EdnError(line, f"{text!r} is no number")


def _unescape(line: int, code: str) -> str:
    if code[0] == "u" and len(code) == 5:
        return chr(int(code[1:], 16))
    if code in _ESCAPES:
        return _ESCAPES[code]
    raise EdnError(line, f"unknown escape \\{code} in a string")


_QUOTE: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"})


def write(value: Any) -> str:
    """One value as EDN text on one line. Raises TypeError for a type EDN has no notation for."""
    if value is None or isinstance(value, bool):
        return {None: "nil", True: "true", False: "false"}[value]
    if isinstance(value, float):
        if math.isfinite(value):
            return repr(value)
        return "##NaN" if math.isnan(value) else ("##Inf" if value > 0 else "##-Inf")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return f'"{value.translate(_QUOTE)}"'
    if isinstance(value, Keyword):
        return f":{value.name}"
    if isinstance(value, Symbol):
        return value.name
    if isinstance(value, Tagged):
        return f"#{value.tag} {write(value.value)}"
    if isinstance(value, list):
        return f"[{' '.join(map(write, value))}]"
    if isinstance(value, tuple):
        return f"({' '.join(map(write, value))})"
    if isinstance(value, (set, frozenset)):
        return f"#{{{' '.join(sorted(map(write, value)))}}}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{write(key)} {write(item)}" for key, item in value.items()) + "}"
    raise TypeError(f"EDN has no notation for {type(value).__name__}")
