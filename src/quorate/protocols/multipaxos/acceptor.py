"""Acceptor: what one node promised and accepted, for every slot (Lamport 2001, §2.2), and what it knows to be chosen.

How it works. ``log`` holds consecutive slots, each known to be chosen or accepted in ``ballot``, the newest one in
which this node heard a leader. Whatever else was accepted waits in ``ahead``, slot by slot with its own ballot: values
of older ballots, and values behind a gap. When a new leader is heard, what is not known to be chosen moves from ``log``
to ``ahead``; as the leader proposes these slots anew it comes back. So one number, the end of ``log``, says to the
leader "all this I accepted in your ballot, or know to be chosen", and acceptances of two ballots are never counted
together.

Durable: ``Promised``, ``Voted``, ``Snapshotted``; and ``Returned`` at a node that lost all of these once. Each record
of a vote or promise says how far the log was known to be chosen, which costs nothing then, and spares a node that
restarts from asking. What is said to the leader is no more than the records say: a slot that counts as chosen when a
ballot begins is so in the first record of that ballot. That the last slot of some members is chosen is recorded at once
(``record_chosen``): it decides whom the next life asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from quorate.kernel import Env
from quorate.parts.ballot import NO_BALLOT, Ballot
from quorate.parts.leaderlog.returns import Return, Returned
from quorate.parts.log.entries import ENTRY_OVERHEAD_BYTES, Entry, Log
from quorate.protocols.multipaxos.messages import MultiPaxosConfig, Promised, Run, Snapshotted, Voted


class Acceptor:
    """Public attributes may be read by checkers and status pages."""

    def __init__(self, env: Env, config: MultiPaxosConfig) -> None:
        self._env = env
        self._config = config
        self.promised: Ballot = NO_BALLOT
        self.ballot: Ballot = NO_BALLOT
        self.log = Log()
        self.ahead: dict[int, tuple[Ballot, Entry]] = {}
        self.chosen_index = 0
        self.snapshot_index = 0
        self.snapshot_term = 0
        self.has_forgotten = bool(env.incarnation)
        """Whether this node lost what it promised and accepted, and has not returned yet: its votes do not count."""
        self.changes = 0
        """Counts what changed the votes, for whoever watches."""
        self._ahead_bytes = 0
        self._recorded_chosen = 0

    # --- recovery ---

    def restore(self, record: Promised | Voted | Snapshotted | Returned) -> None:
        """One durable record. Raises ValueError where records before it are missing."""
        if isinstance(record, Returned):
            self.has_forgotten = record.incarnation != self._env.incarnation
            return
        if isinstance(record, Snapshotted):
            self._stand_on(record)
            return
        self.promised = max(self.promised, record.ballot)
        self._restore_chosen(record.chosen_index)
        if isinstance(record, Voted):
            if record.ballot > self.ballot:
                self._turn_to(record.ballot)
            if record.ballot == self.ballot:
                self._vote(record.first_slot, record.entries)
            else:
                for slot, entry in enumerate(record.entries, record.first_slot):
                    self._put_ahead(slot, record.ballot, entry)

    def _restore_chosen(self, index: int) -> None:
        if index > self.log.last_index:
            raise ValueError(
                f"the journal says that all up to slot {index} is chosen, but its log ends at {self.log.last_index}: "
                "records are missing"
            )
        self.chosen_index = self._recorded_chosen = max(self.chosen_index, index)

    def checkpoint(self) -> Iterator[Promised | Voted | Returned]:
        """The durable state in records of bounded size, after the Snapshotted that stands before them."""
        config = self._config
        if self._env.incarnation and not self.has_forgotten:
            yield Returned(self._env.incarnation)
        for first, entries in self.log.batches(config.message_entries_max, config.message_bytes_max):
            yield Voted(self.ballot, first, entries, min(first - 1, self.chosen_index))
        for slot, (ballot, entry) in sorted(self.ahead.items()):
            yield Voted(ballot, slot, [entry], self.chosen_index)
        if self.promised > NO_BALLOT:
            yield Promised(self.promised, self.chosen_index)

    def settle_returns(self, returns: Iterable[Return]) -> None:
        """These are chosen, and this node holds all up to there. If it is one of them, its votes count from now on.

        It has promised the ballot of the leader that says so, which is no lower than that in which they were chosen.
        """
        incarnation = self._env.incarnation
        if self.has_forgotten and any(known.incarnation == incarnation for known in returns):
            self.has_forgotten = False
            self.changes += 1
            self._env.persist(Returned(incarnation))

    # --- phase 1b ---

    def promise(self, ballot: Ballot) -> None:
        """Accept nothing below this ballot any more; durable before anybody hears of it (§2.5)."""
        self.promised = ballot
        self._record_promise()

    def record_chosen(self) -> None:
        """What is known to be chosen, in a record of its own: where whose votes count depends on it."""
        if self.chosen_index > self._recorded_chosen:
            self._record_promise()

    def _record_promise(self) -> None:
        self._recorded_chosen = self.chosen_index
        self._env.persist(Promised(self.promised, self.chosen_index))

    def votes(self, first: int) -> tuple[list[Run], int]:
        """What was accepted from a slot on, as much as fits a message, and where the rest begins (0: that is all).

        What is known to be chosen is told as accepted in ``ballot``: every higher ballot has the same value (P2).
        """
        log, config = self.log, self._config
        if first <= log.last_index:
            entries = log.batch(first, config.message_entries_max, config.message_bytes_max)
            rest = first + len(entries)
            return [Run(self.ballot, first, entries)], rest if rest <= log.last_index or self.ahead else 0
        runs: list[Run] = []
        size = 0
        for count, slot in enumerate(sorted(slot for slot in self.ahead if slot >= first)):
            ballot, entry = self.ahead[slot]
            size += entry.size_bytes
            if count == config.message_entries_max or (count and size > config.message_bytes_max):
                return runs, slot
            if runs and runs[-1].ballot == ballot and slot == runs[-1].first_slot + len(runs[-1].entries):
                runs[-1].entries.append(entry)
            else:
                runs.append(Run(ballot, slot, [entry]))
        return runs, 0

    # --- phase 2b ---

    def follow(self, ballot: Ballot) -> None:
        """A leader uses this ballot, which is not below what was promised: from now on ``log`` is about its votes."""
        if ballot > self.ballot:
            self._turn_to(ballot)
            if ballot > self.promised or self.chosen_index > self._recorded_chosen:
                self.promised = ballot
                self._record_promise()

    def _turn_to(self, ballot: Ballot) -> None:
        log, first = self.log, self.chosen_index + 1
        if log.last_index >= first:
            for slot, entry in enumerate(log.slice(first, log.last_index), first):
                self._put_ahead(slot, self.ballot, entry)
            log.truncate(first)
        self.ballot = ballot
        self.changes += 1

    def accept(self, first: int, entries: list[Entry]) -> str | None:
        """Accept these in ``ballot`` (P1a was asked before); returns what a correct leader never does, if it did it.

        What lies beyond the window of open slots, or of what may wait behind a gap, is not accepted, and not missed:
        the leader sends it again.
        """
        log = self.log
        known = log.last_index + 1 - first
        if known > 0:
            if why := self._contradicts(first, entries[:known]):
                return why
            if known >= len(entries):
                return None
            first, entries = log.last_index + 1, entries[known:]
        elif known < 0:
            entries = self._bounded(first, entries)
            if all(self.ahead.get(slot, (NO_BALLOT,))[0] == self.ballot for slot in range(first, first + len(entries))):
                return None
        self._env.persist(Voted(self.ballot, first, entries, self.chosen_index))
        self._recorded_chosen = self.chosen_index
        self._vote(first, entries)
        return None

    def _contradicts(self, first: int, entries: list[Entry]) -> str | None:
        """A copy must say the same as before. What a snapshot stands for cannot be compared."""
        skip = max(0, self.log.base_index + 1 - first)
        first, entries = first + skip, entries[skip:]
        if entries and self.log.slice(first, first + len(entries) - 1) != entries:
            return "proposes two values for a slot in one ballot, or another one where one is chosen"
        return None

    def _bounded(self, first: int, entries: list[Entry]) -> list[Entry]:
        entries = entries[: max(0, self.log.last_index + self._config.alpha - first + 1)]
        size = self._ahead_bytes
        for position, entry in enumerate(entries):
            size += entry.size_bytes
            if size > self._config.uncommitted_bytes_max:
                return entries[:position]
        return entries

    def _vote(self, first: int, entries: list[Entry]) -> None:
        log = self.log
        self.changes += 1
        if first > log.last_index + 1:
            for slot, entry in enumerate(entries, first):
                self._put_ahead(slot, self.ballot, entry)
            return
        new = entries[log.last_index + 1 - first :]  # not all only in a restore
        if self.ahead:
            for slot in range(log.last_index + 1, log.last_index + 1 + len(new)):
                self._drop_ahead(slot)
        log.append(new)
        self._close_gap()

    def _close_gap(self) -> None:
        """What waited in ``ahead`` and follows the log now, in its ballot, joins it."""
        log, ahead = self.log, self.ahead
        while ahead and (vote := ahead.get(log.last_index + 1)) is not None and vote[0] == self.ballot:
            self._drop_ahead(log.last_index + 1)
            log.append([vote[1]])

    def _put_ahead(self, slot: int, ballot: Ballot, entry: Entry) -> None:
        self._drop_ahead(slot)
        self.ahead[slot] = (ballot, entry)
        self._ahead_bytes += len(entry.data) + ENTRY_OVERHEAD_BYTES

    def _drop_ahead(self, slot: int) -> None:
        vote = self.ahead.pop(slot, None)
        if vote is not None:
            self._ahead_bytes -= len(vote[1].data) + ENTRY_OVERHEAD_BYTES

    # --- compaction (Chandra and others 2007, §5.5) ---

    def compact(self, record: Snapshotted) -> None:
        """A snapshot is durable, our own or a leader's: it stands for what was chosen up to it. Votes after it stay."""
        self._env.persist(record)
        self._stand_on(record)

    def _stand_on(self, record: Snapshotted) -> None:
        log = self.log
        self.snapshot_index, self.snapshot_term = record.index, record.term
        self.changes += 1
        if record.index > self.chosen_index:
            if record.base_index == record.index:
                self._turn_to(self.ballot)  # what is not known to be chosen is a vote, and no longer in the log
            self.chosen_index = record.index
        log.compact(record.base_index, record.base_term)
        for slot in sorted(slot for slot in self.ahead if slot <= log.last_index):
            self._drop_ahead(slot)
        self._close_gap()
