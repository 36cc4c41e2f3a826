"""How nodes lie about transactions and evidence, where an ABCI app stands behind the chain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from quorate.kernel import Send
from quorate.ledger.comet.evidence import MISCONDUCT, duplicate_votes
from quorate.ledger.comet.votes import Vote
from quorate.protocols.tendermint.app_messages import TXS_MAX, Accusation, Transactions
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.liars import Backdating, Forging, Hurrying, MakesUpRequests, Splitting, TellsFew
from quorate.protocols.tendermint.messages import Decision
from quorate.protocols.tendermint.named_blocks import decode_block
from quorate.protocols.tendermint.signed_bytes import comet_vote, vote_bytes
from quorate.sim.adversary.liar import Liar, Means

BLOCKS: Final = bytes(64) + b"\0\0\0\1", b"1" * 64 + b"\0\0\0\1"
"""The names of two that are nobody's."""


class Flooding(Liar):
    """Says that transactions wait at it which no client brought: some that the app refuses, and some that it takes."""

    name = "flooding"
    summary = "tells the others of transactions that it made up, many at a time"

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._made = 0

    def tell(self, send: Send) -> Iterable[Send]:
        """Its message, and made-up transactions after it."""
        yield send
        means = self.means
        if means.chance(0.1):
            means.count(self.name)
            some = 1 + int(means.rng.random() * min(TXS_MAX, 32))
            txs = tuple([self._make() for _ in range(some)])
            yield Send(means.some(means.others), send.path, Transactions(txs))

    def _make(self) -> bytes:
        self._made += 1
        if self.means.chance(0.5):
            return b"%d is nothing" % self._made
        return b"liar%d=%d" % (self.means.node, self._made)


class Slandering(Liar):
    """Tells the others of evidence: of what is none, of votes that nobody signed, of two of its own for rounds that
    never were, which is true and has no end, and once more of what a block has."""

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
        pieces += [self._made(decision) for _ in range(4)]
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


APP_LIARS = (MakesUpRequests, Forging, Backdating, Splitting, TellsFew, Hurrying, Flooding, Slandering)
"""Those of Tendermint that need no requests, and this module's own."""
