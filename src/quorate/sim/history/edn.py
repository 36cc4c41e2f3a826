"""Extensible Data Notation, as far as histories need it: a streaming reader and a writer.

The reader takes lines and yields top-level values with the line they began on. A file that is one vector or list
(possibly tagged) is taken as the sequence of its elements, so a history of millions of events is never held
twice. It keeps an explicit stack: a hostile file cannot exhaust Python's, and depth is bounded.

nil None; true/false bool; 12, 12N, 0x1f, 017, 2r101 int; 1/3 Fraction; 1.5, ##Inf float; 1.5M Decimal; "s" str;
\\c Character; :k Keyword; symbol Symbol; [..] list; (..) tuple; {..}, #:ns{..} dict; #{..} frozenset; #tag v Tagged;
^meta v is v. Keys of maps and members of sets are frozen (see `values`), so that no two that differ are merged. Read
is what the specification has (https://github.com/edn-format/edn) and what Clojure prints besides.
"""

import math
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final

from quorate.sim.history.values import Character, Exact, Keyword, Mapping, Real, Symbol, Tagged, Truth, freeze, thaw

DEPTH_MAX: Final = 64
LINE_CHARS_MAX: Final = 1 << 20
DIGITS_MAX: Final = 1000  # Python's int() takes quadratic time
ITEMS_MAX: Final = 100_000  # of a collection that is held, as all but a whole history are
STRING_LINES_MAX: Final = 100  # each further line of a string is matched from its beginning again


