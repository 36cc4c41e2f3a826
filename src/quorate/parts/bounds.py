"""Bounds: what the fields of a config may be, a protocol's or that of links, so that a node is told before it starts.

A field is named in the text of the error, with the least and the most that it may be. Fields that bound each other are
for the config itself to compare. Infinities and values that are not numbers are within no bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple, Self

import msgspec
from msgspec.structs import replace

MESSAGE_BYTES_MAX: Final = 8 << 20
"""Of what one message carries of entries, batches or a snapshot. Links between nodes take frames of twice as much: a
batch may have one value more than fits, and there is what goes with it."""
TIME_S_MIN: Final = 0.001
"""With less a node does nothing but look at its timers."""
TIME_S_MAX: Final = 86_400.0
COUNT_MAX: Final = 1 << 32
BYTES_MAX: Final = 1 << 40


class Bounds(NamedTuple):
    """Both ends included."""

    least: float
    most: float


FRAME_BYTES_MAX: Final = (1 << 32) - 1
"""What the length before a frame can say."""

TIMES: Final = Bounds(TIME_S_MIN, TIME_S_MAX)
COUNTS: Final = Bounds(1, COUNT_MAX)
SIZES: Final = Bounds(1, BYTES_MAX)
MESSAGE_SIZES: Final = Bounds(1, MESSAGE_BYTES_MAX)
FRAME_SIZES: Final = Bounds(64, FRAME_BYTES_MAX)
GRACES: Final = Bounds(0, TIME_S_MAX)


class BoundedConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of a config whose fields have bounds. A field that is None has none."""

    bounds: ClassVar[Mapping[str, Bounds]] = {}
    """By field; of each by itself."""

    def __post_init__(self) -> None:
        """Raises ValueError for the first field that is out of its bounds."""
        for name, (least, most) in self.bounds.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} is {value}: it must be at least {least} and at most {most}")

    def but(self, **changes: Any) -> Self:
        """The same with other values of these fields. Raises ValueError as above."""
        return replace(self, **changes)
