"""Bugs that are planted in Tendermint, each of which the simulator must catch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from quorate.kernel import Env
from quorate.ledger.comet.validators import CometValidatorSet
from quorate.ledger.validators import ValidatorSet
from quorate.parts.quorum import QuorumSystem, Threshold
from quorate.protocols.tendermint.casting import Casting
from quorate.protocols.tendermint.checkpoints import ChainCheckpoints
from quorate.protocols.tendermint.committee import Committee
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.deciding import Deciding
from quorate.protocols.tendermint.effects import (
    NO_ROUND,
    Equivocation,
    Judge,
    Lock,
    SaidOnce,
    SendVote,
    SignedProposal,
    SignedVote,
    Step,
)
from quorate.protocols.tendermint.heard import Heard
from quorate.protocols.tendermint.height import Height
from quorate.protocols.tendermint.judging import Judging
from quorate.protocols.tendermint.messages import Decision, ImagePiece, Locked, Offer, Prevote, Proposal, Valid
from quorate.protocols.tendermint.named_blocks import NamedBlock, decode_block
from quorate.protocols.tendermint.open_height import OpenHeight
from quorate.protocols.tendermint.pending import PendingRequests
from quorate.protocols.tendermint.repeating import Repeating
from quorate.protocols.tendermint.requests_app import RequestsApp
from quorate.protocols.tendermint.signing import SignState
from quorate.protocols.tendermint.transfer import ChainTransfer
from quorate.sim.mutant import Mutant

# --- in the rules ---


class NoLockRules(Height):
    """Lines 22-33 without what they say of locks."""

    def _answer(self, proposal: SignedProposal, allowed: bool) -> bool:
        return super()._answer(proposal, True)


class NilUnlocksRules(Height):
    """A quorum for nil lets a lock go."""

    def rule_44(self) -> bool:
        """And unlock."""
        fired = super().rule_44()
        if fired:
            self.locked_value, self.locked_round = None, NO_ROUND
        return fired


class ForgetfulRules(Height):
    """A proposer makes a new value, whether it has a valid one or not."""

    def _start_round(self, round: int) -> None:
        self.valid_value, self.valid_round = None, NO_ROUND
        super()._start_round(round)


class NoOldPrevotesRules(Height):
    """Prevotes of rounds that are over are dropped."""

    def on_said(self, said: SaidOnce) -> None:
        """Unless they are old."""
        if not (isinstance(said, SignedVote) and said.step is Step.PREVOTE and said.round < self.round):
            super().on_said(said)

    def on_certified(self, round: int, step: Step, value: bytes) -> None:
        """Those that a proposal shows as well."""


class OneValueRules(Height):
    """Line 47 for a quorum that precommits one value, or nil, alone."""

    def rule_47(self) -> bool:
        """Wait for that."""
        heard = self.heard
        alike = [value for round, value in heard.precommitted() if round == self.round]
        has_nil = heard.has_quorum(self.round, Step.PRECOMMIT, None)
        return bool(alike or has_nil) and super().rule_47()


class NoSkipRules(Height):
    """Nobody is followed to a later round."""

    def rule_55(self) -> bool:
        """Never."""
        return False


class ThisRoundRules(Height):
    """Decides what a quorum precommits in the current round, and in no earlier one."""

    def rule_49(self) -> bool:
        """If it was in this round."""
        alike = [value for round, value in self.heard.precommitted() if round == self.round]
        return bool(alike) and super().rule_49()


class HastyRules(Height):
    """Precommits what it prevotes, and does not wait for the others."""

    def rule_36(self) -> bool:
        """At once, with a lock."""
        for proposal in self.heard.proposals(self.round) if self.step is Step.PREVOTE else ():
            own = self.heard.vote_of(self._node, self.round, Step.PREVOTE)
            if own is not None and own.value == proposal.value:
                self.locked_value, self.locked_round = proposal.value, self.round
                self.effects.append(Lock(self.round, proposal.value))
                self._vote(Step.PRECOMMIT, proposal.value)
                return True
        return super().rule_36()


class NoTimeoutRules(Height):
    """Waits for a proposal for as long as it takes."""

    def timeout_57(self) -> None:
        """Never."""


class NoLock(Tendermint):
    rules_class = NoLockRules


class NilUnlocks(Tendermint):
    rules_class = NilUnlocksRules


class ForgetsValid(Tendermint):
    rules_class = ForgetfulRules


class NoOldPrevotes(Tendermint):
    rules_class = NoOldPrevotesRules


class OneValue(Tendermint):
    rules_class = OneValueRules


class NoSkip(Tendermint):
    rules_class = NoSkipRules


class ThisRound(Tendermint):
    rules_class = ThisRoundRules


class Hasty(Tendermint):
    rules_class = HastyRules


class NoTimeout(Tendermint):
    rules_class = NoTimeoutRules


# --- in what is counted, checked and believed ---


class SmallCommittee(Committee):
    """2f votes are a quorum of it."""

    def _stand(self, last: CometValidatorSet | None, now: ValidatorSet, after: ValidatorSet) -> None:
        super()._stand(last, now, after)
        self.quorum = Threshold(sorted(self.nodes), max(1, 2 * ((len(self.nodes) - 1) // 3)))  # type: ignore[assignment]


class SmallPowerQuorum(Tendermint):
    """2f votes are a quorum: any two may share nobody but the liars."""

    committee_class = SmallCommittee


class BelievingDeciding(Deciding):
    """Takes the word of whoever sends a decision."""

    def _proven(self, m: Decision) -> NamedBlock | None:
        """Unseen, as far as it is a block."""
        try:
            return decode_block(m.block)
        except ValueError:
            return None


class BelievesProvenDecisions(Tendermint):
    deciding_class = BelievingDeciding


class CredulousHeight(OpenHeight):
    """Lets a proposal show prevotes that are none."""

    def proves(self, proof: bytes | None, round: int, block: NamedBlock) -> bool:
        """Anything that looks like a proof."""
        return proof is not None


class BelievesCertificates(Tendermint):
    open_class = CredulousHeight


class UncheckedHeight(OpenHeight):
    """Counts votes that nobody signed."""

    def on_vote(self, m: Prevote) -> str | None:
        """Unseen."""
        step = Step.PREVOTE if type(m) is Prevote else Step.PRECOMMIT
        self.rules.on_said(SignedVote(m.node, step, m.round, m.value, m.signature, m.time_ns))
        return None


class BelievesVotes(Tendermint):
    open_class = UncheckedHeight


class BelievingRequests(PendingRequests):
    """Whatever is proposed is valid."""

    def judge(self, proposed: bytes, values: Sequence[bytes]) -> bool | None:
        """Unseen."""
        return True


class BelievingApp(RequestsApp):
    pending_class = BelievingRequests


class BelievesProposers(Tendermint):
    """Prevotes for requests that no client signed."""

    app_class = BelievingApp


class BelievingJudging(Judging):
    """Prevotes for blocks that do not follow on the chain, if their requests are signed."""

    def on_judge(self, effect: Judge) -> None:
        """The app's word alone."""
        self._app.process(self._current.open.block_of(effect.value))


