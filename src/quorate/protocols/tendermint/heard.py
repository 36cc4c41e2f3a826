"""Heard: what nodes said of one height, by round, and which quorums that makes.

How it works. Of each node one vote a round and step counts: the first. A second that differs is an Equivocation, and
does not count. So is the second proposal of a round; that is kept all the same, for a quorum may have taken it. Votes
of old rounds are kept to the end of the height, since they may still decide it, or let a lock go.

Bounds against nodes that lie. A node can say something of every round there may ever be. Rounds up to FAR_ROUNDS beyond
the current one are kept in full. Of those further ahead, each node has but one: the latest that it spoke of; what it
said of others there is forgotten. So what is kept is for the rounds that were entered, the next few, and one more a
node. A correct node goes through its rounds upwards, so what is forgotten of it is of a round that it has left.

A vote says when it was cast, and one for a value that is not later than the value's own time is no vote for it: no
correct node casts such a one. Whether it is, is known when the value is; it counts as one of any kind until then, and
after it.

Progress does not suffer: correct nodes repeat what they said last, those who wait for each other are in one round in
the end, and that is then the latest that each of them spoke of; f + 1 of them are enough for this node to follow. What
it lacks of earlier rounds is shown to it by certificates, with a proposal or with a decision.

Source: the message log of arXiv 1807.04938, algorithm 1, whose rules ask for quorums in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from quorate.kernel import mask_of
from quorate.parts.quorum import QuorumSystem
from quorate.parts.votes.tally import Tally
from quorate.protocols.tendermint.effects import Equivocation, SaidOnce, SignedProposal, SignedVote, Step, ValueId

FAR_ROUNDS: Final = 8
"""Rounds ahead of the current one of which everything is kept."""
PROPOSALS_MAX: Final = 2
"""Of one round, unless votes show that a correct node took another. Two are enough to show that the proposer lied."""


class RoundVotes:
    """The votes of one round and step."""

    __slots__ = ("_any", "_by_value", "_certified", "_quorum", "by_node", "has_any", "quorums", "void")

    def __init__(self, quorum: QuorumSystem) -> None:
        self._quorum = quorum
        self._any = Tally(quorum)
        self._by_value: dict[ValueId | None, Tally] = {}
        self._certified: set[ValueId | None] = set()
        self.by_node: dict[int, SignedVote] = {}
        self.void = 0
        """The mask of those whose vote counts for no value."""
        self.has_any = False
        """Whether a quorum voted, each for whatever it liked."""
        self.quorums: list[ValueId | None] = []
        """What a quorum voted for alike. There are two only if a third of all power lies."""

    def add(self, vote: SignedVote) -> None:
        """Count the first vote of a node."""
        self.by_node[vote.node] = vote
        if self._any.add(vote.node):
            self.has_any = True
        self._count(vote)

    def _count(self, vote: SignedVote) -> None:
        if self.void >> vote.node & 1:
            return
        tally = self._by_value.get(vote.value)
        if tally is None:
            tally = self._by_value[vote.value] = Tally(self._quorum)
        if tally.add(vote.node) and vote.value not in self.quorums:
            self.quorums.append(vote.value)

    def certify(self, value: ValueId | None) -> None:
        """It was shown that a quorum voted for this."""
        self._certified.add(value)
        if value not in self.quorums:
            self.quorums.append(value)

    def void_until(self, value: ValueId, time_ns: int) -> None:
        """Votes for this that are not later count no more, and its quorum is counted anew."""
        early = [v.node for v in self.by_node.values() if v.value == value and v.time_ns <= time_ns]
        if not early:
            return
        self.void |= mask_of(early)
        self._by_value.pop(value, None)
        if value in self.quorums and value not in self._certified:
            self.quorums.remove(value)
        for vote in self.by_node.values():
            if vote.value == value:
                self._count(vote)

    def supported(self) -> list[ValueId]:
        """All values of which that is so."""
        values = [*self._by_value, *[value for value in self.quorums if value not in self._by_value]]
        return [value for value in values if value is not None and self.is_supported(value)]

    def is_supported(self, value: ValueId) -> bool:
        """Whether f + 1 voted for it, so a correct node among them."""
        tally = self._by_value.get(value)
        return value in self.quorums or (tally is not None and self._quorum.is_blocking(tally.nodes))


class Heard:
    """Of one height. Whoever adds to it has checked the signatures."""

    def __init__(self, quorum: QuorumSystem, proposer_of: Callable[[int], int]) -> None:
        """``proposer_of``: by round. It is asked for no round that is far ahead."""
        self._quorum = quorum
        self._proposer_of = proposer_of
        self._votes: dict[tuple[int, Step], RoundVotes] = {}
        self._proposals: dict[int, list[SignedProposal]] = {}
        self._senders: dict[int, int] = {}  # by round, the mask of those who said anything of it
        self._far: dict[int, list[SaidOnce]] = {}  # by node, all of one round
        self._horizon = FAR_ROUNDS
        self._times: dict[ValueId, int] = {}  # of the values of the proposals that are kept
        self._shown: set[tuple[int, int, Step]] = set()  # who equivocated, in which round and step
        self._speakers = 0  # the mask of those who said anything
        self.reached = 0
        """The latest round of which f + 1 nodes said something; 0 where they never did."""

    # --- asked by the rules ---

    def proposals(self, round: int) -> tuple[SignedProposal, ...]:
        """Those of the round's proposer, in the order in which they came."""
        return tuple(self._proposals.get(round, ()))

    def votes(self, round: int, step: Step) -> tuple[SignedVote, ...]:
        """Those that count."""
        its = self._votes.get((round, step))
        return () if its is None else tuple([v for v in its.by_node.values() if not its.void >> v.node & 1])

    def vote_of(self, node: int, round: int, step: Step) -> SignedVote | None:
        """The first."""
        its = self._votes.get((round, step))
        return None if its is None else its.by_node.get(node)

    def every_proposal(self) -> Iterator[SignedProposal]:
        """Of all rounds that are not far ahead."""
        for its in self._proposals.values():
            yield from its

    def is_near(self, round: int) -> bool:
        """Whether everything that is said of this round is kept."""
        return 0 <= round <= self._horizon

    def supported_count(self, round: int) -> int:
        """How many values f + 1 nodes voted for in this round, so a correct node among them: two a step at most."""
        votes = [self._votes.get((round, step)) for step in (Step.PREVOTE, Step.PRECOMMIT)]
        return len({value for its in votes if its is not None for value in its.supported()})

    @property
    def is_awaited(self) -> bool:
        """Whether a proposer has proposed, or f + 1 nodes have said anything at all, so a correct node among them."""
        return bool(self._proposals) or self._quorum.is_blocking(self._speakers)

    def has_quorum(self, round: int, step: Step, value: ValueId | None) -> bool:
        """Whether a quorum voted for this in the round."""
        its = self._votes.get((round, step))
        return its is not None and value in its.quorums

    def has_any_quorum(self, round: int, step: Step) -> bool:
        """Whether a quorum voted in the round, be it for different values."""
        its = self._votes.get((round, step))
        return its is not None and its.has_any

    def precommitted(self) -> Iterator[tuple[int, ValueId]]:
        """Every round in which a quorum precommitted a value, and that."""
        for (round, step), its in self._votes.items():
            if step is Step.PRECOMMIT:
                for value in its.quorums:
                    if value is not None:
                        yield round, value

    # --- told ---

    def enter(self, round: int) -> list[Equivocation]:
        """The node is in this round; what was far ahead may be near now."""
        self._horizon = max(self._horizon, round + FAR_ROUNDS)
        near = [node for node, said in sorted(self._far.items()) if said[0].round <= self._horizon]
        found = [self.add(one) for node in near for one in self._far.pop(node)]
        return [one for one in found if one is not None]

    def add(self, said: SaidOnce) -> Equivocation | None:
        """Keep what a node said, as far as there is room for it; what it contradicts of the same node, once."""
        if not self._quorum.members >> said.node & 1 or said.round < 0:
            return None
        if said.round > self._horizon:
            self._park(said)
            return None
        other = self._add_vote(said) if isinstance(said, SignedVote) else self._add_proposal(said)
        return None if other is None else self.contradict(other, said)

    def contradict(self, other: SaidOnce, said: SaidOnce) -> Equivocation | None:
        """Two of one node, round and step that differ; None: such are known."""
        if (shown := (said.node, said.round, said.step)) in self._shown:
            return None
        self._shown.add(shown)
        return Equivocation(other, said)

    def certify(self, round: int, step: Step, value: ValueId | None) -> None:
        """A certificate shows that a quorum voted for this, whatever its nodes said here."""
        if self.is_near(round):
            self._of(round, step).certify(value)

    def _add_vote(self, vote: SignedVote) -> SaidOnce | None:
        its = self._of(vote.round, vote.step)
        known = its.by_node.get(vote.node)
        if known is None:
            if vote.value is not None and vote.time_ns <= self._times.get(vote.value, -1):
                its.void |= 1 << vote.node
            its.add(vote)
            self._note(vote.node, vote.round)
            return None
        return known if known.content != vote.content else None

    def _add_proposal(self, proposal: SignedProposal) -> SaidOnce | None:
        if proposal.node != self._proposer_of(proposal.round):
            return None
        self._note(proposal.node, proposal.round)
        its = self._proposals.setdefault(proposal.round, [])
        if any(one.content == proposal.content for one in its):
            return None
        if len(its) < PROPOSALS_MAX or self._is_supported(proposal):
            its.append(proposal)
            self._times[proposal.value] = proposal.carried_ns
            for votes in self._votes.values():
                votes.void_until(proposal.value, proposal.carried_ns)
        return its[0] if its[0] is not proposal else None

    def _is_supported(self, proposal: SignedProposal) -> bool:
        votes = [self._votes.get((proposal.round, step)) for step in (Step.PREVOTE, Step.PRECOMMIT)]
        return any(its is not None and its.is_supported(proposal.value) for its in votes)

    def _park(self, said: SaidOnce) -> None:
        """The first of each kind, of the latest round that the node spoke of. It is not looked at any closer."""
        parked = self._far.setdefault(said.node, [])
        if parked and said.round < parked[0].round:
            return
        if parked and said.round > parked[0].round:
            parked.clear()
        if all(one.step is not said.step for one in parked):
            parked.append(said)
        self._speakers |= 1 << said.node
        there = mask_of([node for node, its in self._far.items() if its[0].round == said.round])
        self._reach(said.round, there)

    def _note(self, node: int, round: int) -> None:
        self._speakers |= 1 << node
        senders = self._senders[round] = self._senders.get(round, 0) | 1 << node
        self._reach(round, senders)

    def _reach(self, round: int, senders: int) -> None:
        if round > self.reached and self._quorum.is_blocking(senders):
            self.reached = round

    def _of(self, round: int, step: Step) -> RoundVotes:
        its = self._votes.get((round, step))
        if its is None:
            its = self._votes[round, step] = RoundVotes(self._quorum)
        return its
