"""Sessions: each command takes effect exactly once, across retries and leader changes (dissertation §6.3).

The table is part of the replicated state: every replica keeps the results of a session's commands until the client says
that it has them, and answers a repeated serial from there. It is bounded, and what is dropped is decided by the
log alone: the session that was used longest ago goes first.

Where nodes may lie, a session belongs to the public key that opened it, and this is the cache of last replies of Castro
and Liskov (1999, §4.2): a node that has an old request ordered again has nothing executed again. An id is never used
twice. Else the opening and the commands of a session that expired could be replayed together, and would take effect.

There whoever makes a key is a client, and keys cost nothing; so who has done nothing yet must not push out who has. A
session is *new* until ``ESTABLISHED_USES`` entries of the log have used it, and *established* then; of the sessions
that an entry uses it counts for one. New ones go first. Established ones have at most nine tenths of the table, so that
there is room for the new; of them, too, the one that was used longest ago goes, back among the new. One key has at
most a tenth of the table, and beyond that expires a session of its own. So whoever would have 9,000 established
sessions expire must have 144,000 requests ordered within the time in which their owners make one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

SESSIONS_MAX = 10_000
UNANSWERED_PER_SESSION_MAX = 4096
ESTABLISHED_USES = 16
PER_OWNER_MIN = 16
"""A key may have so many sessions however small the table is."""


class Session(msgspec.Struct, array_like=True):
    """One client's. ``results`` holds what serials at or above ``answered_below`` gave.

    ``owner`` is the public key that opened it with this ``nonce``; empty where clients do not sign. ``uses``: entries
    of the log that used it, until they are enough.
    """

    answered_below: int = 0
    results: dict[int, bytes] = {}
    owner: bytes = b""
    nonce: int = 0
    uses: int = 0


class Sessions:
    """The table: session id to Session. To anybody but its owner a session is not there."""

    __slots__ = ("_entry", "_established", "_ids", "_new", "_owned", "count_max")

    def __init__(self, count_max: int = SESSIONS_MAX) -> None:
        self.count_max = count_max
        self._new: OrderedDict[int, Session] = OrderedDict()
        """In order of use, so that whose turn it is to expire costs no search. Those without an owner stay here."""
        self._established: OrderedDict[int, Session] = OrderedDict()
        """Likewise."""
        self._owned: dict[tuple[bytes, int], int] = {}
        """Owner and nonce to the session that they opened; those without an owner are not here."""
        self._ids: dict[bytes, set[int]] = {}
        """By owner."""
        self._entry = -1  # the last of the log that counted

    def __len__(self) -> int:
        return len(self._new) + len(self._established)

    def open(self, session: int, owner: bytes = b"", nonce: int = 0) -> int:
        """Begin a session and return its id; too many, and one expires.

        An owner who repeats a nonce gets the session that it opened, for as long as that lives.
        """
        if (known := self.opened(owner, nonce)) is not None:
            return known
        ids = self._ids.get(owner, ())
        if len(ids) >= max(PER_OWNER_MIN, self.count_max // 10):
            self._drop(min(ids, key=self._worth))
        elif len(self) >= self.count_max:
            self._drop(next(iter(self._new or self._established)))
        self._new[session] = Session(owner=owner, nonce=nonce)
        self._own(session, owner, nonce)
        return session

    def opened(self, owner: bytes, nonce: int) -> int | None:
        """The id of the session that the owner opened with this nonce, if it lives."""
        return self._owned.get((owner, nonce)) if owner else None

    def close(self, session: int, owner: bytes = b"") -> None:
        """End a session, if it is there."""
        if self.find(session, owner) is not None:
            self._drop(session)

    def use(self, session: int, owner: bytes = b"", entry: int = -1) -> Session | None:
        """The session, now the last of its kind to expire, unless it expired or never was.

        ``entry`` of the log uses it, which counts where sessions have owners.
        """
        found = self.find(session, owner)
        if found is None:
            return None
        if session in self._established:
            self._established.move_to_end(session)
            return found
        self._new.move_to_end(session)
        if owner and entry != self._entry:
            self._entry = entry
            found.uses += 1
            if found.uses >= ESTABLISHED_USES:
                self._establish(session)
        return found

    def find(self, session: int, owner: bytes = b"") -> Session | None:
        """The session, if it is there. To look at it does not use it."""
        found = self._established.get(session) or self._new.get(session)
        return None if found is None or found.owner != owner else found

    def answer(self, session: int, serial: int, owner: bytes = b"") -> bytes | None:
        """The result of a command that has been applied, if it is still kept."""
        found = self.find(session, owner)
        return None if found is None else found.results.get(serial)

    def encode(self) -> bytes:
        """The whole table, for a snapshot."""
        return msgspec.msgpack.encode([*self._established.items(), *map(_encodable, self._new.items())])

    def replace(self, items: Iterable[tuple[int, Session]]) -> None:
        """Take over a table that ``decode`` gave."""
        self._new, self._established, self._owned, self._ids = OrderedDict(), OrderedDict(), {}, {}
        for id_, found in items:
            (self._established if found.uses >= ESTABLISHED_USES else self._new)[id_] = found
            self._own(id_, found.owner, found.nonce)

    @staticmethod
    def decode(data: bytes) -> list[tuple[int, Session]]:
        """What ``encode`` made. Raises msgspec.MsgspecError."""
        return msgspec.msgpack.decode(data, type=list[tuple[int, Session]])

    # --- who goes first ---

    def _establish(self, session: int) -> None:
        established_max = self.count_max * 9 // 10
        self._established[session] = self._new.pop(session)
        if len(self._established) > established_max:
            last, demoted = self._established.popitem(last=False)
            demoted.uses = 0
            self._new[last] = demoted

    def _worth(self, session: int) -> tuple[int, int]:
        """Of one owner's sessions the least used goes, and of these the first."""
        found = self._established.get(session) or self._new[session]
        return found.uses, session

    def _own(self, session: int, owner: bytes, nonce: int) -> None:
        if owner:
            self._owned[owner, nonce] = session
            self._ids.setdefault(owner, set()).add(session)

    def _drop(self, session: int) -> None:
        found = self._established.pop(session, None) or self._new.pop(session)
        if found.owner:
            self._owned.pop((found.owner, found.nonce), None)
            ids = self._ids[found.owner]
            ids.discard(session)
            if not ids:
                del self._ids[found.owner]


def _encodable(item: tuple[int, Session]) -> tuple[int, object]:
    """Without an owner as it was before uses were counted: older snapshots and newer ones are equal there."""
    session, found = item
    return session, found if found.owner else (found.answered_below, found.results, b"", found.nonce)
