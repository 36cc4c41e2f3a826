"""Events of apps in text, as clients see them and search for them.

An app may put any bytes into the texts of events. What is not UTF-8 is shown with U+FFFD for each such byte; an event
that cannot be decoded at all is left out.

Source: CometBFT 0.38, ``abci/types.proto`` (Event), and its answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from quorate.ledger.comet.proto import BOOL, BytesKind, Field, FieldKind, MessageKind, MessageType
from quorate.ledger.comet.results import EVENT_BYTES_MAX, EVENTS_MAX
from quorate.ledger.comet.wire_reader import LENGTH, WireReader

_ESCAPED: Final = re.compile("[\udc80-\udcff]")


class ShownAttribute(msgspec.Struct, frozen=True, gc=False):
    """An event's attribute."""

    key: str = ""
    value: str = ""
    index: bool = False


class ShownEvent(msgspec.Struct, frozen=True, gc=False):
    """An event."""

    type: str = ""
    attributes: tuple[ShownAttribute, ...] = ()


class LooseTextKind(FieldKind):
    """Text that may be any bytes."""

    wire = LENGTH
    zero = ""
    _bytes: Final = BytesKind(EVENT_BYTES_MAX)

    def write(self, value: str) -> bytes:
        return self._bytes.write(value.encode())

    def read(self, reader: WireReader) -> str:
        data = self._bytes.read(reader)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return _ESCAPED.sub("\ufffd", data.decode(errors="surrogateescape"))


_TEXT: Final = LooseTextKind()
_ATTRIBUTE: Final = MessageType(
    ShownAttribute, Field(1, "key", _TEXT), Field(2, "value", _TEXT), Field(3, "index", BOOL), bytes_max=EVENT_BYTES_MAX
)
_REMEMBERED_BYTES_MAX: Final = 512
_remembered: Final = lru_cache(maxsize=4096)(_ATTRIBUTE.decode)


class AttributeKind(MessageKind):
    """An attribute. Most are said again and again, and those are decoded once."""

    _bytes: Final = BytesKind(EVENT_BYTES_MAX)

    def read(self, reader: WireReader) -> ShownAttribute:
        data = self._bytes.read(reader)
        return _remembered(data) if len(data) <= _REMEMBERED_BYTES_MAX else _ATTRIBUTE.decode(data)


_EVENT: Final = MessageType(
    ShownEvent,
    Field(1, "type", _TEXT),
    Field(2, "attributes", AttributeKind(_ATTRIBUTE), count_max=EVENTS_MAX),
    bytes_max=EVENT_BYTES_MAX,
)


def shown_events(events: Iterable[bytes]) -> list[ShownEvent]:
    """The events that an app's answer has."""
    shown = []
    for data in events:
        try:
            shown.append(_EVENT.decode(data))
        except ValueError:  # an app's mistake, which no client should have to bear
            continue
    return shown
