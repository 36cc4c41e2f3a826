"""Sessions: each command takes effect exactly once, across retries and leader changes (dissertation §6.3).

The table is part of the replicated state: every replica keeps the results of a session's commands until the client says
that it has them, and answers a repeated serial from there. It is bounded, and what is dropped is decided by the
log alone: the session that was used longest ago goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

SESSIONS_MAX = 10_000
UNANSWERED_PER_SESSION_MAX = 4096


class Session(msgspec.Struct, array_like=True):
    """One client's. ``results`` holds what serials at or above ``answered_below`` gave."""

    answered_below: int = 0
    results: dict[int, bytes] = {}


class Sessions:
    """The table: session id to Session."""

    __slots__ = ("_table", "count_max")

    def __init__(self, count_max: int = SESSIONS_MAX) -> None:
        self.count_max = count_max
        self._table: OrderedDict[int, Session] = OrderedDict()
        """In order of use, so that whose turn it is to expire costs no search."""

    def __len__(self) -> int:
        return len(self._table)

    def open(self, index: int) -> None:
        """Begin the session whose id is ``index``; too many, and the one used longest ago expires."""
        if len(self._table) >= self.count_max:
            self._table.popitem(last=False)
        self._table[index] = Session()

    def close(self, session: int) -> None:
        """End a session, if it is there."""
        self._table.pop(session, None)

    def use(self, session: int) -> Session | None:
        """The session, now the last to expire, unless it expired or never was."""
        found = self._table.get(session)
        if found is not None:
            self._table.move_to_end(session)
        return found

    def answer(self, session: int, serial: int) -> bytes | None:
        """The result of a command that has been applied, if it is still kept."""
        found = self._table.get(session)
        return None if found is None else found.results.get(serial)

    def encode(self) -> bytes:
        """The whole table, for a snapshot."""
        return msgspec.msgpack.encode(list(self._table.items()))

    def replace(self, items: Iterable[tuple[int, Session]]) -> None:
        """Take over a table that ``decode`` gave."""
        self._table = OrderedDict(items)

    @staticmethod
    def decode(data: bytes) -> list[tuple[int, Session]]:
        """What ``encode`` made. Raises msgspec.MsgspecError."""
        return msgspec.msgpack.decode(data, type=list[tuple[int, Session]])
