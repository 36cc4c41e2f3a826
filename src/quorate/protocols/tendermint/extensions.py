"""Vote extensions: how large they may be, those of a commit's votes, and those of the last block.

An app may attach bytes to its node's precommit for a block (ABCI 0.38, ExtendVote). They decide nothing and are in no
block: the next proposer gives those of the last commit to its own app. So they are kept with the decision.

Size. CometBFT bounds an extension by its messages of 1 MiB. Here a decision travels in one message, with all of them;
so each validator has an equal part of what there is room for. How many validators there are is the same at all nodes.

Source: CometBFT 0.38, ``spec/abci/abci++_methods.md`` (ExtendVote), ``types/block.go`` (EnsureExtension),
``types/validation.go`` (VerifyCommitExtended).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from quorate.ledger.comet.commits import COMMIT, FOR_BLOCK, Commit
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.committee import Committee
from quorate.protocols.tendermint.effects import SignedVote
from quorate.protocols.tendermint.log import DecidedLog
from quorate.protocols.tendermint.messages import EXTENSION_BYTES_MAX, Decision, ExtendedDecision, SignedExtension
from quorate.protocols.tendermint.signed_bytes import extension_bytes

EXTENSIONS_BYTES_MAX: Final = 3 << 20
"""Of all in one commit. A link between nodes takes messages of 16 MiB, and a block has up to 12 of them."""

Extensions: TypeAlias = tuple[SignedExtension | None, ...]
"""One for each entry of a commit that is for the block, in the order of the validators; None for the others."""


def extension_bytes_max(committee: Committee) -> int:
    """Of one validator's extension."""
    return min(EXTENSION_BYTES_MAX, EXTENSIONS_BYTES_MAX // len(committee.nodes))


def extensions_of(committee: Committee, commit: Commit, votes: Iterable[SignedVote]) -> Extensions:
    """Those of the votes that the commit was made of."""
    by_node = {vote.node: vote for vote in votes}
    found: list[SignedExtension | None] = []
    for node, entry in zip(committee.nodes, commit.signatures, strict=True):
        if entry.block_id_flag == FOR_BLOCK:
            vote = by_node[node]
            found.append(SignedExtension(vote.extension, vote.extension_signature))
        else:
            found.append(None)
    return tuple(found)


def check_extensions(chain: Chain, decision: Decision) -> None:
    """Raises ValueError unless the decision of the open height, whose commit holds, has the extensions that it must
    have, and no others, all signed. The app is not asked: a quorum that precommitted the block has done that."""
    if not isinstance(decision, ExtendedDecision):
        if chain.extends(decision.height):
            raise ValueError("decision: without the extensions of its votes")
        return
    if not chain.extends(decision.height):
        raise ValueError("decision: with extensions, which votes of its height have not")
    commit, committee = COMMIT.decode(decision.commit), chain.committee
    bytes_max = extension_bytes_max(committee)
    for entry, said in zip(commit.signatures, decision.extensions, strict=True):  # a ValueError, if one is longer
        if (entry.block_id_flag == FOR_BLOCK) != (said is not None):
            raise ValueError("decision: a vote for its block without an extension, or an extension of no such vote")
        if said is not None and len(said.extension) > bytes_max:
            raise ValueError(f"decision: an extension of {len(said.extension)} bytes, at most {bytes_max}")
    for validator, said in zip(committee.validators.validators, decision.extensions, strict=True):
        if said is not None:
            data = extension_bytes(chain.id, commit.height, commit.round, said.extension)
            if not chain.verify(validator.pub_key.ed25519, data, said.signature):
                raise ValueError(f"decision: the extension of {validator.address.hex()} is not signed")


class LastExtensions:
    """Those of the last block's commit, as the log has them, which is durable."""

    def __init__(self, chain: Chain, log: DecidedLog) -> None:
        self._chain = chain
        self._log = log

    def find(self) -> Extensions | None:
        """Empty, if votes of that height have none; None: they are not here, as after a snapshot from others."""
        height = self._chain.state.last_height
        if not self._chain.extends(height):
            return ()
        decision = self._log.at(height)
        return decision.extensions if isinstance(decision, ExtendedDecision) else None
