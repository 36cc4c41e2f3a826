"""OpenHeight: the height that is being decided. It gives the rules what they ask of messages: checked, and by name.

The rules know values and quorums by names. Here are the blocks themselves, with the proposals that brought them, and
the proofs of quorums. What a node says is looked at in this order: is it well formed, is it known already, who signed
it.

What a liar's bytes cost. The name of a block is part of what its proposer signs, so a block is decoded before the
signature of its proposal can be checked; and it may be large. So only the proposer of a round is listened to, and only
in rounds that are near (``heard.py``): one that is far ahead votes there too, which is enough to follow it, and
proposes again at each beat. Of each round, LOOKS_MAX blocks are decoded that are not known yet, right or wrong: the
second one shows that the proposer lies. For each value that f + 1 nodes voted for it may be one more, since a correct
node has taken that one. Whatever else the proposer of that round sends is dropped, at the cost of a comparison.
One that lies first and proposes rightly later may so have wasted its round, as a silent one does.

In the paper gossip brings every vote to everybody in the end; here proofs do that for votes of rounds long past,
and show what a quorum voted where a liar told this node something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Final

from msgspec.structs import replace

from quorate.ledger.comet.commits import COMMIT
from quorate.ledger.comet.votes import Proposal as CometProposal
from quorate.ledger.comet.votes import Vote as CometVote
from quorate.parts.crypto.keys import Keys
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.commits import check_prevotes, commit_of, prevotes_of
from quorate.protocols.tendermint.contradictions import Contradiction
from quorate.protocols.tendermint.effects import (
    NO_ROUND,
    Equivocation,
    SignedProposal,
    SignedVote,
    Step,
)
from quorate.protocols.tendermint.extended_votes import ExtendedVotes
from quorate.protocols.tendermint.extensions import extensions_of
from quorate.protocols.tendermint.height import Height
from quorate.protocols.tendermint.messages import (
    Decision,
    ExtendedDecision,
    ExtendedPrecommit,
    Precommit,
    Prevote,
    Proposal,
    step_of,
    vote_said,
)
from quorate.protocols.tendermint.named_blocks import NamedBlock, decode_block, id_of
from quorate.protocols.tendermint.signed_bytes import comet_proposal, comet_vote, proposal_bytes, vote_bytes

LOOKS_MAX: Final = 2
"""Blocks of one round that are decoded, besides those that votes ask for."""
MakeRules = Callable[..., Height]


class OpenHeight:
    """``rules`` is algorithm 1. What takes a message returns why it is wrong; None: there is nothing wrong."""

    extended_class: ClassVar[type[ExtendedVotes]] = ExtendedVotes

    def __init__(self, number: int, keys: Keys, chain: Chain, make_rules: MakeRules = Height) -> None:
        self.number = number
        self._keys = keys
        self._chain = chain
        self._committee = chain.committee
        self.rules = make_rules(keys.node, self._committee.quorum, self._committee.proposer)
        self.extended = self.extended_class(number, keys, chain, self.rules)
        """Precommits with extensions, which the app judges first."""
        self._proofs: dict[tuple[int, bytes], bytes] = {}  # prevotes that others showed, by round and value
        self._looks: dict[int, int] = {}  # by round, how many blocks were decoded

    # --- in ---

    def on_proposal(self, sender: int, m: Proposal) -> str | None:
        """Of this height. It is kept if it is the proposer's, of a round that is near."""
        is_new = m.valid_round == NO_ROUND
        if m.valid_round >= m.round or is_new != (m.proof is None):
            return "sent a proposal that no rule allows"
        heard = self.rules.heard
        if not heard.is_near(m.round):
            return None
        if self._committee.proposer(m.round) != sender:
            return "proposed out of turn"
        if self._knows(m) or not self._may_look(m.round):
            return None
        try:
            block = decode_block(m.block)
        except ValueError:
            return "proposed what is not a block"
        if block.block.header.height != self.number:
            return "proposed a block of another height"
        data = proposal_bytes(self._chain.id, m.height, m.round, block.name, m.valid_round, m.time_ns)
        if not self._keys.verify_canonical(sender, data, m.signature):
            return "sent a proposal that it did not sign"
        if not (is_new or heard.has_quorum(m.valid_round, Step.PREVOTE, block.name)):
            if not self.proves(m.proof, m.valid_round, block):
                return "proposed something again without a proof that a quorum prevoted it"
            assert m.proof is not None
            self._proofs[m.valid_round, block.name] = m.proof
            self.rules.on_certified(m.valid_round, Step.PREVOTE, block.name)
        self.rules.on_said(said_of(sender, m, block))
        return None

    def _knows(self, m: Proposal) -> bool:
        """Whether it would bring nothing new."""
        for known in self.rules.heard.proposals(m.round):
            if known.valid_round == m.valid_round and known.carried.data == m.block:
                return m.proof is None or self.rules.heard.has_quorum(m.valid_round, Step.PREVOTE, known.value)
        return False

    def _may_look(self, round: int) -> bool:
        """Whether one more block of this round may be decoded, which then is counted."""
        looks = self._looks.get(round, 0)
        if looks >= LOOKS_MAX + self.rules.heard.supported_count(round):
            return False
        self._looks[round] = looks + 1
        return True

    def on_vote(self, m: Prevote) -> str | None:
        """Of this height, from whoever brought it."""
        step = step_of(m)
        known = self.rules.heard.vote_of(m.node, m.round, step) or self.extended.held(m)
        if known is not None and known.value == m.value:
            return None
        if m.value is not None and not id_of(m.value).is_complete:
            return "sent a vote for a block without parts"
        if (why := self.extended.refusal(m)) is not None:
            return why
        if isinstance(m, ExtendedPrecommit) and not self.extended.is_wanted(m):
            return None
        data = vote_bytes(self._chain.id, step, m.height, m.round, m.value, m.time_ns)
        if not self._keys.verify_canonical(m.node, data, m.signature):
            return "sent a vote that its node did not sign"
        if isinstance(m, ExtendedPrecommit):
            return self.extended.add(m)
        self.rules.on_said(vote_said(m))
        return None

    def proves(self, proof: bytes | None, round: int, block: NamedBlock) -> bool:
        """Whether it shows that a quorum prevoted the block in this round. No content of it raises."""
        if proof is None:
            return False
        try:
            check_prevotes(self._chain, round, block, proof)
        except ValueError:
            return False
        return True

    # --- out ---

    def block_of(self, value: bytes) -> NamedBlock:
        """The block of a proposal that is kept. Raises KeyError for another."""
        for proposal in self.rules.heard.every_proposal():
            if proposal.value == value:
                block: NamedBlock = proposal.carried
                return block
        raise KeyError(value)

    def proof_of(self, round: int, value: bytes) -> bytes:
        """The prevotes of a quorum that the rules know of."""
        shown = self._proofs.get((round, value))
        if shown is not None:
            return shown
        votes = self.rules.heard.votes(round, Step.PREVOTE)
        return COMMIT.encode(prevotes_of(self._committee, self.number, round, value, votes))

    def decision(self, round: int, block: NamedBlock) -> Decision:
        """The block with the precommits of a quorum that the rules know of."""
        votes = self.rules.heard.votes(round, Step.PRECOMMIT)
        commit = commit_of(self._committee, self.number, round, block, votes)
        if not self._chain.extends(self.number):
            return Decision(self.number, block.data, COMMIT.encode(commit))
        extensions = extensions_of(self._committee, commit, votes)
        return ExtendedDecision(self.number, block.data, COMMIT.encode(commit), extensions)

    def votes(self, rounds: Sequence[int]) -> Iterator[Prevote]:
        """All that are known of these rounds, as they came."""
        for round in rounds:
            for step, make in ((Step.PREVOTE, Prevote), (Step.PRECOMMIT, Precommit)):
                for vote in self.rules.heard.votes(round, step):
                    plain = (self.number, round, vote.value, vote.node, vote.time_ns, vote.signature)
                    if vote.extension_signature:
                        yield ExtendedPrecommit(*plain, vote.extension, vote.extension_signature)
                    else:
                        yield make(*plain)

    def contradiction(self, found: Equivocation) -> Contradiction:
        """The proof that a node contradicted itself."""
        return Contradiction(found.first.node, self._said(found.first), self._said(found.second))

    def _said(self, one: SignedProposal | SignedVote) -> CometVote | CometProposal:
        if isinstance(one, SignedProposal):
            made = comet_proposal(self.number, one.round, one.value, one.valid_round, one.time_ns)
            return replace(made, signature=one.signature)
        vote = comet_vote(one.step, self.number, one.round, one.value, one.time_ns)
        index = self._committee.nodes.index(one.node)
        address = self._committee.address(one.node)
        return replace(vote, validator_address=address, validator_index=index, signature=one.signature)


def said_of(node: int, m: Proposal, block: NamedBlock) -> SignedProposal:
    """A node's proposal, as the rules take it."""
    at = block.block.header.time.ns()
    return SignedProposal(node, m.round, block.name, m.valid_round, m.signature, m.time_ns, block, at)
