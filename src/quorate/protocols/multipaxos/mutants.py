"""Multi-Paxos with planted bugs, each against one rule. The simulator must catch every one."""

from collections.abc import Callable, Sequence
from typing import Any

from quorate.parts.ballot import NO_BALLOT, Ballot
from quorate.parts.leaderlog.followers import Followers, Transfer
from quorate.parts.leaderlog.lease import Lease
from quorate.parts.leaderlog.returns import Returned, Returns
from quorate.parts.leaderlog.transfers import Transfers
from quorate.parts.log.configuration import Voters
from quorate.parts.log.entries import Entry
from quorate.parts.quorum import Flexible, Threshold
from quorate.protocols.multipaxos.acceptor import Acceptor
from quorate.protocols.multipaxos.core import MultiPaxos
from quorate.protocols.multipaxos.leadership import Leadership
from quorate.protocols.multipaxos.membership import Span, Spans
from quorate.protocols.multipaxos.messages import (
    Accepted,
    AcceptedAs,
    MultiPaxosConfig,
    Poll,
    Prepare,
    Promise,
    Promised,
    Run,
    Snapshotted,
    Voted,
)
from quorate.protocols.multipaxos.preparation import Preparation
from quorate.protocols.multipaxos.slot_snapshots import Snapshots
from quorate.sim.mutant import Mutant


class PromisesAtOnce(MultiPaxos):
    """Breaks ``returns.py``: who lost what it accepted does not answer phase 1 before it has returned."""

    def on_poll(self, sender: int, m: Poll) -> None:
        """It would."""
        self._as_if_it_knew(super().on_poll, sender, m)

    def on_prepare(self, sender: int, m: Prepare) -> None:
        """It says what it has."""
        self._as_if_it_knew(super().on_prepare, sender, m)

    def _promise(self, m: Prepare, runs: list[Run], next_slot: int) -> Promise:
        """Under its old name as long as there is no return: nobody would count it otherwise."""
        if self._snapshots.returns.has(self.env.id, self.env.incarnation):
            return super()._promise(m, runs, next_slot)
        return Promise(m.ballot, m.first_slot, runs, next_slot)

    def _as_if_it_knew(self, handle: Callable[[int, Any], None], sender: int, m: Any) -> None:
        acceptor = self.acceptor
        has_forgotten, acceptor.has_forgotten = acceptor.has_forgotten, False
        handle(sender, m)
        acceptor.has_forgotten = has_forgotten


class AcceptorCountsAtOnce(MultiPaxos):
    """Breaks ``returns.py``: its acceptances count for nothing before it has returned, not for that either."""

    def _answer(self) -> Accepted:
        last_slot, incarnation = self.acceptor.log.last_index, self.env.incarnation
        return AcceptedAs(self.ballot, last_slot, incarnation, True) if incarnation else super()._answer()


class AcceptorReturnsEarly(Acceptor):
    """Breaks ``returns.py``: a return counts when it is chosen, not when it is accepted."""

    def accept(self, first: int, entries: list[Entry]) -> str | None:
        """And it has returned."""
        why = super().accept(first, entries)
        self.settle_returns(Returns().note(first, entries))
        return why


class ForgetsBallot(Acceptor):
    """Breaks §2.5: the ballots that this node used are recorded before they are used."""

    def promise(self, ballot: Ballot) -> None:
        """Its own are not."""
        if ballot[1] == self._env.id:
            self.promised = ballot
        else:
            super().promise(ballot)


class LosesPromise(Acceptor):
    """Breaks §2.5: an acceptor remembers its promise. This one has it in memory only."""

    def restore(self, record: Promised | Voted | Snapshotted | Returned) -> None:
        """All but promises."""
        promised = self.promised
        super().restore(record)
        if isinstance(record, Promised):
            self.promised = promised


class MixesBallots(Acceptor):
    """Breaks §2.3: chosen means one ballot, accepted by a quorum. This one counts what it has of any ballot."""

    def _turn_to(self, ballot: Ballot) -> None:
        self.ballot = ballot
        self.changes += 1


class ChoosesFreely(Preparation):
    """Breaks P2c: where a value was accepted, that of the highest ballot is proposed."""

    def _find(self, slot: int, ballot: Ballot, entry: Entry) -> None:
        """Nothing was ever accepted."""


class TakesAnyVote(Preparation):
    """Breaks P2c: of several values that were accepted, that of the *highest* ballot is proposed."""

    def _find(self, slot: int, ballot: Ballot, entry: Entry) -> None:
        self.found.setdefault(slot, (NO_BALLOT, entry))
        self.highest_slot = max(self.highest_slot, slot)


class SkipsGaps(Leadership):
    """Breaks §3: a gap is filled with a no-op. This one moves up what follows it."""

    def _found(self, first: int, last: int) -> list[Entry]:
        slots = range(first, min(last, self._preparation.highest_slot) + 1)
        entries = [entry for slot in slots if (entry := self._preparation.pop(slot)) is not None]
        if len(entries) < len(slots):
            self._preparation.highest_slot = first + len(entries) - 1
        return entries


