"""How nodes lie about evidence that waits for a block, with an ABCI app and without."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from quorate.kernel import Send
from quorate.ledger.comet.evidence import MISCONDUCT, duplicate_votes
from quorate.ledger.comet.votes import Vote
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.messages import Accusation, Decision
from quorate.protocols.tendermint.named_blocks import decode_block
from quorate.protocols.tendermint.signed_bytes import comet_vote, vote_bytes
from quorate.sim.adversary.liar import Liar

BLOCKS: Final = bytes(64) + b"\0\0\0\1", b"1" * 64 + b"\0\0\0\1"
"""The names of two that are nobody's."""
FEW, FLOOD = 4, 80
"""Made at a time: a flood is more than a node looks at of one sender between two beats."""


class Slandering(Liar):
    """Tells the others of evidence: of what is none, of votes that nobody signed, of two of its own for rounds that
    never were, which is true and has no end, and once more of what a block has. Now and then it is a flood."""

    name = "slandering"
    summary = "tells the others of evidence that it made up or signed itself, and once more of what is in blocks"

    def tell(self, send: Send) -> Iterable[Send]:
        """Its message, and some pieces after it."""
        yield send
        means = self.means
        decided = means.core.log.decisions
        if not decided or not means.chance(0.2):
            return
        means.count(self.name)
        decision = means.pick(decided)
        told = decode_block(decision.block).block.evidence.evidence
        pieces = [MISCONDUCT.encode(piece) for piece in told] or [b"nothing"]
        count = FLOOD if means.chance(0.05) else FEW
        pieces += [self._made(decision) for _ in range(count)]
        for piece in pieces:
            yield Send(means.some(means.others), send.path, Accusation(means.core.log.last, piece))

    def _made(self, decision: Decision) -> bytes:
        """Two votes of one step, its own or those of another."""
        means = self.means
        core, header = means.core, decode_block(decision.block).block.header
        assert means.keys is not None
        node = means.node if means.chance(0.5) else means.pick(means.others)
        round, time_ns = 1000 + means.rng.getrandbits(20), header.time.ns()
        votes: list[Vote] = []
        for name in BLOCKS:
            vote = comet_vote(Step.PREVOTE, decision.height, round, name, time_ns)
            data = vote_bytes(core.chain.id, Step.PREVOTE, decision.height, round, name, time_ns)
            address, signature = core.committee.address(node), means.keys.sign_canonical(data)
            votes.append(replace(vote, validator_address=address, signature=signature))
        return MISCONDUCT.encode(duplicate_votes(votes[0], votes[1], core.committee.validators.validators, header.time))
