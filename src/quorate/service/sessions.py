"""Sessions: each command takes effect exactly once, across retries and leader changes (dissertation §6.3).

The table is part of the replicated state: every replica keeps the results of a session's commands until the client says
that it has them, and answers a repeated serial from there. It is bounded, and what is dropped is decided by the
log alone: the session that was used longest ago goes first.

Where nodes may lie, a session belongs to the public key that opened it, and this is the cache of last replies of Castro
and Liskov (1999, §4.2): a node that has an old request ordered again has nothing executed again. An id is never used
twice. Else the opening and the commands of a session that expired could be replayed together, and would take effect.

Results are bounded in bytes, for each session and in all, by constants, as every replica must drop the same ones. Where
the bytes are too many, the oldest results of a session become ``GONE``: the command took effect, which is all that a
retry is told. In all, the sessions used longest ago lose theirs first. ADR 0023 has the reasons.

Where nodes may not lie, a session belongs to nobody, but its opening says from which host it came: the node that took
it writes that into the upper bits of the nonce (``stamped``). If the table is full, the host with the most sessions
loses one that no command has used, or else the one used longest ago. So a client that opens thousands expires its own.

If nodes may lie, whoever makes a key is a client, and keys cost nothing; so who has done nothing yet must not push out
who has. A session is *new* until ``ESTABLISHED_USES`` entries of the log have used it, and *established* then; of the
sessions that an entry uses it counts for one. New ones go first. Established ones have at most nine tenths of the
table, so that there is room for the new; of them, too, the one that was used longest ago goes, back among the new. One
key has at most a tenth of the table, and beyond that expires a session of its own. So whoever would have 9,000
established sessions expire must have 144,000 requests ordered within the time in which their owners make one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from heapq import heapify, heappop, heapreplace
from typing import Final

import msgspec

from quorate.service.requests import OpenSession, decode_client_command, encode

SESSIONS_MAX = 10_000
RESULTS_BYTES_MAX: Final = 32 << 20
"""Of all sessions, with ``RESULT_OVERHEAD_BYTES`` for each."""
SESSION_RESULTS_BYTES_MAX: Final = 4 << 20
"""Of one session."""
RESULT_OVERHEAD_BYTES: Final = 128
"""What a result takes in memory beside its bytes; one that is gone takes as much."""
KEPT_SHARE: Final = 7 / 8
"""Too many bytes in all are reduced to this share, so that the search for them is rare."""
ROOM_SHARE: Final = 100
"""One in so many sessions goes when the table is full, for the same reason."""
HOST_BITS: Final = 28
NONCE_BITS: Final = 62 - HOST_BITS
_OPENING: Final = encode(OpenSession(0))[:-1]

GONE: Final = None
"""In place of a result that took too much space."""
ESTABLISHED_USES = 16
PER_OWNER_MIN = 16
"""A key may have so many sessions however small the table is."""


class Session(msgspec.Struct, array_like=True):
    """One client's. ``results`` holds what serials at or above ``answered_below`` gave.

    ``owner`` is the public key that opened it with this ``nonce``; empty where clients do not sign. ``uses``: entries
    of the log that used it, until they are enough. Without an owner, ``nonce`` is the number of the host that opened
    it.
    """

    answered_below: int = 0
    results: dict[int, bytes | None] = {}
    owner: bytes = b""
    nonce: int = 0
    uses: int = 0

    @property
    def was_used(self) -> bool:
        """Whether a command used it."""
        return bool(self.answered_below or self.results)


def stamped(entry: bytes, host: str) -> bytes:
    """A client's command; if it opens a session, with the host from which it came in the upper bits of the nonce."""
    if not entry.startswith(_OPENING):
        return entry
    try:
        command = decode_client_command(entry)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return entry  # for the Replica to refuse
    if not isinstance(command, OpenSession):
        return entry
    number = int.from_bytes(sha256(host.encode()).digest()[:4], "big") >> (32 - HOST_BITS)
    return encode(OpenSession(number << NONCE_BITS | command.nonce & ((1 << NONCE_BITS) - 1)))


