"""Raft's properties (Ongaro and Ousterhout 2014, figure 3), looked at after every step of every node.

It reads the role of the core's ``election``, and of its ``state`` term, vote, log and commit index; it looks closer
only where one of them changed. Log matching is checked entry by entry: each entry that enters any log must equal the
one first seen under its (index, term), and must follow an entry of the same term. By induction the logs then agree
below.

A promise is a term and a vote that left the node: from then on no crash may take them back.

Who votes is worked out here anew, from the founders and the entries of each log, whatever the core says of it
(dissertation, chapter 4): what a leader commits must be in the logs of a quorum of the newest configuration in *its*
log, of both halves while that is joint, and such a quorum must have voted for it.

So is who is a witness: by the entry that introduced it, in whichever log that is.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import combinations
from typing import Any

from quorate.kernel import Turn, mask_of, nodes_of
from quorate.kernel.standing import FOLLOWER, LEADER
from quorate.parts.log.configuration import FOUNDERS_ALONE, Nodes, decode_change
from quorate.parts.log.entries import COMMAND, CONFIGURATION, WITHHELD, Entry
from quorate.parts.log.replicated import Decided, Restored
from quorate.protocols.raft.configurations import Configuration
from quorate.protocols.raft.messages import Entries
from quorate.sim.checkers.base import Checker, Violation

ELECTION_SAFETY = "election safety"
APPEND_ONLY = "leader append-only"
LOG_MATCHING = "log matching"
COMPLETENESS = "leader completeness"
SAFETY = "state machine safety"
MONOTONY = "monotonic state"
ONE_VOTE = "one vote a term"
STALLED = "a stalled node does not lead"
QUORUMS = "committed by a quorum of its configuration"
ELECTED = "elected by a quorum of its configuration"
CONFIGURATIONS = "the newest configuration in the log is in effect"
CHANGES = "no change before an entry of its term is committed"
WITNESSES = "a witness votes, and has no state"


class LoggedMembers:
    """Who votes by a log up to some entry, from the founders and the entries alone: no core is asked (§4.1, §4.3).

    ``halves``: the masks of which each must have a majority, one, or two where members are joint.
    """

    __slots__ = ("epoch", "halves", "nodes")

    def __init__(self, epoch: int, halves: tuple[int, ...], nodes: Nodes = FOUNDERS_ALONE) -> None:
        self.epoch = epoch
        self.halves = halves
        self.nodes = nodes

    def __repr__(self) -> str:
        return " and ".join(str(list(nodes_of(half))) for half in self.halves)

    def has_quorum(self, nodes: int) -> bool:
        """Whether they are a majority of each half."""
        return all(2 * (nodes & half).bit_count() > half.bit_count() for half in self.halves)

    def after(self, index: int, entry: Entry, founders: Iterable[int]) -> LoggedMembers:
        """With one entry more."""
        if not entry.data:
            return LoggedMembers(self.epoch, self.halves[1:], self.nodes) if len(self.halves) > 1 else self
        change = decode_change(entry.data)
        if change is None or len(self.halves) > 1 or change.epoch not in (None, self.epoch):
            return self
        if not self.nodes.takes(change, founders):
            return self
        old, new, nodes = self.halves[0], mask_of(change.members), self.nodes.after(change)
        if 2 * (new & mask_of(nodes.witnesses)).bit_count() > new.bit_count():
            return self
        halves = (new,) if _always_meet(old, new) else (old, new)
        return LoggedMembers(index, halves, nodes)


def as_witnessed(entry: Entry) -> Entry:
    """What a witness has of an entry of this term and kind."""
    return Entry(entry.term, b"", WITHHELD) if entry.kind == COMMAND else entry


class SeenServer:
    """What the checker last saw of one node. ``entries`` follow ``base_index``."""

    __slots__ = (
        *("agreed", "base_index", "checked_index", "checked_term", "commit_index", "entries", "last_index"),
        *("last_term", "now", "promise", "role", "term", "vote"),
    )

    def __init__(self) -> None:
        self.now: tuple[Any, ...] = ()
        """All that is looked at after each step: one comparison instead of seven."""
        self.term = 0
        self.vote: int | None = None
        self.role = ""
        self.promise: tuple[int, int | None] = (0, None)
        self.commit_index = 0
        self.base_index = 0
        self.last_index = 0
        self.last_term = 0
        self.checked_index = self.checked_term = -1
        """The last entry up to which the members in effect were compared."""
        self.agreed: tuple[LoggedMembers, Configuration] | None = None
        """What was the same then: the members that the log names, and those that the node goes by."""
        self.entries: list[Entry] = []


@cache
def _always_meet(old: int, new: int) -> bool:
    """Whether each majority of the one shares a node with each of the other (§4.1); by trying all."""
    members = nodes_of(old)
    majorities = combinations(members, len(members) // 2 + 1)
    return not any(2 * (new & ~mask_of(some)).bit_count() > new.bit_count() for some in majorities)


class LoggedEntry:
    """What was first seen under an index and a term. ``before`` is the term before it; ``members`` hold from it on."""

    __slots__ = ("before", "entry", "holders", "members")

    def __init__(self, entry: Entry, before: int, members: LoggedMembers) -> None:
        self.entry = entry
        self.before = before
        self.members = members
        self.holders = 0
        """The mask of those in whose log it ever was."""


class RaftInvariants(Checker):
    """All of them, over the whole run."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        """Who led a term."""
        self.committed: list[Entry] = []
        """What is committed, by index - 1."""
        self._seen: dict[int, SeenServer] = {}
        self._promised: dict[int, tuple[int, int | None]] = {}
        self._matching: dict[tuple[int, int], LoggedEntry] = {}
        self._founders: tuple[int, ...] = ()
        self._first: LoggedMembers | None = None
        self._votes: dict[tuple[int, int], int] = {}
        """By term and candidate, who voted for it."""
        self._proposed: list[int] = []
        """The terms of configurations that were appended in this step for the first time."""
        self._witnesses: set[int] = set()
        """By all that ever was in a log."""

    # --- a node's life ---

    def started(self, node: int, core: Any) -> None:
        if self._first is None:
            config, peers = core.config, core.env.peers
            self._founders = tuple(sorted(config.founders or peers))
            self._first = LoggedMembers(0, (mask_of(config.members or self._founders),))
        self._seen[node] = SeenServer()
        term, vote = self._promised.get(node, (0, None))
        state = core.state
        if state.term < term:
            raise Violation(MONOTONY, f"node {node} is back in term {state.term}, but others had seen it in {term}")
        if state.term == term and vote is not None and state.vote != vote:
            raise Violation(
                ONE_VOTE,
                f"node {node} had voted for {vote} in term {term} and told others; after a restart: {state.vote}",
            )
        self.stepped(node, core)

    def lost(self, node: int) -> None:
        self._promised.pop(node, None)

    def mark(self, node: int) -> tuple[int, int | None]:
        return self._seen[node].promise

    def released(self, node: int, mark: tuple[int, int | None]) -> None:
        promised = self._promised.get(node)
        if mark is promised:
            return
        if promised is not None and mark != promised:
            term, vote = promised
            if mark[0] < term:
                raise Violation(MONOTONY, f"node {node} speaks in term {mark[0]} after it spoke in {term}")
            if mark[0] == term and vote is not None and mark[1] != vote:
                raise Violation(ONE_VOTE, f"node {node} voted for {vote} and for {mark[1]} in term {term}")
        self._promised[node] = mark

    def stepped(self, node: int, core: Any) -> None:
        seen = self._seen[node]
        state, role = core.state, core.election.role
        log = state.log
        now = (log.last_index, log.last_term, log.base_index, state.commit_index, role, state.term, state.vote)
        if now != seen.now:
            seen.now = now
            self._changed(node, seen, state, role)
        if role == LEADER and core.election.stalled is not None:
            raise Violation(STALLED, f"node {node} leads term {state.term}, and cannot write: {core.election.stalled}")
        if node in self._witnesses and role != FOLLOWER:
            raise Violation(WITNESSES, f"node {node} is a witness, and is {role} of term {state.term}")

    def acted(self, node: int, core: Any, turn: Turn) -> None:
        if node in self._witnesses:
            for record in turn.records:
                value = record.value
                if isinstance(value, Entries) and any(entry.kind == COMMAND for entry in value.entries):
                    what = f"commands among entries {value.first_index} and after it"
                    raise Violation(WITNESSES, f"node {node} is a witness, and records {what}")

    def output(self, node: int, value: Any) -> None:
        if node in self._witnesses and isinstance(value, Decided | Restored):
            raise Violation(WITNESSES, f"node {node} is a witness, and applies {value!r}")

    # --- what changed ---

    def _changed(self, node: int, seen: SeenServer, state: Any, role: str) -> None:
        term, log = state.term, state.log
        if log.last_index != seen.last_index or log.last_term != seen.last_term or log.base_index != seen.base_index:
            self._log_changed(node, seen, log, seen.role == LEADER and seen.term == term)
        if state.commit_index != seen.commit_index:
            self._commit_changed(node, seen, state.commit_index, log)
        if role != seen.role or term != seen.term or state.vote != seen.vote:
            self._role_changed(node, seen, role, state)
        if log.last_index != seen.checked_index or log.last_term != seen.checked_term:
            self._members_changed(node, seen, state)
        if self._proposed:
            self._check_proposed(node)

    def _role_changed(self, node: int, seen: SeenServer, role: str, state: Any) -> None:
        term, vote = state.term, state.vote
        if term < seen.term:
            raise Violation(MONOTONY, f"node {node} goes back from term {seen.term} to {term}")
        if term == seen.term and seen.vote is not None and vote != seen.vote:
            raise Violation(ONE_VOTE, f"node {node} changes its vote in term {term} from {seen.vote} to {vote}")
        if vote is not None and (term != seen.term or vote != seen.vote):
            self._votes[term, vote] = self._votes.get((term, vote), 0) | 1 << node
        if role == LEADER and (seen.role != LEADER or seen.term != term):
            self._elected(node, term, state.log)
        if term != seen.term or vote != seen.vote:
            seen.promise = (term, vote)
        seen.term, seen.vote, seen.role = term, vote, role

    def _elected(self, node: int, term: int, log: Any) -> None:
        other = self.leaders.setdefault(term, node)
        if other != node:
            raise Violation(ELECTION_SAFETY, f"term {term} has two leaders: node {other} and node {node}")
        index = len(self.committed)
        if index and self.committed[-1].term > term:
            index = 0  # figure 3.2 speaks of later terms: late votes may elect one when a later one has committed
        if index > log.last_index:
            raise Violation(
                COMPLETENESS,
                f"node {node} leads term {term} with a log that ends at {log.last_index}, "
                f"but index {index} is committed",
            )
        entry = self.committed[index - 1] if index else None
        if entry is not None and index >= log.base_index and log.term_at(index) != entry.term:
            raise Violation(
                COMPLETENESS,
                f"node {node} leads term {term} with an entry of term {log.term_at(index)} at index {index}, "
                f"where one of term {entry.term} is committed",
            )
        # Its entry of this term is in the log already, and says nothing of members.
        members, votes = self._members_of(log.last_index, log.last_term), self._votes.get((term, node), 0)
        if not members.has_quorum(votes | self._hidden):
            raise Violation(
                ELECTED,
                f"node {node} leads term {term} by the votes of {list(nodes_of(votes))}, and its log names {members}",
            )

    # --- whose votes count ---

    @property
    def _hidden(self) -> int:
        """The mask of all but those that are shown to a checker: who lies, if only by silence, may hold anything."""
        return ~mask_of(tuple(self._seen))

    def _members_of(self, index: int, term: int) -> LoggedMembers:
        """By the logs that have an entry of that term at that index."""
        assert self._first is not None
        return self._matching[index, term].members if index else self._first

    def _members_changed(self, node: int, seen: SeenServer, state: Any) -> None:
        seen.checked_index, seen.checked_term = index, term = state.log.last_index, state.log.last_term
        members, newest = self._members_of(index, term), state.configurations.newest
        if seen.agreed is not None and seen.agreed[0] is members and seen.agreed[1] is newest:
            return
        voters = newest.voters
        halves = tuple(
            map(mask_of, (voters.members, voters.next_members) if voters.next_members else (voters.members,))
        )
        if (halves, voters.epoch) != (members.halves, members.epoch):
            raise Violation(
                CONFIGURATIONS,
                f"node {node} goes by {newest}, and its log up to {index} says {members}, epoch {members.epoch}",
            )
        seen.agreed = (members, newest)

    def _check_proposed(self, node: int) -> None:
        """§4.1, as corrected in 2015. Whoever appends a configuration first is the leader of its term."""
        terms, self._proposed = self._proposed, []
        newest = self.committed[-1].term if self.committed else 0
        if newest < max(terms):
            raise Violation(
                CHANGES,
                f"node {node} changes the members in term {max(terms)}, and the newest committed is of {newest}",
            )

    def _log_changed(self, node: int, seen: SeenServer, log: Any, was_leader: bool) -> None:
        entries = seen.entries
        base = log.base_index
        if base < seen.base_index:
            raise Violation(MONOTONY, f"node {node}: the log's base goes back from {seen.base_index} to {base}")
        if base > seen.base_index:
            del entries[: base - seen.base_index]
            seen.base_index = base
        last = log.last_index
        now = log.slice(max(base, min(base + len(entries), last) - 1) + 1, last)
        start = last - base - len(now)  # entries before this position were there before
        kept = min(len(entries), last - base)
        while kept > 0:
            if kept <= start:
                now = log.slice(base + 1, last)
                start = 0
            if entries[kept - 1] is now[kept - 1 - start] or entries[kept - 1] == now[kept - 1 - start]:
                break
            kept -= 1
        if kept < len(entries):
            self._truncated(node, seen, base + kept + 1, was_leader)
            del entries[kept:]
        self._appended(node, seen, now[kept - start :], log)
        seen.last_index = last
        seen.last_term = log.last_term

    def _truncated(self, node: int, seen: SeenServer, first: int, was_leader: bool) -> None:
        if was_leader:
            raise Violation(APPEND_ONLY, f"node {node} leads term {seen.term} and removes its entries from {first} on")
        if first <= seen.commit_index:
            raise Violation(
                SAFETY,
                f"node {node} removes its entries from {first} on, but it knew all up to {seen.commit_index} committed",
            )

    def _appended(self, node: int, seen: SeenServer, entries: list[Entry], log: Any) -> None:
        index = seen.base_index + len(seen.entries)
        before = seen.entries[-1].term if seen.entries else log.base_term
        matching, bit = self._matching, 1 << node
        for entry in entries:
            index += 1
            term = entry.term
            known = matching.get((index, term))
            if known is None:
                if term < before:
                    raise Violation(
                        LOG_MATCHING, f"node {node}: terms go down from {before} to {term} at index {index}"
                    )
                members = self._members_of(index - 1, before)
                if entry.kind == CONFIGURATION:
                    members = members.after(index, entry, self._founders)
                    self._proposed.append(term)
                    self._witnesses.update(members.nodes.witnesses)
                known = matching[(index, term)] = LoggedEntry(entry, before, members)
            elif known.before != before or (known.entry is not entry and self._as_held(node, known.entry) != entry):
                raise Violation(
                    LOG_MATCHING,
                    f"node {node} has {entry!r} at index {index} after one of term {before}; "
                    f"another log has {known.entry!r} there after one of term {known.before}",
                )
            known.holders |= bit
            before = term
        seen.entries.extend(entries)

    def _as_held(self, node: int, entry: Entry) -> Entry:
        return as_witnessed(entry) if node in self._witnesses else entry

    def _commit_changed(self, node: int, seen: SeenServer, index: int, log: Any) -> None:
        if index < seen.commit_index:
            raise Violation(MONOTONY, f"node {node}: commit goes back from {seen.commit_index} to {index}")
        if index > log.last_index:
            raise Violation(SAFETY, f"node {node} commits up to {index}, but its log ends at {log.last_index}")
        committed = self.committed
        if index > len(committed):
            self._check_quorum(node, index, log)
        base = seen.base_index
        if base > len(committed):
            raise Violation(SAFETY, f"node {node} has a snapshot at {base}, but only {len(committed)} are committed")
        for at in range(max(seen.commit_index, base) + 1, index + 1):
            entry = seen.entries[at - base - 1]
            if at > len(committed):
                committed.append(entry)
                continue
            known = committed[at - 1]
            if known is not entry and self._as_held(node, known) != entry:
                raise Violation(SAFETY, f"node {node} commits {entry!r} at index {at}, where {known!r} is committed")
        seen.commit_index = index

    def _check_quorum(self, node: int, index: int, log: Any) -> None:
        """It is the first that knows this to be committed, so it leads, and by its log."""
        members = self._members_of(log.last_index, log.last_term)
        holders = self._matching[index, log.term_at(index)].holders
        if not members.has_quorum(holders | self._hidden):
            raise Violation(
                QUORUMS,
                f"node {node} commits index {index}, which nodes {list(nodes_of(holders))} hold, "
                f"and its log names {members}",
            )
