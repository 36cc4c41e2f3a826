"""OpenHeight: the height that is being decided. It gives the rules what they ask of messages: checked, and by digest.

The rules know values and quorums by their digests. Here are the values themselves, with the proposals that brought
them, and the certificates. What a node says is looked at in this order: is it well formed, is it known already, who
signed it. In the paper gossip brings every vote to everybody in the end; here certificates do that for votes of rounds
long past, and show what a quorum voted where a liar told this node something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from quorate.parts.crypto.keys import Keys
from quorate.parts.votes.certificate import Certificate, verify
from quorate.parts.votes.evidence import Conflict, Said, conflict
from quorate.protocols.tendermint.committee import Committee
from quorate.protocols.tendermint.effects import (
    NO_ROUND,
    Equivocation,
    SignedProposal,
    SignedVote,
    Step,
)
from quorate.protocols.tendermint.height import Height
from quorate.protocols.tendermint.messages import (
    PROPOSAL,
    Precommit,
    Prevote,
    Proposal,
    batch_id,
    proposal_statement,
    step_of,
    vote_context,
    vote_statement,
)

MakeRules = Callable[..., Height]


class OpenHeight:
    """``rules`` is algorithm 1. What takes a message returns why it is wrong; None: there is nothing wrong."""

    def __init__(self, number: int, keys: Keys, committee: Committee, make_rules: MakeRules = Height) -> None:
        self.number = number
        self._keys = keys
        self._committee = committee
        self.rules = make_rules(keys.node, committee.quorum, committee.proposer)
        self._proofs: dict[tuple[int, Step, bytes], Certificate] = {}  # those that others showed

    # --- in ---

    def on_proposal(self, sender: int, m: Proposal) -> str | None:
        """Of this height. It is kept if it is the proposer's."""
        is_new = m.valid_round == NO_ROUND
        if m.valid_round >= m.round or is_new != (m.proof is None):
            return "sent a proposal that no rule allows"
        heard = self.rules.heard
        if heard.is_near(m.round) and self._committee.proposer(m.round) != sender:
            return "proposed out of turn"
        value = batch_id(m.values)
        is_shown = is_new or heard.has_quorum(m.valid_round, Step.PREVOTE, value)
        said = SignedProposal(sender, m.round, value, m.valid_round, m.signature, m.values)
        if is_shown and any(said.content == known.content for known in heard.proposals(m.round)):
            return None
        statement = proposal_statement(m.height, m.round, value, m.valid_round)
        if not self._keys.verify(sender, PROPOSAL, statement, m.signature):
            return "sent a proposal that it did not sign"
        if not is_shown:
            if not self.proves(m.proof, Step.PREVOTE, m.valid_round, value):
                return "proposed something again without a proof that a quorum prevoted it"
            assert m.proof is not None
            if heard.is_near(m.round):
                self._proofs[m.valid_round, Step.PREVOTE, value] = m.proof
                self.rules.on_certified(m.valid_round, Step.PREVOTE, value)
        self.rules.on_said(said)
        return None

    def on_vote(self, m: Prevote) -> str | None:
        """Of this height, from whoever brought it."""
        step = step_of(m)
        known = self.rules.heard.vote_of(m.node, m.round, step)
        if known is not None and known.value == m.value:
            return None
        statement = vote_statement(m.height, m.round, m.value)
        if not self._keys.verify(m.node, vote_context(step), statement, m.signature):
            return "sent a vote that its node did not sign"
        self.rules.on_said(SignedVote(m.node, step, m.round, m.value, m.signature))
        return None

    def proves(self, proof: Certificate | None, step: Step, round: int, value: bytes) -> bool:
        """Whether it shows that a quorum voted for the value in this step and round. No content of it raises."""
        statement = vote_statement(self.number, round, value)
        if proof is None or (proof.context, proof.statement) != (vote_context(step), statement):
            return False
        return verify(proof, self._keys.keyring, self._committee.quorum)

    # --- out ---

    def values_of(self, value: bytes) -> tuple[bytes, ...]:
        """The batch of a proposal that is kept. Raises KeyError for another."""
        for proposal in self.rules.heard.every_proposal():
            if proposal.value == value:
                return proposal.values
        raise KeyError(value)

    def proof_of(self, step: Step, round: int, value: bytes) -> Certificate:
        """Of a quorum that the rules know of."""
        shown = self._proofs.get((round, step, value))
        if shown is not None:
            return shown
        votes = [vote for vote in self.rules.heard.votes(round, step) if vote.value == value]
        signatures = tuple(sorted([(vote.node, vote.signature) for vote in votes]))
        return Certificate(vote_context(step), vote_statement(self.number, round, value), signatures)

    def votes(self, rounds: Sequence[int]) -> Iterator[Prevote]:
        """All that are known of these rounds, as they came."""
        for round in rounds:
            for step, make in ((Step.PREVOTE, Prevote), (Step.PRECOMMIT, Precommit)):
                for vote in self.rules.heard.votes(round, step):
                    yield make(self.number, round, vote.value, vote.node, vote.signature)

    def evidence(self, found: Equivocation) -> Conflict:
        """The proof that a node contradicted itself."""
        first, second = found.first, found.second
        context = PROPOSAL if isinstance(first, SignedProposal) else vote_context(first.step)
        return conflict(first.node, context, self._said(first), self._said(second))

    def _said(self, one: SignedProposal | SignedVote) -> Said:
        if isinstance(one, SignedProposal):
            statement = proposal_statement(self.number, one.round, one.value, one.valid_round)
        else:
            statement = vote_statement(self.number, one.round, one.value)
        return Said(statement, one.signature)
