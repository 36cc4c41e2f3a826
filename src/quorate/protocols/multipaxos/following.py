"""Following: what a node does whoever leads. It recovers, follows the leader that it hears, learns what is chosen, and
when it hears none asks whether it could lead. ``core.py`` builds the phases of Paxos on this.

Whom it knows follows from what is chosen: it meets who joined, and parts from who left when no open slot needs that
node's vote and it does not lead. When all slots of some members are chosen, that is recorded before anything that
follows is answered: otherwise a node that restarts would ask members who may be gone (``_learn``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from quorate.kernel import Core, Env, Standing
from quorate.kernel.standing import FOLLOWER, LEADER, LEARNER
from quorate.parts.ballot import NO_BALLOT, Ballot
from quorate.parts.leaderlog.acquaintances import Acquaintances, NodesKnown
from quorate.parts.leaderlog.config import ELECTION, HEARTBEAT
from quorate.parts.leaderlog.handover import Handover
from quorate.parts.leaderlog.lease import Lease
from quorate.parts.leaderlog.preference import Preference
from quorate.parts.leaderlog.reads import Reads
from quorate.parts.leaderlog.returns import Returned
from quorate.parts.leaderlog.watch import Watch
from quorate.parts.log.configuration import InForce, Nodes, Reconfigurable, Voters, decode_change
from quorate.parts.log.entries import CONFIGURATION, NOOP, RETURN, Entry
from quorate.parts.log.replicated import Dropped, Journaled, Restored, Survivor
from quorate.parts.votes.tally import Tally
from quorate.protocols.multipaxos.acceptor import Acceptor
from quorate.protocols.multipaxos.leadership import Leadership
from quorate.protocols.multipaxos.membership import Spans
from quorate.protocols.multipaxos.messages import (
    Membership,
    MultiPaxosConfig,
    Nack,
    Poll,
    PollReply,
    Promised,
    Snapshotted,
    TakeOver,
    Voted,
)
from quorate.protocols.multipaxos.preparation import Preparation
from quorate.protocols.multipaxos.slot_snapshots import Snapshots

POLLING = "polling"
PREPARING = "preparing"


class Following(Core, Reconfigurable, Journaled, Survivor):
    """The half of a node that does not propose."""

    acceptor_class: ClassVar[type[Acceptor]] = Acceptor
    members_class: ClassVar[type[Spans]] = Spans
    preparation_class: ClassVar[type[Preparation]] = Preparation
    snapshots_class: ClassVar[type[Snapshots]] = Snapshots
    handover_class: ClassVar[type[Handover]] = Handover
    preference_class: ClassVar[type[Preference]] = Preference

    def __init__(self, env: Env, config: MultiPaxosConfig = MultiPaxosConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__(env)
        self.config = config
        self.members = self.members_class(config, env.peers)
        self.acceptor = self.acceptor_class(env, config)  # durable
        self.role = FOLLOWER
        self.ballot: Ballot = NO_BALLOT
        """Of the leader that was heard last, or our own."""
        self.delivered_index = 0
        self._seen_round = 0
        self._waited = False
        self.stalled: str | None = None
        """Why the disk takes nothing, while it does not."""
        self._owes_answer = False
        self._told_chosen = 0
        """Up to where all is chosen, by what leaders said; the log may not reach so far yet."""
        self._yields = False
        """Whether we led, were too far behind to go on, and leave the next election to others."""
        self._acquaintances = Acquaintances(env)
        self._snapshots = self.snapshots_class(env, config, self.acceptor, self.members)
        self._compactor = self._snapshots.compactor
        self._reads = Reads(env, config.reads_pending_max, 2 * config.election_timeout_s_min)
        self._watch = Watch(env, ELECTION, config, self._reads)
        # Of a proposer.
        self._serial = 0
        self._poll: Tally | None = None
        self._preparation = self.preparation_class(NO_BALLOT)
        self.leadership: Leadership | None = None
        self._lease: Lease | None = None
        self._is_new = False  # it leads since this step, and nobody has heard of it
        self._leave: Ballot = NO_BALLOT
        """Of a leader that made way for our ballot."""
        self._heard_ballot: Ballot = NO_BALLOT
        """Of the leader that was heard last in this life."""
        self._began_at = env.now
        self.handover = self.handover_class(env, config, self._ask_to_lead)
        self.preference = self.preference_class(env, config, self.handover)

    @property
    def leader(self) -> int | None:
        """Whom this node follows, itself if it leads."""
        return self._watch.leader

    @property
    def term(self) -> int:
        """The round of the ballot."""
        return self.ballot[0]

    @property
    def commit_index(self) -> int:
        """The last slot before which all is known to be chosen, itself included."""
        return self.acceptor.chosen_index

    @property
    def stands_on(self) -> int:
        """As ``Journaled.stands_on``."""
        return self.acceptor.snapshot_index

    @property
    def log_end(self) -> int:
        """As ``Journaled.log_end``. What an older ballot accepted may stand apart until it is known to be chosen."""
        return max([self.acceptor.log.last_index, *self.acceptor.ahead])

    @property
    def voters(self) -> Voters:
        """Who votes, and who will where that is known to be others.

        New members are in force once their first slot is chosen, and not as soon as the next slot is theirs. By then a
        phase-2 quorum of them has recorded that they are: they go on without the others, even if all restart.
        """
        slot = self.acceptor.chosen_index
        later = self.members.after(slot)
        return Voters(self.members.at(slot).members, later[-1].members if later else (), self.members.epoch)

    @property
    def nodes(self) -> Nodes:
        """Which nodes have come and gone, by what is known to be chosen."""
        return self.members.nodes

    def standing(self) -> Standing:
        """As ``Core.standing``; one that does not vote in the next slot is a learner."""
        role, chosen = self.role, self.acceptor.chosen_index
        is_member = self.members.at(chosen + 1).mask >> self.env.id & 1
        if self.acceptor.has_forgotten or (role == FOLLOWER and not is_member):
            role = LEARNER
        return Standing(role, self._watch.leader, self.ballot[0], chosen)

    def in_force(self) -> InForce:
        """As ``Reconfigurable.in_force``."""
        return InForce(self.voters, self.nodes)

    @property
    def founders(self) -> tuple[int, ...]:
        """The nodes that the cluster began with."""
        return self.members.founders

    # --- recovery ---

    def unrepairable(self) -> str:
        """As ``Core.unrepairable``: the others must be quorums of both phases without this node."""
        quorums, bit = self.members.spans[0].quorums, 1 << self.env.id
        for phase, system in (("first", quorums.phase1), ("second", quorums.phase2)):
            if system.is_blocking(bit):
                return f"without this node there is no quorum for the {phase} phase ({system!r})"
        return ""

    def surviving(self) -> list[Entry]:
        """As ``Survivor.surviving``: as after phase 1 with nobody but itself; a no-op in each gap."""
        acceptor = self.acceptor
        log, ahead = acceptor.log, acceptor.ahead
        entries = log.slice(acceptor.snapshot_index + 1, log.last_index)
        for slot in range(log.last_index + 1, max(ahead, default=0) + 1):
            entries.append(ahead[slot][1] if slot in ahead else Entry(log.last_term, b"", NOOP))
        return entries

    @staticmethod
    def founded_on(index: int, term: int, members: tuple[int, ...]) -> list[Any]:
        """As ``Survivor.founded_on``. All have promised one ballot, the lowest there is in that round."""
        founders = (Membership(1, members),)
        return [Snapshotted(index, term, index, term, founders), Promised((max(term, 1), min(members)), index)]

    def restore(self, record: Promised | Voted | Snapshotted | Returned) -> None:
        """Take back the durable state, record by record."""
        self.acceptor.restore(record)
        if isinstance(record, Snapshotted):
            self._snapshots.restore(record)

    def checkpoint(self) -> Iterable[Any]:
        """The durable state as it is now."""
        if (record := self._snapshots.record()) is not None:
            yield record
        yield from self.acceptor.checkpoint()

    def start(self) -> None:
        """What was recorded as chosen is delivered; a leader says the rest."""
        acceptor = self.acceptor
        if acceptor.log.last_index < acceptor.chosen_index:
            raise ValueError(
                f"the journal's snapshot stands at {acceptor.snapshot_index}, but its log ends at "
                f"{acceptor.log.last_index}: records are missing"
            )
        self.delivered_index = acceptor.snapshot_index
        if acceptor.snapshot_index:
            self.env.deliver(Restored(acceptor.snapshot_index, acceptor.snapshot_term))
        self._note_members(acceptor.snapshot_index + 1)
        self._keep_roster()
        self.ballot = acceptor.promised
        if self.config.lease_s is not None:
            # An earlier life may have heard a leader just now, who reads by lease.
            self._watch.heard_at = self._began_at = self.env.now
        self._become_follower(self.ballot, None)
        if self.members.at(acceptor.chosen_index + 1).members == (self.env.id,):
            self._stand()  # alone, there is nobody to wait for

    def on_hung_up(self, node: int) -> None:
        """The process of the leader has ended, perhaps: ask soon whether this node could lead."""
        if self.role == FOLLOWER and node == self._watch.leader:
            self._watch.hung_up()

    def on_stalled(self, why: str | None) -> None:
        """A leader that cannot write must not keep the others from having one that can; nor may it become one."""
        self.stalled = why
        if why is not None and self.role != FOLLOWER:
            if self.leadership is not None:
                self._give_up_lease()
                self.handover.ask_at_once(self.leadership.followers, self._voting(self.leadership))
            self._become_follower(self.ballot, None)

    # --- roles ---

    def _become_follower(self, ballot: Ballot, leader: int | None) -> None:
        if self.role in (PREPARING, LEADER):
            self.env.cancel_timer(HEARTBEAT)
        if self.leadership is not None:
            self._resign(self.leadership)
        self.role = FOLLOWER
        self.ballot = ballot
        self._owes_answer = False
        self._follow(leader)
        if leader is not None or not self._watch.alarm.is_set:
            self._watch.rest()

    def _resign(self, leadership: Leadership) -> None:
        self.leadership = self._lease = None
        self.handover.resigned()
        self._reads.resign()
        if leadership.queue:
            dropped = tuple(entry.data for entry in leadership.queue if entry.kind != RETURN)
            self.env.deliver(Dropped(dropped, "leadership was lost"))

    def _follow(self, leader: int | None) -> None:
        """Note who leads, and tell those above."""
        if self._watch.follow(self.ballot, self.term, leader) and self._acquaintances.leaving:
            self._part()

    def _hears_leader(self, leave: Ballot = NO_BALLOT) -> bool:
        """Whether a leader was heard within the shortest time-out, which is no shorter than a lease, or is us.

        One that has given ``leave`` counts no more: it reads by no lease in that ballot, now or later. But it must be
        the one that was heard: what else was confirmed, perhaps by an earlier life, may be the lease of another.
        """
        if leave != NO_BALLOT and self._may_go(leave):
            return False
        return self.role == LEADER or self._watch.heard_lately()

    def _may_go(self, leave: Ballot) -> bool:
        if self.role == LEADER:
            return leave == self.ballot and self._lease is None
        lasts = self.config.lease_s is not None and self.env.now - self._began_at < self.config.election_timeout_s_min
        return leave == self._heard_ballot and not lasts

    def _accept_leader(self, sender: int, ballot: Ballot) -> bool:
        """A message that only a leader sends: follow it, unless a higher ballot was promised (P1a)."""
        acceptor = self.acceptor
        if ballot[1] != sender or ballot[0] == 0 or sender == self.env.id:
            self.env.blame(sender, "leads with a ballot that is not its own")
            return False
        if ballot < acceptor.promised:
            self.env.send(sender, Nack(ballot, acceptor.promised))
            return False
        if ballot > acceptor.ballot:
            acceptor.follow(ballot)
        if self._watch.leader != sender or ballot != self.ballot or self.role != FOLLOWER:
            self._become_follower(ballot, sender)
        self._watch.heard()
        self._heard_ballot = ballot
        self._waited = False
        return True

    # --- the poll, before anything is promised ---

    def _stand(self) -> None:
        """Nobody leads: ask whether we could, before a ballot is used."""
        self._watch.rest()
        if self._hears_leader():
            return  # our own promise waits like those to others: an earlier life may have confirmed a lease
        if self._yields:
            self._yields = False
            return
        waited, self._waited = self._waited, True
        if self.stalled is not None or self.acceptor.has_forgotten or not (waited or self._is_member()):
            return  # who is no member leads only where no member does: one that does not know yet that it is one
        span = self.members.at(self.acceptor.chosen_index + 1)
        if self.role == PREPARING:
            self.env.cancel_timer(HEARTBEAT)
        self.role = POLLING
        self._follow(None)
        self._serial += 1
        self._poll = Tally(span.quorums.phase1)
        # No durable state: nothing is promised yet.
        self.env.send_now(self.env.others, Poll(self._serial, self.acceptor.chosen_index))
        if self._poll.add(self.env.id):
            self._prepare()

    def _is_member(self) -> bool:
        """Whether this node's votes count in a slot that is not chosen yet."""
        return bool(self.members.voting_from(self.acceptor.chosen_index + 1) >> self.env.id & 1)

    def _prepare(self, leave: Ballot = NO_BALLOT) -> None:
        """Stand, now that it seems possible: phase 1a. ``leave``: of a leader that made way."""
        raise NotImplementedError

    # --- another leader in place of this one ---

    @property
    def is_handing_over(self) -> bool:
        """As ``Core.is_handing_over``."""
        return self.handover.is_under_way

    def hand_over(self, to: int | None = None) -> None:
        """As ``Core.hand_over``. It gives up its lease first, for good: another may lead before that would be over."""
        if self.leadership is not None and self.env.others and to != self.env.id:
            self._give_up_lease()
            self.handover.begin(to)

    def why_not_hand_over(self, to: int | None = None) -> str | None:
        """As ``Core.why_not_hand_over``."""
        if self.leadership is None:
            return "this node does not lead"
        followers, last_index = self.leadership.followers, self.acceptor.log.last_index
        return self.handover.why_not(followers, self._voting(self.leadership), last_index, to)

    def _voting(self, leadership: Leadership) -> int:
        """The mask of those whose votes count in the next slot."""
        return self.members.at(self.acceptor.chosen_index + 1).mask & ~leadership.followers.forgetful

    def _give_up_lease(self) -> None:
        self._lease = None

    def _ask_to_lead(self, node: int) -> None:
        # The ballot is durable, and a lease does not outlive us.
        self.env.send_now(node, TakeOver(self.ballot))

    def on_take_over(self, sender: int, m: TakeOver) -> None:
        """The leader wants us to lead: no poll, as those who hear it would say no."""
        if self._accept_leader(sender, m.ballot) and self.stalled is None and not self.acceptor.has_forgotten:
            if self._is_member() and not self._hears_leader(m.ballot):
                self._prepare(m.ballot)

    def _could_follow(self, chosen_index: int) -> bool:
        """Whether a candidate that knows so much can be told the rest: it is not compacted, and is not too much."""
        acceptor = self.acceptor
        return acceptor.log.base_index <= chosen_index and acceptor.chosen_index - chosen_index <= self.config.alpha

    def on_poll(self, sender: int, m: Poll) -> None:
        """Yes, if we hear no leader and could tell the candidate what it lacks: of nodes that may call it, for one."""
        may_promise = not self._hears_leader() and not self.acceptor.has_forgotten
        granted = may_promise and self._could_follow(m.chosen_index)
        # An opinion, not a promise: rests on no durable state.
        self.env.send_now(sender, PollReply(m.serial, granted, self.acceptor.promised))
        if self.nodes.joined and m.chosen_index < self.acceptor.chosen_index:
            # What is chosen is durable at a quorum.
            self.env.send_now(sender, NodesKnown(self.nodes))

    def on_nodes_known(self, sender: int, m: NodesKnown) -> None:
        """We hear no leader, perhaps as it joined while we were away: then we did not take its calls."""
        if self.role == POLLING:
            self._acquaintances.introduced(m.nodes, self.founders)

    def on_poll_reply(self, sender: int, m: PollReply) -> None:
        """A phase-1 quorum of yeses: begin."""
        self._seen_round = max(self._seen_round, m.promised[0])
        is_answer = self.role == POLLING and m.serial == self._serial and self._poll is not None
        if is_answer and m.granted and self._poll is not None and self._poll.add(sender):
            self._prepare()

    # --- learning ---

    def _hear_chosen(self, index: int) -> None:
        """The leader says that all up to a slot is chosen. What is not here yet counts when the gap closes."""
        if index > self._told_chosen:
            self._told_chosen = index
        if self._told_chosen > self.acceptor.chosen_index:
            self._learn(min(self._told_chosen, self.acceptor.log.last_index))

    def _learn(self, index: int) -> None:
        """All up to a slot is chosen, and is here."""
        acceptor = self.acceptor
        if index > acceptor.chosen_index:
            first = acceptor.chosen_index + 1
            acceptor.chosen_index = index
            self._note_members(first)
            if self.members.begins_in(first + 1, index + 1):
                acceptor.record_chosen()
            if self._acquaintances.leaving:
                self._part()

    def _note_members(self, first: int) -> None:
        entries = self.acceptor.log.slice(first, self.acceptor.chosen_index)
        self.acceptor.settle_returns(self._snapshots.returns.note(first, entries))
        if CONFIGURATION in [entry.kind for entry in entries]:
            for slot, entry in enumerate(entries, first):
                if entry.kind == CONFIGURATION and (change := decode_change(entry.data)) is not None:
                    self.members.check_own(self.env.id, change)
                    self.members.add(slot, change)
            self._keep_roster()
            if self.leadership is not None:
                self.leadership.prepare_newcomers()

    # --- who is there ---

    def _keep_roster(self) -> None:
        """Meet who joined. It follows from the founders and what is chosen, so every life of a node finds the same."""
        nodes, needed = self.members.nodes, self.members.voting_from(self.acceptor.chosen_index + 1)
        for node in self._acquaintances.meet(nodes, nodes.left, needed):
            if self.leadership is not None:
                self.leadership.met(node)
        if self._acquaintances.leaving:
            self._part()

    def _part(self) -> None:
        """From those who left, as soon as they are not needed."""
        needed = self.members.voting_from(self.acceptor.chosen_index + 1)
        for node in self._acquaintances.part(needed, self.leader):
            if self.leadership is not None:
                self.leadership.parted(node)
