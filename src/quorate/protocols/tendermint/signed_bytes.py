"""What is signed of a vote and of a proposal: CometBFT's sign bytes, so that its clients can check our commits.

They name chain, height, round, step, block and time; of whom a signature is, the key says.
"""

from __future__ import annotations

from typing import Final

from quorate.ledger.comet.block_ids import NIL
from quorate.ledger.comet.times import Timestamp
from quorate.ledger.comet.votes import (
    PRECOMMIT,
    PREVOTE,
    SignedMessageType,
    extension_sign_bytes,
    proposal_sign_bytes,
    vote_sign_bytes,
)
from quorate.ledger.comet.votes import Proposal as CometProposal
from quorate.ledger.comet.votes import Vote as CometVote
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.named_blocks import id_of

KINDS: Final = {Step.PREVOTE: PREVOTE, Step.PRECOMMIT: PRECOMMIT, Step.PROPOSE: SignedMessageType.PROPOSAL}


def comet_vote(step: Step, height: int, round: int, value: bytes | None, time_ns: int) -> CometVote:
    """The vote in CometBFT's form, as far as it is signed."""
    block_id = NIL if value is None else id_of(value)
    return CometVote(KINDS[step], height, round, block_id, Timestamp.of_ns(time_ns))


def vote_bytes(chain_id: str, step: Step, height: int, round: int, value: bytes | None, time_ns: int) -> bytes:
    """What a node signs of its vote."""
    return vote_sign_bytes(chain_id, comet_vote(step, height, round, value, time_ns))


def extension_bytes(chain_id: str, height: int, round: int, extension: bytes) -> bytes:
    """What a node signs of the extension of its precommit. The block is not in it: a node precommits one a round."""
    return extension_sign_bytes(chain_id, CometVote(PRECOMMIT, height, round, extension=extension))


def comet_proposal(height: int, round: int, value: bytes, valid_round: int, time_ns: int) -> CometProposal:
    """The proposal in CometBFT's form, without its signature."""
    return CometProposal(KINDS[Step.PROPOSE], height, round, valid_round, id_of(value), Timestamp.of_ns(time_ns))


def proposal_bytes(chain_id: str, height: int, round: int, value: bytes, valid_round: int, time_ns: int) -> bytes:
    """What a proposer signs."""
    return proposal_sign_bytes(chain_id, comet_proposal(height, round, value, valid_round, time_ns))
