"""Times in CometBFT: seconds and nanoseconds of UTC, and BFT time, the median of what validators say, by power.

A time that is missing is Go's zero, the first moment of the year 1, and not the epoch.

Source: CometBFT 0.38, ``spec/consensus/bft-time.md`` and ``types/time``; proto3's ``google.protobuf.Timestamp``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Self

import msgspec

from quorate.ledger.comet.proto import INT32, INT64, Field, MessageType

NS_PER_S: Final = 1_000_000_000
SECONDS_MIN: Final = -62_135_596_800
"""0001-01-01T00:00:00Z"""
SECONDS_MAX: Final = 253_402_300_799
"""9999-12-31T23:59:59Z"""


class Timestamp(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """A moment. Later ones are greater."""

    seconds: int = 0
    nanos: int = 0

    @classmethod
    def of_ns(cls, wall_ns: int) -> Self:
        """The moment so many nanoseconds after the epoch."""
        return cls(wall_ns // NS_PER_S, wall_ns % NS_PER_S)

    def ns(self) -> int:
        """Nanoseconds since the epoch."""
        return self.seconds * NS_PER_S + self.nanos

    def plus_ns(self, ns: int) -> Timestamp:
        """The moment so many nanoseconds later."""
        return Timestamp.of_ns(self.ns() + ns)

    def text(self) -> str:
        """As RFC 3339 has it, with as many digits of the fraction as it takes."""
        year, month, day = _civil(self.seconds // _DAY_S)
        hour, minute, second = self.seconds % _DAY_S // 3600, self.seconds % 3600 // 60, self.seconds % 60
        fraction = f".{self.nanos:09}".rstrip("0") if self.nanos else ""
        return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"

    @classmethod
    def of_text(cls, text: str) -> Timestamp:
        """The moment that ``text`` gives. Raises ValueError for what is not one in UTC."""
        found = _RFC3339.fullmatch(text)
        if found is None:
            raise ValueError(f"{text[:40]!r} is not a time in UTC, as 2026-11-30T07:04:02.5Z")
        year, month, day, hour, minute, second = map(int, found.groups()[:6])
        days = _days(year, month, day)
        time = cls(days * _DAY_S + hour * 3600 + minute * 60 + second, int((found[7] or "").ljust(9, "0")))
        if _civil(days) != (year, month, day) or hour > 23 or minute > 59 or second > 59:
            raise ValueError(f"{text!r} is on no calendar")
        time.check()
        return time

    def check(self) -> None:
        """Raises ValueError outside of the years 1 to 9999."""
        if not (SECONDS_MIN <= self.seconds <= SECONDS_MAX and 0 <= self.nanos < NS_PER_S):
            raise ValueError(f"{self.seconds} s and {self.nanos} ns are not a time from year 1 to year 9999")


_DAY_S: Final = 86_400
_RFC3339: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)

TIMESTAMP: Final = MessageType(Timestamp, Field(1, "seconds", INT64), Field(2, "nanos", INT32), check=Timestamp.check)
ZERO_TIME: Final = Timestamp(SECONDS_MIN)


def weighted_median(times: Iterable[tuple[Timestamp, int]]) -> Timestamp:
    """The median of times, each with the power of who says it; the zero time of none.

    With less than a third of the power at liars, there is a correct validator's time at or below it and one at or
    above.
    """
    ordered = sorted(times)
    median = sum(power for _, power in ordered) // 2
    for time, power in ordered:
        if median <= power:
            return time
        median -= power
    return ZERO_TIME


def _days(year: int, month: int, day: int) -> int:
    """Days since the epoch of a date in the Gregorian calendar. Years begin in March here, so leap days come last."""
    year -= month < 3
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return year * 365 + year // 4 - year // 100 + year // 400 + day_of_year - _EPOCH_DAYS


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of so many days since the epoch."""
    days += _EPOCH_DAYS
    era, day_of_era = divmod(days, 146_097)  # 400 years
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    return era * 400 + year_of_era + (month >= 10), month + 3 if month < 10 else month - 9, day


_EPOCH_DAYS: Final = 719_468
"""From 1 March of the year 0 to 1 January 1970."""
