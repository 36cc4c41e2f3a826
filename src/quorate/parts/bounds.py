"""Bounds: what the fields of a protocol's config may be, so that a node is told before it starts.

A field is named in the text of the error, with the least and the most that it may be. Fields that bound each other are
for the config itself to compare. Infinities and values that are not numbers are within no bounds.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

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


TIMES: Final = Bounds(TIME_S_MIN, TIME_S_MAX)
COUNTS: Final = Bounds(1, COUNT_MAX)
SIZES: Final = Bounds(1, BYTES_MAX)
MESSAGE_SIZES: Final = Bounds(1, MESSAGE_BYTES_MAX)


def check_bounds(config: Any, bounds: dict[str, Bounds]) -> None:
    """Raises ValueError for the first field that is out of its bounds. A field that is None is left out."""
    for name, (least, most) in bounds.items():
        value = getattr(config, name)
        if value is not None and not least <= value <= most:
            raise ValueError(f"{name} is {value}: it must be at least {least} and at most {most}")
