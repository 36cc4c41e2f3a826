"""Contradiction: two that one node signed for one height, round and step, which convince whoever knows its key."""

from __future__ import annotations

import msgspec

from quorate.kernel import NodeId
from quorate.ledger.comet.votes import Proposal as CometProposal
from quorate.ledger.comet.votes import Vote as CometVote
from quorate.ledger.comet.votes import proposal_sign_bytes, vote_sign_bytes
from quorate.parts.crypto.keys import Keyring


class Contradiction(msgspec.Struct, frozen=True):
    """A claim, until it holds. Votes are in CometBFT's form, as are proposals."""

    node: NodeId
    first: CometVote | CometProposal
    second: CometVote | CometProposal

    def holds(self, chain_id: str, keys: Keyring) -> str | None:
        """Why this proves nothing; None: it proves that the node misbehaved."""
        first, second = self.first, self.second
        if (first.type, first.height, first.round) != (second.type, second.height, second.round):
            return "they are of two steps"
        if _content(first) == _content(second):
            return "they say the same"
        for said, which in ((first, "first"), (second, "second")):
            data = (
                vote_sign_bytes(chain_id, said) if isinstance(said, CometVote) else proposal_sign_bytes(chain_id, said)
            )
            if not keys.verify_canonical(self.node, data, said.signature):
                return f"the {which} signature is not the node's"
        return None


def _content(said: CometVote | CometProposal) -> object:
    """What a node says once. Times are not in it."""
    return said.block_id, said.pol_round if isinstance(said, CometProposal) else None
