"""Sessions: each command takes effect exactly once, across retries and leader changes (dissertation §6.3).

The table is part of the replicated state: every replica keeps the results of a session's commands until the client says
that it has them, and answers a repeated serial from there. It is bounded, and what is dropped is decided by the
log alone: the session that was used longest ago goes first.

Where nodes may lie, a session belongs to the public key that opened it, and this is the cache of last replies of Castro
and Liskov (1999, §4.2): a node that has an old request ordered again has nothing executed again. An id is never used
twice. Else the opening and the commands of a session that expired could be replayed together, and would take effect.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

SESSIONS_MAX = 10_000
UNANSWERED_PER_SESSION_MAX = 4096


class Session(msgspec.Struct, array_like=True):
    """One client's. ``results`` holds what serials at or above ``answered_below`` gave.

    ``owner`` is the public key that opened it with this ``nonce``; empty where clients do not sign.
    """

    answered_below: int = 0
    results: dict[int, bytes] = {}
    owner: bytes = b""
    nonce: int = 0


class Sessions:
    """The table: session id to Session. To anybody but its owner a session is not there."""

    __slots__ = ("_owned", "_table", "count_max")

    def __init__(self, count_max: int = SESSIONS_MAX) -> None:
        self.count_max = count_max
        self._table: OrderedDict[int, Session] = OrderedDict()
        """In order of use, so that whose turn it is to expire costs no search."""
        self._owned: dict[tuple[bytes, int], int] = {}
        """Owner and nonce to the session that they opened; those without an owner are not here."""

    def __len__(self) -> int:
        return len(self._table)

    def open(self, session: int, owner: bytes = b"", nonce: int = 0) -> int:
        """Begin a session and return its id; too many, and the one used longest ago expires.

        An owner who repeats a nonce gets the session that it opened, for as long as that lives.
        """
        if (known := self.opened(owner, nonce)) is not None:
            return known
        if len(self._table) >= self.count_max:
            self._disown(self._table.popitem(last=False)[1])
        self._table[session] = Session(owner=owner, nonce=nonce)
        if owner:
            self._owned[owner, nonce] = session
        return session

    def opened(self, owner: bytes, nonce: int) -> int | None:
        """The id of the session that the owner opened with this nonce, if it lives."""
        return self._owned.get((owner, nonce)) if owner else None

    def close(self, session: int, owner: bytes = b"") -> None:
        """End a session, if it is there."""
        found = self._table.get(session)
        if found is not None and found.owner == owner:
            self._disown(self._table.pop(session))

    def use(self, session: int, owner: bytes = b"") -> Session | None:
        """The session, now the last to expire, unless it expired or never was."""
        found = self.find(session, owner)
        if found is not None:
            self._table.move_to_end(session)
        return found

    def find(self, session: int, owner: bytes = b"") -> Session | None:
        """The session, if it is there. To look at it does not use it."""
        found = self._table.get(session)
        return None if found is None or found.owner != owner else found

    def answer(self, session: int, serial: int, owner: bytes = b"") -> bytes | None:
        """The result of a command that has been applied, if it is still kept."""
        found = self.find(session, owner)
        return None if found is None else found.results.get(serial)

    def encode(self) -> bytes:
        """The whole table, for a snapshot."""
        return msgspec.msgpack.encode(list(self._table.items()))

    def replace(self, items: Iterable[tuple[int, Session]]) -> None:
        """Take over a table that ``decode`` gave."""
        self._table = OrderedDict(items)
        self._owned = {(found.owner, found.nonce): id_ for id_, found in self._table.items() if found.owner}

    @staticmethod
    def decode(data: bytes) -> list[tuple[int, Session]]:
        """What ``encode`` made. Raises msgspec.MsgspecError."""
        return msgspec.msgpack.decode(data, type=list[tuple[int, Session]])

    def _disown(self, session: Session) -> None:
        self._owned.pop((session.owner, session.nonce), None)