class Sessions:
    """The table: session id to Session. To anybody but its owner a session is not there."""

    __slots__ = ("_entry", "_established", "_ids", "_kept", "_new", "_owned", "count_max", "kept_bytes")

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
        self._kept: dict[int, int] = {}
        """What the results of a session take, in bytes."""
        self.kept_bytes = 0
        """What those of all take."""

    def __len__(self) -> int:
        return len(self._new) + len(self._established)

    def open(self, session: int, owner: bytes = b"", nonce: int = 0) -> int:
        """Begin a session and return its id; too many, and one expires.

        An owner who repeats a nonce gets the session that it opened, for as long as that lives. Without one, the upper
        bits of the nonce say which host opens it.
        """
        if not owner:
            if len(self) >= self.count_max:
                self._make_room()
            self._new[session] = Session(nonce=nonce >> NONCE_BITS)
            return session
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

    # --- results ---

    def keep(self, session: int, serial: int, result: bytes) -> None:
        """A command of this session took effect and gave this. If that makes too many bytes, the oldest go."""
        found = self._established.get(session) or self._new[session]
        found.results[serial] = result
        if self._count(session, len(result) + RESULT_OVERHEAD_BYTES) > SESSION_RESULTS_BYTES_MAX:
            self._strip(session, found, SESSION_RESULTS_BYTES_MAX)
        if self.kept_bytes > RESULTS_BYTES_MAX:
            self._strip_all(session)

    def answered(self, session: int, below: int) -> None:
        """The client has the answers to all serials below."""
        found = self._established.get(session) or self._new[session]
        found.answered_below = below
        results = found.results
        freed_bytes = 0
        for serial in [serial for serial in results if serial < below]:
            freed_bytes += len(results.pop(serial) or b"") + RESULT_OVERHEAD_BYTES
        self._count(session, -freed_bytes)

    def _count(self, session: int, size_bytes: int) -> int:
        self.kept_bytes += size_bytes
        kept = self._kept[session] = self._kept.get(session, 0) + size_bytes
        return kept

    def _strip(self, session: int, found: Session, bytes_max: float) -> None:
        """Of one session, the oldest results are gone until the rest is no more than that, if that is possible."""
        for serial, result in found.results.items():
            if self._kept[session] <= bytes_max:
                break
            if result is not GONE:
                found.results[serial] = GONE
                self._count(session, -len(result))

    def _strip_all(self, session: int) -> None:
        """Those of the sessions used longest ago are gone, and if that is not enough, so are the sessions.

        ``session`` is the one that used the most bytes just now: it is the last.
        """
        in_order = [*self._new.items(), *self._established.items()]
        for other, found in in_order:
            if self.kept_bytes <= KEPT_SHARE * RESULTS_BYTES_MAX:
                return
            if other in self._kept:
                self._strip(other, found, 0)
        for other, _ in in_order:
            if self.kept_bytes <= KEPT_SHARE * RESULTS_BYTES_MAX:
                return
            if other != session and self._kept.get(other):
                self._drop(other)

    def encode(self) -> bytes:
        """The whole table, for a snapshot."""
        return msgspec.msgpack.encode([*self._established.items(), *map(_encodable, self._new.items())])

    def replace(self, items: Sequence[tuple[int, Session]]) -> None:
        """Take over a table that ``decode`` gave."""
        self._new, self._established, self._owned, self._ids = OrderedDict(), OrderedDict(), {}, {}
        for id_, found in items:
            (self._established if found.uses >= ESTABLISHED_USES else self._new)[id_] = found
            self._own(id_, found.owner, found.nonce)
        self._kept, self.kept_bytes = {}, 0
        for id_, found in items:
            if found.results:
                size_bytes = sum(len(result or b"") for result in found.results.values())
                self._count(id_, size_bytes + RESULT_OVERHEAD_BYTES * len(found.results))

    @staticmethod
    def decode(data: bytes) -> list[tuple[int, Session]]:
        """What ``encode`` made. Raises msgspec.MsgspecError."""
        return msgspec.msgpack.decode(data, type=list[tuple[int, Session]])

    # --- who goes first ---

    def _make_room(self) -> None:
        """A few sessions go, one by one, each of the host that has the most then: the unused first, then by use."""
        by_host: dict[int, list[tuple[bool, int, int]]] = {}
        for place, (session, found) in enumerate(self._new.items()):
            by_host.setdefault(found.nonce, []).append((found.was_used, place, session))
        queues = {host: iter(sorted(those)) for host, those in by_host.items()}
        heap = [(-len(those), *next(queues[host]), host) for host, those in by_host.items()]
        heapify(heap)
        for _ in range(max(1, self.count_max // ROOM_SHARE)):
            count, _, _, session, host = heap[0]
            self._drop(session)
            following = next(queues[host], None)
            if following is None:
                heappop(heap)
            else:
                heapreplace(heap, (count + 1, *following, host))

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
        self.kept_bytes -= self._kept.pop(session, 0)
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