class AsksNoNewcomers(Preparation):
    """Breaks phase 1 for new members: they promise before anything is proposed where they count."""

    def covers(self, span: Span) -> bool:
        """Once anybody's quorum has promised, everybody's has."""
        return self.promised.bit_count() * 2 > len(span.members) or self.promised.bit_count() > 1


class Unchecked(Flexible):
    """Half of the members, rounded down, in either phase: two such sets need not meet."""

    def __init__(self, members: tuple[int, ...]) -> None:
        half = Threshold(members, max(1, len(members) // 2))
        self.phase1 = self.phase2 = half
        self.members = half.members


class PartedQuorums(Spans):
    """Breaks Howard and others 2016: every phase-1 quorum meets every phase-2 quorum."""

    def __init__(self, config: MultiPaxosConfig, peers: Sequence[int]) -> None:
        super().__init__(config, peers)
        self.spans = [Span(1, span.members, Unchecked(span.members)) for span in self.spans]


class ChangesAtOnce(Spans):
    """Breaks §3: members change alpha slots after the slot that says so, as later ones may be proposed already."""

    def takes_effect_at(self, slot: int) -> int:
        """From the next slot on."""
        return slot + 1


class ServesReadsWhenDeposed(MultiPaxos):
    """Breaks the confirmation of reads: a leader makes sure that it still leads before it answers one."""

    def _begin_round(self, leadership: Leadership) -> None:
        if leadership.is_current():
            self._reads.serve_waiting(self.acceptor.chosen_index)


class ReadsTooSoon(Leadership):
    """Breaks the beginning of a leadership: reads wait until all that phase 1 found is chosen."""

    def is_current(self) -> bool:
        """Always."""
        return True


class RecordsNoChange(Acceptor):
    """Breaks what a change of members rests on: that new members begin is durable before anybody hears of it."""

    def record_chosen(self) -> None:
        """What is chosen is recorded with the next vote."""


class ProposesAcross(Leadership):
    """Breaks the same: who accepts the first slot of new members knows that all before it is chosen."""

    def _last_usable(self) -> int:
        """The window alone, as far as members have promised."""
        chosen_index = self._acceptor.chosen_index
        last = chosen_index + self._config.alpha
        lacking = [span for span in self._open_spans() if not self._preparation.covers(span)]
        return max(chosen_index, min(last, lacking[0].first_slot - 1)) if lacking else last


class CountsAcross(ProposesAcross):
    """Breaks §3: a slot is chosen by a quorum of its own members. This one counts old members' votes in later slots.

    Healthy leaders propose nothing there until all before it is chosen, so this takes away both rules.
    """

    def advance(self, choose: Callable[[int], None]) -> None:
        """Without the end of the span."""
        while self._counts:
            chosen_index = self._acceptor.chosen_index
            quorums = self._members.at(chosen_index + 1).quorums.phase2
            reached = min(quorums.reached(self.followers.match), self._acceptor.log.last_index)
            if reached > chosen_index:
                choose(reached)
            else:
                self._counts = False


class TellsChangeEarly(MultiPaxos):
    """Breaks the same: a node says that new members are in force when a quorum of them has recorded it."""

    acceptor_class = RecordsNoChange
    leadership_class = ProposesAcross

    @property
    def voters(self) -> Voters:
        """Once the next slot is theirs."""
        slot = self.acceptor.chosen_index + 1
        later = self.members.after(slot)
        return Voters(self.members.at(slot).members, later[-1].members if later else (), self.members.epoch)


class ReadsUnasked(Leadership):
    """Breaks reads where members change: those of the next slot may have chosen more, and have to be asked first."""

    def is_current(self) -> bool:
        """Once all that phase 1 found is chosen, whomever it asked."""
        return self._acceptor.chosen_index >= self._preparation.highest_slot


class StandsAlone(MultiPaxos):
    """Breaks the lease: a node that restarts may have confirmed one, and waits until it has passed."""

    def start(self) -> None:
        """A sole member waits for nobody."""
        super().start()
        if self.members.at(self.acceptor.chosen_index + 1).members == (self.env.id,):
            heard_at, self._watch.heard_at = self._watch.heard_at, float("-inf")
            self._stand()
            self._watch.heard_at = heard_at


class EndlessLease(Lease):
    """Lasts eight times as long as it may."""

    def __init__(self, lease_s: float, drift: float) -> None:
        super().__init__(lease_s * 8, drift)


class LeasesTooLong(MultiPaxos):
    """Breaks the bound of a lease: it lasts no longer than those who gave it keep it."""

    def _become_leader(self) -> None:
        """With a lease of its own."""
        super()._become_leader()
        if self.config.lease_s is not None:
            self._lease = EndlessLease(self.config.lease_s, self.config.clock_drift)


class SilentWhereCompacted(MultiPaxos):
    """Breaks catching up: who leads and asks for slots that are compacted hears that it is behind."""

    def on_prepare(self, sender: int, m: Prepare) -> None:
        """It hears nothing."""
        if m.first_slot > self.acceptor.log.base_index:
            super().on_prepare(sender, m)


class Clings(MultiPaxos):
    """Breaks the rule that a leader makes way when its disk takes nothing: it goes on beating, so nobody stands."""

    def on_stalled(self, why: str | None) -> None:
        """It is noted."""
        self.stalled = why


class OneSource(Transfers):
    """Breaks the turns of sources: one that gives nothing is left, as long as there are others."""

    def _turn_over(self, node: int, transfer: Transfer, followers: Followers) -> None:
        """It is the leader's turn again."""
        transfer.idle_beats = 0


class AsksNobodyElse(Snapshots):
    """The leader's snapshots alone travel."""

    transfers_class = OneSource


class AnswersEarly(MultiPaxos):
    """Breaks §2.5: an acceptor answers when its vote is durable."""

    def settle(self) -> None:
        """The answer goes past the barrier."""
        if self._owes_answer and self.leader is not None and self.leadership is None:
            self._owes_answer = False
            self.env.send_now(self.leader, Accepted(self.ballot, self.acceptor.log.last_index))
        super().settle()


def _with(name: str, **roles: Any) -> type[MultiPaxos]:
    """A node with these roles."""
    return type(name, (MultiPaxos,), roles)


MUTANTS = (
    *[
        Mutant(name, summary, core=core, repairs=True)
        for name, summary, core in (
            ("promises-at-once", "a node that lost what it accepted promises before it has returned", PromisesAtOnce),
            (
                "counts-at-once",
                "what a node accepts counts before it has returned, for its return too",
                AcceptorCountsAtOnce,
            ),
            (
                "returns-early",
                "a node has returned when it has accepted the entry that says so",
                _with("Returning", acceptor_class=AcceptorReturnsEarly),
            ),
        )
    ],
    Mutant(
        "reuses-ballot",
        "a proposer does not record its ballots, and uses them again after a restart",
        core=_with("ReusesBallot", acceptor_class=ForgetsBallot),
    ),
    Mutant(
        "loses-promise",
        "an acceptor does not find its promise again after a restart",
        core=_with("LosesPromises", acceptor_class=LosesPromise),
    ),
    Mutant(
        "chooses-freely",
        "a new leader ignores what promises report",
        core=_with("Free", preparation_class=ChoosesFreely),
    ),
    Mutant(
        "takes-any-vote",
        "a new leader proposes the first value that a promise reports, not that of the highest ballot",
        core=_with("Any", preparation_class=TakesAnyVote),
    ),
    Mutant(
        "mixes-ballots",
        "acceptances of different ballots are counted together",
        core=_with("Mixing", acceptor_class=MixesBallots),
    ),
    Mutant(
        "parted-quorums",
        "a phase-1 quorum and a phase-2 quorum share no node",
        core=_with("Parted", members_class=PartedQuorums),
    ),
    Mutant("skips-gaps", "a new leader moves values up into a gap", core=_with("Skipping", leadership_class=SkipsGaps)),
    Mutant("stale-reads", "a deposed leader still serves reads", core=ServesReadsWhenDeposed),
    Mutant(
        "reads-too-soon",
        "a new leader serves reads before it has all that was chosen",
        core=_with("Soon", leadership_class=ReadsTooSoon),
    ),
    Mutant("answers-early", "an acceptor answers before its vote is durable", core=AnswersEarly),
    Mutant(
        "changes-at-once",
        "new members count from the next slot on",
        core=_with("AtOnce", members_class=ChangesAtOnce),
    ),
    Mutant(
        "asks-no-newcomers",
        "values are proposed to new members who have promised nothing",
        core=_with("NoNewcomers", preparation_class=AsksNoNewcomers),
    ),
    Mutant(
        "counts-across",
        "votes of the old members choose slots in which others vote",
        core=_with("Across", leadership_class=CountsAcross),
    ),
    Mutant(
        "tells-change-early",
        "new members are said to be in force before any of them has recorded it",
        core=TellsChangeEarly,
    ),
    Mutant(
        "silent-where-compacted",
        "a leader that asks for compacted slots hears nothing, and leads on",
        core=SilentWhereCompacted,
    ),
    Mutant(
        "reads-unasked",
        "a leader serves reads before it has asked the members of the next slot",
        core=_with("Unasked", leadership_class=ReadsUnasked),
    ),
    Mutant("stands-alone", "a sole member that restarts waits for no lease that it gave", core=StandsAlone),
    Mutant("leases-too-long", "a leader reads by a lease that is over", core=LeasesTooLong),
    Mutant("keeps-leading", "a leader whose disk hangs goes on leading", core=Clings),
    Mutant(
        "one-source",
        "a leader that cannot send its snapshot asks nobody else to",
        core=_with("OneSourced", snapshots_class=AsksNobodyElse),
    ),
)
