"""Checks of what a caller passes: what is wrong is refused before it is state and a later command trips over it."""

from __future__ import annotations

import math
from typing import Final

from quorate.machines.objects.kinds import register_type

NAME_CHARS_MAX: Final = 256
PAGE_MAX: Final = 1000
"""Entries in one answer, so that no answer grows with what is stored."""


class Full(Exception):
    """There is no room for another; the text says what the bound is and how it is raised. Nothing has changed."""


class StaleToken(Exception):
    """The token no longer stands for anything: its lease has ended, or it was given back. Stop the work it was for."""


register_type(Full, name="quorate.objects.Full")
register_type(StaleToken, name="quorate.objects.StaleToken")


def check_int(name: str, value: int, least: int | None = None, most: int | None = None) -> int:
    """The value, if it is an int from least to most. Raises TypeError or ValueError."""
    if type(value) is not int:
        raise TypeError(f"{name} is an int, not {type(value).__name__}")
    if least is not None and value < least:
        raise ValueError(f"{name} is at least {least}, not {value}")
    if most is not None and value > most:
        raise ValueError(f"{name} is at most {most}, not {value}")
    return value


def check_name(name: str, value: str) -> str:
    """The value, if it is a text that can name somebody. Raises TypeError or ValueError."""
    if type(value) is not str:
        raise TypeError(f"{name} is a str, not {type(value).__name__}")
    if not 0 < len(value) <= NAME_CHARS_MAX:
        raise ValueError(f"{name} has 1 to {NAME_CHARS_MAX} characters, not {len(value)}")
    return value


def check_span(name: str, value: float, most: float, least: float = 0.001) -> float:
    """The value as a float, if it is a length of time in seconds. Raises TypeError or ValueError."""
    if type(value) not in (int, float):
        raise TypeError(f"{name} is a number of seconds, not {type(value).__name__}")
    if math.isnan(value) or not least <= value <= most:
        raise ValueError(f"{name} is {least} to {most} seconds, not {value}")
    return float(value)


def check_page(start: int, limit: int) -> slice:
    """The entries of one page. Raises TypeError or ValueError."""
    check_int("start", start, 0)
    return slice(start, start + check_int("limit", limit, 1, PAGE_MAX))
