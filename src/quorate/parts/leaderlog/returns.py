"""Returns: how a node that lost its memory takes part again, in a log that a leader keeps (Raft, Multi-Paxos).

A node that lost its folder (``env.incarnation`` is not empty) has forgotten what it promised, and what it accepted. The
recovery that Viewstamped Replication has for that, asking a quorum, loses what is committed (Michael, Ports, Sharma and
Szekeres, "Recovering shared objects without stable storage", DISC 2017): it must not count before it is certain that
nothing hangs on what it lost. Here the log says when.

How it works. The node, call it X, begins as one that *has forgotten*: it follows, but promises nothing and does not
stand, and its acknowledgements and its answers to heartbeats are of another type, which counts for nothing. By these
the leader hears X's incarnation I, and puts an entry into the log: X *returns* as I. Call it R. When X holds R and
knows that it is committed, it records that it has returned, and from then on it counts again. Until then R, like
everything else, takes a quorum without X. If there is none (two of three nodes have forgotten), X waits.

Why that is enough. Let T be the term, or ballot, in which the quorum Q that committed R acknowledged it. X is not in Q.

- *A promise that X lost*, to a candidate C of a later term, was given before X began to live as I, and R was proposed
  after that; so C asked without R in its log. But each quorum that elects has a node of Q in it. If that node promised
  C first, it did not acknowledge R in T. If it acknowledged R first, then in Raft it does not vote for C, whose log is
  older: C never leads, whatever X promises to others later. In Multi-Paxos it tells C of R, and C may lead; but as it
  knows of R, it does not count the promise that X has forgotten, and by which X does not abide (``preparation.py``).
- *A promise of T or before* does not matter: X is in T at least when it returns, and votes for nobody there. (A ballot
  has one leader anyway.)
- *An entry that X acknowledged and lost*, e, and that was committed thereby: before R in the log. For X acknowledged it
  to the leader of a term up to T (a later one would have been elected by a node of Q). A leader of an earlier term than
  T: the leader of T has e, as leaders have all that is committed (X, when it voted for that leader, still had e). The
  leader of T itself: it sent e to X before X had forgotten, and R came after. So Q holds e, and X when it holds R.
- *What X still acknowledged* before it lost its memory, and arrives late, is true of what X held then: as if X had
  crashed. It is of entries before R, so after R it commits nothing. The leader must only not take it for what X holds
  now, so it keeps apart what it hears of different incarnations of a node (``Followers``).
- *Others that forgot* and were in Q had returned when they acknowledged R. By the same argument, in the order of their
  returns in the log, what they had promised before cannot elect anybody without R.

The leader has no say in who counts: X says in each acknowledgement whether it has returned. So a new leader, which may
not know yet that R is committed, needs no quorum without X again.

What of this is durable: R in the log, ``Returned`` at X, and with each snapshot who returned before it (``Returns``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from quorate.kernel import NODE_ID_MAX, NodeId
from quorate.parts.log.entries import RETURN, Entry
from quorate.parts.wire import Index

INCARNATION_BYTES_MAX: Final = 64
RETURNS_MAX: Final = NODE_ID_MAX + 1

ReturningAs: TypeAlias = Annotated[bytes, Meta(min_length=1, max_length=INCARNATION_BYTES_MAX)]


class Return(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """From the entry at ``index`` on, the node is this incarnation of it."""

    node: NodeId
    incarnation: ReturningAs
    index: Index


class Returned(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A record: as this incarnation this node has returned, and counts."""

    incarnation: ReturningAs


KnownReturns: TypeAlias = Annotated[tuple[Return, ...], Meta(max_length=RETURNS_MAX)]


class _Encoded(msgspec.Struct, frozen=True, array_like=True, gc=False):
    node: NodeId
    incarnation: ReturningAs


_decoder = msgspec.msgpack.Decoder(_Encoded)


def return_entry(term: int, node: int, incarnation: bytes) -> Entry:
    """What a leader proposes when a node that has forgotten is heard."""
    return Entry(term, msgspec.msgpack.encode(_Encoded(node, incarnation)), RETURN)


def return_in(entry: Entry) -> tuple[int, bytes] | None:
    """Which node returns, and as which incarnation; None for an entry of a later release, which counts nowhere."""
    try:
        said = _decoder.decode(entry.data)
    except msgspec.MsgspecError:
        return None
    return said.node, said.incarnation


class Returns:
    """Who returned, by the part of the log that is known to be committed: the last time of each node."""

    def __init__(self) -> None:
        self._known: dict[int, Return] = {}

    def note(self, first: int, entries: Sequence[Entry]) -> tuple[Return, ...]:
        """Entries from ``first`` on are committed; those among them that say who returns. Mostly there are none."""
        if RETURN not in [entry.kind for entry in entries]:
            return ()
        found = []
        for index, entry in enumerate(entries, first):
            if entry.kind == RETURN:
                if (said := return_in(entry)) is not None:
                    found.append(Return(*said, index))
        self.start_from(found)
        return tuple(found)

    def start_from(self, returns: Iterable[Return]) -> None:
        """All these are committed too, by a snapshot or a record."""
        for known in returns:
            old = self._known.get(known.node)
            if old is None or old.index < known.index:
                self._known[known.node] = known

    def until(self, index: int) -> tuple[Return, ...]:
        """What whoever starts from a snapshot at ``index`` is to know.

        Of a node that returned again since, it is missing; that one is another now, and the log says so.
        """
        if not self._known:
            return ()
        return tuple(known for _, known in sorted(self._known.items()) if known.index <= index)

    def has(self, node: int, incarnation: bytes) -> bool:
        """Whether this is the node's last return."""
        return self.incarnation(node) == incarnation

    def incarnation(self, node: int) -> bytes:
        """As which it returned last; empty: it never did."""
        known = self._known.get(node)
        return b"" if known is None else known.incarnation


class Proposed:
    """The returns that a leader has proposed, in one term or ballot, and where they stand in its log."""

    def __init__(self) -> None:
        self._at: dict[tuple[int, bytes], int] = {}

    def wants(self, returns: Returns, node: int, incarnation: bytes, commit_index: int) -> bool:
        """Whether the node has not returned as this one, and it is not proposed, or was and another return came since.

        Late messages of an earlier incarnation may have that proposed too; who lives asks again then.
        """
        return not returns.has(node, incarnation) and self._at.get((node, incarnation), 0) <= commit_index

    def put(self, node: int, incarnation: bytes, index: int) -> None:
        """It is proposed at this index."""
        self._at[node, incarnation] = index
