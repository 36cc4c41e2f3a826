"""Raft with planted bugs, each one that a real system had. The simulator must catch every one.

A mutant overrides as little as it can, so that what it breaks is the rule it names.
"""

from collections.abc import Sequence
from typing import Any

from quorate.parts.log import Entry
from quorate.parts.replicated import ReadReady
from quorate.protocols.raft.core import LEADER, Raft
from quorate.protocols.raft.messages import Appended, AppendEntries, Entries, HardState
from quorate.sim.mutant import Mutant


class VotesTwice(Raft):
    """Breaks §3.4: at most one vote a term."""

    def _may_vote_for(self, candidate: int) -> bool:
        return True


class ForgetsTerm(Raft):
    """Breaks figure 3.1: currentTerm and votedFor survive a restart."""

    def restore(self, record: Any) -> None:
        """All but the term and the vote."""
        if not isinstance(record, HardState):
            super().restore(record)


class CommitsOldTerm(Raft):
    """Breaks §3.6.2: an entry of an earlier term is not committed by counting its replicas."""

    def _advance_commit(self) -> None:
        self._commit_to(self.quorum.reached(self._match))


class TruncatesOnMatch(Raft):
    """Breaks §3.5: entries are removed only where they conflict."""

    def _take_entries(self, sender: int, m: AppendEntries) -> bool:
        first = max(m.prev_index, self.log.base_index) + 1
        new: list[Entry] = m.entries[first - m.prev_index - 1 :]
        if new:
            self.log.truncate(min(first, self.log.last_index + 1))
            self.env.persist(Entries(first, new))
            self.log.append(new)
        return True


class ServesReadsWhenDeposed(Raft):
    """Breaks §6.4: a leader makes sure that it still leads before it answers a read."""

    def read(self, tokens: Sequence[int]) -> None:
        """At once, where this node thinks that it leads."""
        if self.role == LEADER and self.commit_index >= self._noop_index:
            self.env.deliver(ReadReady(tuple(tokens)))
        else:
            super().read(tokens)


class SkipsNoop(Raft):
    """Breaks §6.4, step 1: a new leader commits an entry of its own term before it knows what is committed."""

    def _open_term(self) -> None:
        self._noop_index = 0


class AcknowledgesEarly(Raft):
    """Breaks §3.8: a server makes its log durable before it answers."""

    def _acknowledge(self, leader: int, index: int) -> None:
        self.env.send_now(leader, Appended(self.term, index))


MUTANTS = (
    Mutant("votes-twice", "a server votes for two candidates of one term", core=VotesTwice),
    Mutant("forgets-term", "term and vote are not restored after a crash", core=ForgetsTerm),
    Mutant("commits-old-term", "an entry of an earlier term is committed by counting replicas", core=CommitsOldTerm),
    Mutant("truncates-on-match", "an old AppendEntries cuts newer entries that agree with it", core=TruncatesOnMatch),
    Mutant("stale-reads", "a deposed leader still serves reads", core=ServesReadsWhenDeposed),
    Mutant("skips-noop", "a new leader appends no entry of its own term", core=SkipsNoop),
    Mutant("acks-early", "a server acknowledges entries before they are durable", core=AcknowledgesEarly),
)