class EdnError(ValueError):
    """Text that is no EDN. `line` is where."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"line {line}: {what}")
        self.line = line


_TOKEN = re.compile(
    r"""
    (?P<space>[\s,]+|;.*)
  | (?P<open>\#\{|\#:[^\s,;"()\[\]{}\\:]+[\s,]*\{|[\[({])
  | (?P<close>[\])}])
  | (?P<string>\#?"(?:[^"\\]|\\.)*")
  | (?P<discard>\#_)
  | (?P<meta>\#?\^)
  | (?P<char>\\.[^\s,;"()\[\]{}\\]*)
  | (?P<special>\#\#-?[A-Za-z]+)
  | (?P<tag>\#[A-Za-z][^\s,;"()\[\]{}\\]*)
  | (?P<keyword>:[^\s,;"()\[\]{}\\:][^\s,;"()\[\]{}\\]*)
  | (?P<number>[+-]?[0-9][^\s,;"()\[\]{}\\]*)
  | (?P<symbol>(?:\#')?[^\s,;"()\[\]{}\\\#:^0-9][^\s,;"()\[\]{}\\]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSER: Final = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_PREFIXES: Final = frozenset(("tag", "discard", "meta"))
_INT = re.compile(r"([+-]?)(?:0[xX]([0-9a-fA-F]+)|0([0-7]+)|([0-9]{1,2})[rR]([0-9a-zA-Z]+)|(0|[1-9][0-9]*))N?\Z")
_RATIO = re.compile(r"([+-]?[0-9]+)/([0-9]+)\Z")
_FLOAT = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?M?\Z")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_CODE = re.compile(r"u([0-9a-fA-F]{4})\Z")
_OCTAL = re.compile(r"o([0-7]{1,3})\Z")
_OCTAL_MAX: Final = 0o377
_REGEX: Final = '"'  # no tag can be called so
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
                more = next(source, None) if line.startswith(('"', '#"'), at) and joined < STRING_LINES_MAX else None
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
    """A collection, a tag, a discard or metadata whose contents are still being read.

    `kind` is what opens a collection, or `tag`, `discard` or `meta`; `name` is that of a tag or of a map's namespace.
    """

    __slots__ = ("items", "kind", "line", "name", "root")

    def __init__(self, kind: str, name: str, line: int, root: bool = False) -> None:
        self.kind = kind
        self.name = name
        self.line = line
        self.items: list[Any] = []
        self.root = root

    @property
    def transparent(self) -> bool:
        """Does it wrap the next value and add nothing to what a history is?"""
        return self.kind == "tag" or (self.kind == "meta" and len(self.items) == 1)


def read_edn(lines: Iterable[str], *, whole: bool = False) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) for each top-level value, or each element of the one top-level vector or list.

    `whole` yields that vector or list as one value, too. Raises EdnError at the first thing that is not EDN.
    """
    stack: list[_Frame] = []
    began = whole
    for line, kind, text in _tokens(lines):
        if kind == "open" or kind in _PREFIXES:
            if len(stack) >= DEPTH_MAX:
                raise EdnError(line, f"nested deeper than {DEPTH_MAX} levels; a history needs no more than a few")
            root = not began and text in ("[", "(") and all(frame.transparent for frame in stack)
            if root:
                stack.clear()  # a tag of the whole history, such as #jepsen.history.History, says nothing more
            stack.append(_opened(kind, text, line, root))
            began = began or (kind == "open" and not any(frame.kind in _PREFIXES for frame in stack))
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
            value = _atom(line, kind, text)
        for found in _place(stack, started, value):
            began = True
            yield found
    if stack:
        raise EdnError(stack[-1].line, f"{_shown(stack[-1])!r} opened here is never completed; is the file cut short?")


def _opened(kind: str, text: str, line: int, root: bool) -> _Frame:
    if kind == "open":
        name = text[2:-1].rstrip(" \t\r\n,") if text[:2] == "#:" else ""
        return _Frame("{" if name else text, name, line, root)
    return _Frame(kind, text[1:] if kind == "tag" else text, line)


def _place(stack: list[_Frame], line: int, value: Any) -> Iterator[tuple[int, Any]]:
    """Give a complete value to what encloses it, or to the caller when nothing does."""
    while stack and stack[-1].kind in _PREFIXES:
        frame = stack[-1]
        if frame.kind == "meta" and not frame.items:
            if not isinstance(value, (Keyword, Symbol, str, dict, list)):
                raise EdnError(line, "metadata is a keyword, a symbol, a string, a vector or a map")
            frame.items.append(value)
            return
        stack.pop()
        if frame.kind == "discard":
            return
        line = frame.line
        if frame.kind == "tag":
            value = Tagged(frame.name, value)
    if stack and not stack[-1].root:
        if len(stack[-1].items) >= ITEMS_MAX:
            raise EdnError(line, f"a collection of more than {ITEMS_MAX} items, opened on line {stack[-1].line}")
        stack[-1].items.append(value)
    else:
        yield line, value


def _shown(frame: _Frame) -> str:
    return f"#{frame.name}" if frame.kind == "tag" else frame.name if frame.kind in _PREFIXES else frame.kind


def _mismatch(stack: list[_Frame], text: str) -> str:
    if not stack:
        return f"{text!r} closes nothing"
    top = stack[-1]
    if top.kind in _PREFIXES:
        return f"{_shown(top)!r} (line {top.line}) has no value before {text!r}"
    return f"{text!r} cannot close {top.kind!r}, opened on line {top.line}"


def _collect(frame: _Frame) -> Any:
    items = frame.items
    if frame.kind == "[":
        return items
    if frame.kind == "(":
        return tuple(items)
    if frame.kind == "#{":
        members = frozenset(freeze(item) for item in items)
        if len(members) < len(items):
            raise EdnError(frame.line, "a set with the same member twice")
        return members
    if len(items) % 2:
        raise EdnError(frame.line, "a map with a key that has no value")
    keys = (_qualified(frame.name, key) if frame.name else key for key in items[::2])
    found = {freeze(key): value for key, value in zip(keys, items[1::2], strict=True)}
    if len(found) * 2 < len(items):
        raise EdnError(frame.line, "a map with the same key twice")
    return found


def _qualified(namespace: str, key: Any) -> Any:
    """A key of `#:namespace{..}`: a bare name is of that namespace, and `_/name` of none."""
    if not isinstance(key, (Keyword, Symbol)):
        return key
    if key.name.startswith("_/"):
        return type(key)(key.name[2:])
    return key if "/" in key.name else type(key)(f"{namespace}/{key.name}")


def _atom(line: int, kind: str, text: str) -> Any:
    if kind == "keyword":
        return Keyword(text[1:])
    if kind == "number":
        return _number(line, text)
    if kind == "symbol":
        return _WORDS[text] if text in _WORDS else Symbol(text)
    if kind == "string":
        return _string(line, text[1:-1]) if text[0] == '"' else Tagged(_REGEX, text[2:-1])
    if kind == "char":
        return Character(_character(line, text))
    if text in _SPECIALS:
        return _SPECIALS[text]
    raise EdnError(line, f"unexpected {text!r}")


def _character(line: int, text: str) -> str:
    name = text[1:]
    if len(name) == 1 or name in _CHARS:
        return _CHARS.get(name, name)
    if code := _CODE.match(name):
        return chr(int(code.group(1), 16))
    if (code := _OCTAL.match(name)) and int(code.group(1), 8) <= _OCTAL_MAX:
        return chr(int(code.group(1), 8))
    raise EdnError(line, f"unknown character {text[:20]!r}")


def _number(line: int, text: str) -> int | float | Fraction | Decimal:
    if len(text) > DIGITS_MAX:
        raise EdnError(line, f"a number of more than {DIGITS_MAX} digits")
    try:
        if match := _INT.match(text):
            return _integer(*match.groups())
        if match := _RATIO.match(text):
            ratio = Fraction(int(match.group(1)), int(match.group(2)))
            return ratio if ratio.denominator > 1 else ratio.numerator
        if _FLOAT.match(text) and not text.lstrip("+-").isdigit():
            return Decimal(text[:-1]) if text[-1] == "M" else float(text)
    except (ValueError, ZeroDivisionError, InvalidOperation):
        pass
    raise EdnError(line, f"{text[:40]!r} is not a number")


def _integer(sign: str, hexadecimal: str, octal: str, radix: str, digits: str, decimal: str) -> int:
    """Raises ValueError for a radix that there is not, or a digit that it does not have."""
    for text, base in ((hexadecimal, 16), (octal, 8), (decimal, 10)):
        if text is not None:
            return int(sign + text, base)
    if int(radix) < 2:
        raise ValueError("no digits have this radix")
    return int(sign + digits, int(radix))


def _string(line: int, text: str) -> str:
    found = _ESCAPE.sub(lambda match: _unescape(line, match.group(1)), text)
    if _SURROGATE.search(found):  # two escapes may be one character, as Java writes it
        return found.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return found


def _unescape(line: int, code: str) -> str:
    if code[0] == "u" and len(code) == 5:
        return chr(int(code[1:], 16))
    if code in _ESCAPES:
        return _ESCAPES[code]
    if code.isascii() and code.isdigit() and code[0] < "8" and int(code, 8) <= _OCTAL_MAX:
        return chr(int(code, 8))
    raise EdnError(line, f"unknown escape \\{code} in a string")


_QUOTE: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"})


def write(value: Any) -> str:
    """One value, plain or frozen, as EDN text on one line. Raises TypeError for a type EDN has no notation for."""
    if isinstance(value, (Truth, Real, Exact)):
        value = thaw(value)
    if isinstance(value, Mapping):  # equal ones are written alike
        return "{" + ", ".join(sorted(f"{write(key)} {write(item)}" for key, item in value.items)) + "}"
    if value is None or isinstance(value, bool):
        return {None: "nil", True: "true", False: "false"}[value]
    if isinstance(value, float):
        if math.isfinite(value):
            return repr(value)
        return "##NaN" if math.isnan(value) else ("##Inf" if value > 0 else "##-Inf")
    if isinstance(value, (int, Fraction)):
        return str(value)
    if isinstance(value, Decimal):
        return f"{value}M"
    if isinstance(value, str):
        return f'"{_escaped(value.translate(_QUOTE))}"'
    if isinstance(value, Character):
        named = next((name for name, char in _CHARS.items() if char == value.text), value.text)
        return f"\\{_escaped(named)}" if named.isprintable() or ord(named) > 0xFFFF else f"\\u{ord(named):04x}"
    if isinstance(value, Keyword):
        return f":{value.name}"
    if isinstance(value, Symbol):
        return value.name
    if isinstance(value, Tagged):
        return f'#"{value.value}"' if value.tag == _REGEX else f"#{value.tag} {write(value.value)}"
    if isinstance(value, list):
        return f"[{' '.join(map(write, value))}]"
    if isinstance(value, tuple):
        return f"({' '.join(map(write, value))})"
    if isinstance(value, (set, frozenset)):
        return f"#{{{' '.join(sorted(map(write, value)))}}}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{write(key)} {write(item)}" for key, item in value.items()) + "}"
    raise TypeError(f"EDN has no notation for {type(value).__name__}")


def _escaped(text: str) -> str:
    """The text with lone surrogates as escapes: UTF-8 has none."""
    return _SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