class BelievesBlocks(Tendermint):
    judging_class = BelievingJudging


class TimelessHeard(Heard):
    """Votes count whatever time they say."""

    def add(self, said: SaidOnce) -> Equivocation | None:
        """As if no value had a time."""
        return super().add(replace(said, carried_ns=-1) if isinstance(said, SignedProposal) else said)


class TimelessRules(Height):
    """With votes of any time."""

    def __init__(self, node: int, quorum: QuorumSystem, proposer_of: Callable[[int], int]) -> None:
        super().__init__(node, quorum, proposer_of)
        self.heard = TimelessHeard(quorum, proposer_of)


class AnyTime(Tendermint):
    rules_class = TimelessRules


class BelievingCheckpoints(ChainCheckpoints):
    """Takes any offer for proven."""

    def is_proven(self, m: Offer) -> bool:
        """Unseen."""
        return True


class BelievesOffers(Tendermint):
    checkpoints_class = BelievingCheckpoints


class BelievingTransfer(ChainTransfer):
    """Stores whatever a source sends."""

    def _is_piece(self, m: ImagePiece) -> bool:
        """Unseen."""
        return True


class BelievesPieces(Tendermint):
    transfer_class = BelievingTransfer


# --- in what is durable ---


class ForgetsSignatures(Tendermint):
    """Does not know after a restart what it signed."""

    def restore(self, record: Any) -> None:
        """All but votes and proposals."""
        if not isinstance(record, Proposal | Prevote):
            super().restore(record)


