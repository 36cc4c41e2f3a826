"""Arguments of routes: read from JSON, and from the text of a URL, as CometBFT reads them.

In JSON, numbers of 64 bits are text, bytes are base64 (or hexadecimal, if the route says so), and null is the default.
In a URL, a number stands for itself, text is in double quotes, bytes are ``0xHEX`` or text in double quotes, and all
else is read as JSON. What is empty is the default.

What comes is hostile: all of it is checked, and an ArgumentError says what is wrong.

Source: CometBFT 0.38, ``rpc/jsonrpc/server/http_uri_handler.go`` and ``http_json_handler.go`` for what is accepted, and
its answers to the questions in the tests.
"""

from __future__ import annotations

import binascii
import re
import reprlib
from abc import ABC, abstractmethod
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from quorate.ledger.comet.evidence import MISCONDUCT, Misconduct
from quorate.ledger.comet.json_shapes import of_json

INT64_MAX: Final = (1 << 63) - 1
_DIGITS: Final = re.compile(r"-?[0-9]{1,40}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,39})", re.ASCII)


class ArgumentError(ValueError):
    """What is wrong with an argument."""


def read_json(data: bytes | str) -> Any:
    """The value. Raises ArgumentError for what is not JSON, and for what nests too deep."""
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise ArgumentError("nested too deep") from None
    except ValueError as error:  # DecodeError and UnicodeError are such
        raise ArgumentError(str(error)) from None


class ArgumentKind(ABC):
    """A type of argument. ``default``: its value where there is none."""

    default: Any = None
    name: str
    """As Go calls it, in errors."""

    @abstractmethod
    def of_json(self, data: Any) -> Any:
        """Raises ArgumentError."""

    def of_url(self, text: str) -> Any:
        """Raises ArgumentError."""
        if text[:2].lower() == "0x":
            raise ArgumentError(f"got a hex string arg, but expected '{self.name}'")
        return self.of_json_text(text)

    def of_json_text(self, text: str) -> Any:
        """JSON in a URL."""
        data = read_json(text)
        return self.default if data is None else self.of_json(data)


class NumberArgument(ArgumentKind):
    """A number within a range, of 64 bits at most."""

    def __init__(
        self, name: str, least: int = -INT64_MAX - 1, most: int = INT64_MAX, default: int | None = None
    ) -> None:
        self.name = name
        self.least = least
        self.most = most
        self.default = default

    def of_json(self, data: Any) -> int:
        if not isinstance(data, str):
            raise ArgumentError(f"invalid 64-bit integer encoding {_shown(data)}, expected string")
        if _NUMBER.fullmatch(data) is None:
            raise ArgumentError(f"{_shown(data)} is not a number")
        return self._within(int(data))

    def of_url(self, text: str) -> Any:
        if _DIGITS.fullmatch(text):
            return self._within(int(text))
        if text[:2].lower() == "0x" or text.startswith('"') or text == "null":
            return super().of_url(text)
        raise ArgumentError(f"invalid 64-bit integer encoding {_shown(text)}, expected string")

    def _within(self, number: int) -> int:
        if not self.least <= number <= self.most:
            raise ArgumentError(f"cannot unmarshal number {number} into Go value of type {self.name}")
        return number


class FlagArgument(ArgumentKind):
    """true or false."""

    name = "bool"
    default = False

    def of_json(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise ArgumentError(f"cannot unmarshal {_shown(data)} into Go value of type bool")
        return data


class TextArgument(ArgumentKind):
    """Text."""

    name = "string"
    default = ""

    def of_json(self, data: Any) -> str:
        if not isinstance(data, str):
            raise ArgumentError(f"cannot unmarshal {_shown(data)} into Go value of type string")
        return data

    def of_url(self, text: str) -> str:
        if text[:2].lower() == "0x":
            return _hexadecimal(text[2:]).decode(errors="replace")
        found: str = self.of_json_text(text)
        return found


class BytesArgument(ArgumentKind):
    """Bytes. ``is_hex``: JSON has them in hexadecimal."""

    name = "slice"
    default = b""

    def __init__(self, *, is_hex: bool = False) -> None:
        self.is_hex = is_hex

    def of_json(self, data: Any) -> bytes:
        if not isinstance(data, str):
            raise ArgumentError(f"cannot unmarshal {_shown(data)} into Go value of type []uint8")
        if self.is_hex:
            return _hexadecimal(data)
        try:
            return b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ArgumentError(f"illegal base64 data: {error}") from None

    def of_url(self, text: str) -> bytes:
        if text[:2].lower() == "0x":
            return _hexadecimal(text[2:])
        if len(text) > 1 and text.startswith('"') and text.endswith('"'):
            return TextArgument().of_json(read_json(text)).encode(errors="replace")
        found: bytes = self.of_json_text(text)
        return found


class EvidenceArgument(ArgumentKind):
    """A piece of evidence: ``{"type": ..., "value": ...}``."""

    name = "interface"

    def of_json(self, data: Any) -> Misconduct:
        try:
            return of_json(MISCONDUCT, data)
        except ValueError as error:
            raise ArgumentError(str(error)) from None


RPCArguments: TypeAlias = Mapping[str, Any]


def arguments_of_json(kinds: Mapping[str, ArgumentKind], params: Any) -> RPCArguments:
    """What a route is called with, by name. ``params``: an object, an array with each of them, or None.

    Raises ArgumentError. Names that the route does not have do not count.
    """
    if params is None:
        params = {}
    if isinstance(params, Sequence) and not isinstance(params, str):
        if len(params) != len(kinds):
            names = " ".join(kinds)
            raise ArgumentError(f"expected {len(kinds)} parameters ([{names}]), got {len(params)}")
        params = dict(zip(kinds, params, strict=True))
    if not isinstance(params, dict):
        raise ArgumentError(f"unknown type for JSON params: {_shown(params)}. Expected map or array")
    found = {name: params.get(name) for name in kinds}
    return {name: kind.default if found[name] is None else kind.of_json(found[name]) for name, kind in kinds.items()}


def arguments_of_url(kinds: Mapping[str, ArgumentKind], query: Mapping[str, str]) -> RPCArguments:
    """What a route is called with, by name. ``query``: the first value of each name. Raises ArgumentError."""
    given = {name: query.get(name, "") for name in kinds}
    return {name: kind.of_url(given[name]) if given[name] else kind.default for name, kind in kinds.items()}


_shown: Final = reprlib.repr
"""Short, however long the data is."""


def _hexadecimal(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        raise ArgumentError(f"encoding/hex: {_shown(text)} is not hexadecimal") from None
    if 2 * len(found) != len(text):
        raise ArgumentError(f"encoding/hex: {_shown(text)} has blanks in it")
    return found