class ForgetsTheLock(Tendermint):
    """Comes back without its lock."""

    def restore(self, record: Any) -> None:
        """All but locks and valid values."""
        if not isinstance(record, Locked | Valid):
            super().restore(record)


class HastyCasting(Casting):
    """Votes leave before they are durable."""

    def on_send_vote(self, effect: SendVote) -> None:
        vote = self._signed_vote(effect)
        if vote is not None:
            self._env.send_now(self._env.others, vote)  # the bug
            self._env.send(self._env.id, vote)


class SendsAtOnce(Tendermint):
    casting_class = HastyCasting


class UnrecordedSignatures(SignState):
    """Signs a vote, and writes nothing down."""

    def vote(self, step: Step, round: int, value: bytes | None, time_ns: int) -> Prevote | None:
        """In memory."""
        persist, self._env = self._env, _Muted(self._env)  # type: ignore[assignment]
        try:
            return super().vote(step, round, value, time_ns)
        finally:
            self._env = persist


class _Muted:
    """An Env that persists nothing."""

    def __init__(self, env: Env) -> None:
        self.id = env.id

    def persist(self, record: Any) -> None:
        """Nothing."""


class RecordsNoVotes(Tendermint):
    signing_class = UnrecordedSignatures


# --- in what nodes tell each other ---


class SparingRepeating(Repeating):
    """Votes are sent once, and no others' are passed on."""

    def _is_waiting(self) -> bool:
        return False


class TellsNothing(Tendermint):
    repeating_class = SparingRepeating


class HelpsNobody(Tendermint):
    """Who is behind is not sent decisions."""

    def on_here(self, sender: int, m: Any) -> None:
        """Ignored."""


MUTANTS = (
    Mutant("no-lock", "a node prevotes against its lock", core=NoLock),
    Mutant("nil-unlocks", "a quorum for nil lets a lock go", core=NilUnlocks),
    Mutant("forgets-valid", "a proposer with a valid value proposes another", core=ForgetsValid),
    Mutant("no-old-prevotes", "prevotes of earlier rounds are dropped", core=NoOldPrevotes, lies=True),
    Mutant("one-value", "the timeout of precommits waits for a quorum for one value", core=OneValue, lies=True),
    Mutant("no-skip", "nobody is followed to a later round", core=NoSkip),
    Mutant("no-timeout", "a node waits for a proposal for ever", core=NoTimeout),
    Mutant("this-round", "precommits of an earlier round decide nothing", core=ThisRound),
    Mutant("hasty", "a node precommits what it prevoted itself", core=Hasty),
    Mutant("small-quorum", "2f votes are a quorum", core=SmallPowerQuorum),
    Mutant("believes-decisions", "a decision is taken without a proof", core=BelievesProvenDecisions, lies=True),
    Mutant("believes-certificates", "any certificate proves prevotes", core=BelievesCertificates, lies=True),
    Mutant("believes-votes", "votes count that nobody signed", core=BelievesVotes, lies=True),
    Mutant("believes-proposers", "what is proposed need not be signed", core=BelievesProposers, lies=True),
    Mutant("believes-blocks", "what is proposed need not follow on the chain", core=BelievesBlocks, lies=True),
    Mutant("believes-offers", "a snapshot is taken without a quorum's word for it", core=BelievesOffers, lies=True),
    Mutant("believes-pieces", "pieces of a snapshot are not checked", core=BelievesPieces, lies=True),
    Mutant("any-time", "votes count that are older than their blocks", core=AnyTime, lies=True),
    Mutant("forgets-signatures", "a node that restarts may sign something else", core=ForgetsSignatures),
    Mutant("forgets-lock", "a node that restarts has locked nothing", core=ForgetsTheLock),
    Mutant("sends-at-once", "votes leave before they are durable", core=SendsAtOnce),
    Mutant("records-no-votes", "votes are not written down", core=RecordsNoVotes),
    Mutant("tells-nothing", "votes that are lost stay lost", core=TellsNothing),
    Mutant("helps-nobody", "who is behind stays behind", core=HelpsNobody),
)
