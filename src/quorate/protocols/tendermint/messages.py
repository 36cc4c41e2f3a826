"""What Tendermint sends, what it makes durable, and how it is configured.

Blocks and commits travel as the bytes that CometBFT has of them (``ledger/comet``), votes and proposals in a form of
our own, signed as CometBFT signs its own (``signed_bytes.py``). Votes name their node, since others pass them on.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, ClassVar, Final, TypeAlias

import msgspec
from msgspec import Meta

from quorate.kernel import NODE_ID_MAX, NodeId
from quorate.ledger.comet.block_ids import ADDRESS_BYTES
from quorate.ledger.comet.evidence import MISCONDUCT
from quorate.ledger.comet.headers import APP_HASH_BYTES_MAX
from quorate.ledger.comet.votes import SIGNATURE_BYTES
from quorate.ledger.validators import POWER_MAX
from quorate.parts.bounds import COUNTS, MESSAGE_SIZES, SIZES, TIMES, BoundedConfig, Bounds
from quorate.parts.crypto.keys import Signature
from quorate.parts.log.pieces import HASH_BYTES, PieceProof
from quorate.parts.log.replicated import Chunk
from quorate.parts.votes.certificate import Certificate
from quorate.parts.wire import Index, Natural
from quorate.protocols.tendermint.effects import NO_ROUND, SignedVote, Step
from quorate.protocols.tendermint.named_blocks import BLOCK_BYTES_MAX, NAME_BYTES

CHECKPOINT: Final = "tendermint checkpoint"
BATCH_COUNT_MAX: Final = 4096
NODES_MAX: Final = NODE_ID_MAX + 1
COMMIT_BYTES_MAX: Final = 256 + 128 * NODES_MAX
ROUNDS_MAX: Final = 1 << 16
"""Of a height. Timeouts grow, so no correct node comes that far within a month; what is of a later one is malformed."""
EXTENSION_BYTES_MAX: Final = (1 << 20) - 4096
"""Of one extension: a MiB with what is signed of it. With many validators it is less (``extensions.py``)."""
VOTES_A_NODE_MAX: Final = 4
"""Of two rounds, two in each."""

_encode: Final = msgspec.msgpack.Encoder().encode

BlockBytes: TypeAlias = Annotated[bytes, Meta(min_length=1, max_length=BLOCK_BYTES_MAX)]
CommitBytes: TypeAlias = Annotated[bytes, Meta(min_length=1, max_length=COMMIT_BYTES_MAX)]
Extension: TypeAlias = Annotated[bytes, Meta(max_length=EXTENSION_BYTES_MAX)]
BlockName: TypeAlias = Annotated[bytes, Meta(min_length=NAME_BYTES, max_length=NAME_BYTES)]
"""The paper's id(v)."""
VoteSignature: TypeAlias = Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
Round: TypeAlias = Annotated[int, Meta(ge=0, lt=ROUNDS_MAX)]
ValidRound: TypeAlias = Annotated[int, Meta(ge=NO_ROUND, lt=ROUNDS_MAX)]
Power: TypeAlias = Annotated[int, Meta(ge=1, le=POWER_MAX)]
Priority: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Address: TypeAlias = Annotated[bytes, Meta(min_length=ADDRESS_BYTES, max_length=ADDRESS_BYTES)]
Digest: TypeAlias = Annotated[bytes, Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
AppHash: TypeAlias = Annotated[bytes, Meta(max_length=APP_HASH_BYTES_MAX)]
PieceBytes: TypeAlias = Annotated[bytes, Meta(min_length=1, max_length=MISCONDUCT.bytes_max)]
"""A piece of evidence, encoded."""
WallTime: TypeAlias = Natural
"""Nanoseconds of UTC since 1970."""


class TendermintConfig(BoundedConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times in seconds of the local clock. Each timeout is so much longer in every further round of a height.

    ``powers``, ``genesis_s`` and the three of snapshots are the chain's, and must be alike at all nodes.
    """

    bounds: ClassVar[Mapping[str, Bounds]] = {
        "propose_s": TIMES,
        "prevote_s": TIMES,
        "precommit_s": TIMES,
        "further_s": TIMES,
        "beat_s": TIMES,
        "batch_count_max": Bounds(1, BATCH_COUNT_MAX),
        "batch_bytes_max": MESSAGE_SIZES,
        "pending_max": COUNTS,
        "pending_bytes_max": SIZES,
        "genesis_s": Bounds(0, 1 << 32),
        "snapshot_heights": Bounds(1, 1 << 20),
        "snapshot_bytes": SIZES,
        "chunk_bytes": MESSAGE_SIZES,
    }

    propose_s: float = 1.0
    prevote_s: float = 0.5
    precommit_s: float = 0.5
    further_s: float = 0.25
    beat_s: float = 0.2
    batch_count_max: int = 1024
    batch_bytes_max: int = 1 << 20
    pending_max: int = 16_384
    pending_bytes_max: int = 64 << 20
    powers: Annotated[tuple[Power, ...], Meta(max_length=NODES_MAX)] = ()
    """Of the nodes, in the order of their numbers; empty: all are alike. Clients count nodes, not power: what they are
    told holds while the nodes that lie have less than a third of the power, *and* are less than a third of the
    nodes."""
    genesis_s: int = 0
    """The time of the chain's first block, in seconds since 1970."""
    snapshot_heights: int = 8192
    """A snapshot is taken after so many heights, or ``snapshot_bytes`` of blocks. The log is what was decided since the
    last but one, so about twice as much."""
    snapshot_bytes: int = 64 << 20
    chunk_bytes: int = 1 << 20

    def timeout_s(self, step: Step, round: int) -> float:
        """How long a step may take in a round. It grows without a bound, to exceed whatever messages take."""
        first = {Step.PROPOSE: self.propose_s, Step.PREVOTE: self.prevote_s, Step.PRECOMMIT: self.precommit_s}[step]
        return first + round * self.further_s


# --- what travels; the first three are records as well, of what this node signed ---


class Proposal(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """From the round's proposer. ``proof``, in the form of a commit, has the prevotes of a quorum in ``valid_round``,
    unless that is NO_ROUND."""

    height: Index
    round: Round
    block: BlockBytes
    valid_round: ValidRound
    proof: CommitBytes | None
    time_ns: WallTime
    signature: VoteSignature


class Prevote(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The node accepts the block in this round; None: none. ``time_ns`` is the node's clock, and at least a millisecond
    after the time of the block."""

    height: Index
    round: Round
    value: BlockName | None
    node: NodeId
    time_ns: WallTime
    signature: VoteSignature


class Precommit(Prevote, frozen=True, array_like=True, tag=True, gc=False):
    """The node has seen a quorum prevote the block in this round, and is locked on it; None: on none in this round."""


class ExtendedPrecommit(Precommit, frozen=True, array_like=True, tag=True, gc=False):
    """A precommit for a block, with what the node's app attached to it. It takes the place of the plain one where the
    app has enabled vote extensions, and is sent nowhere else."""

    extension: Extension
    extension_signature: VoteSignature


class Votes(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """All that the sender has of two rounds, its own votes and those of others: what gossip is for in the paper."""

    votes: Annotated[tuple[Prevote | Precommit | ExtendedPrecommit, ...], Meta(max_length=VOTES_A_NODE_MAX * NODES_MAX)]


class Decision(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The block is decided at this height; the commit, which names the round, proves it. Also a record."""

    height: Index
    block: BlockBytes
    commit: CommitBytes


class SignedExtension(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one validator's app attached to its precommit, and the validator's signature of it."""

    extension: Extension
    signature: VoteSignature


class ExtendedDecision(Decision, frozen=True, array_like=True, tag=True, gc=False):
    """The same of a height with vote extensions: one for each entry of the commit that is for the block, else None."""

    extensions: Annotated[tuple[SignedExtension | None, ...], Meta(max_length=NODES_MAX)]


class Here(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The sender has decided every height below this one."""

    height: Index


class Accusation(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A piece of evidence waits at the sender for a block, since it held when the chain had come to this height. From
    this node itself: somebody shows it the piece, and the height does not count."""

    height: Index
    piece: PieceBytes


class ValidatorsAt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The validators of a height, in their order: address, power and priority; and who proposes in round 0."""

    validators: Annotated[tuple[tuple[Address, Power, Priority], ...], Meta(min_length=1, max_length=NODES_MAX)]
    proposer: Address


class ChainPoint(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where the chain stands after a height: all that the next one depends on, but for a commit."""

    height: Index
    block: BlockName
    time_ns: WallTime
    app_hash: AppHash
    results_hash: Digest
    last: ValidatorsAt
    now: ValidatorsAt
    after: ValidatorsAt


class Image(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A snapshot after a height, of so many transactions, what its file must be, and where the chain stood.

    ``root``, of a tree over pieces of ``piece_bytes``, proves each piece (``parts/log/pieces.py``).
    """

    height: Index
    index: Index
    size_bytes: Natural
    digest: Digest
    root: Digest
    piece_bytes: Natural
    point: ChainPoint


class Checkpoint(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The sender, a validator, has this snapshot."""

    height: Index
    digest: Digest
    signature: Signature


class Offer(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A snapshot that is here, the word of more than two thirds of the power for it, and the commit of its block."""

    image: Image
    certificate: Certificate
    commit: CommitBytes


class FetchPiece(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Send the piece at this offset of the snapshot of this height."""

    height: Index
    offset: Natural


class ImagePiece(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A piece, and the proof that it is in the snapshot."""

    chunk: Chunk
    proof: PieceProof


OF_HEIGHTS: Final = (Proposal, Prevote, Precommit, Votes, Decision, Here, Accusation)
OF_SNAPSHOTS: Final = (Checkpoint, Offer, FetchPiece, ImagePiece)
MESSAGES: Final = (*OF_HEIGHTS, *OF_SNAPSHOTS)

# --- records ---


class Valid(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """validValue and validRound; ``proof``, in the form of a commit, has the prevotes of a quorum in the round."""

    height: Index
    round: Round
    block: BlockBytes
    proof: CommitBytes


class Locked(Valid, frozen=True, array_like=True, tag=True, gc=False):
    """lockedValue and lockedRound, and valid ones alike: this node precommits the block in this round."""


class Taken(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A snapshot is durable here. One that was fetched takes the place of all records before. The commit is the one
    that this node has of the block."""

    image: Image
    is_fetched: bool
    commit: CommitBytes


class Stable(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """More than two thirds of the power have the snapshot that this names."""

    certificate: Certificate


class PendingEvidence(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A piece of evidence waits for a block, taken in after this height was decided. ``source``: the node that sent it;
    None: this one was shown it, or saw the votes itself."""

    height: Index
    source: NodeId | None
    piece: PieceBytes


RECORDS: Final = (Proposal, Prevote, Precommit, Locked, Valid, Decision, Taken, Stable, PendingEvidence)


def extensions_bytes(decision: Decision) -> int:
    """How much the extensions of its votes take."""
    if not isinstance(decision, ExtendedDecision):
        return 0
    return sum(len(one.extension) for one in decision.extensions if one is not None)


def digest_of(image: Image) -> bytes:
    """What nodes sign of a snapshot."""
    return sha256(_encode(image)).digest()


def checkpoint_statement(height: int, digest: bytes) -> bytes:
    """What a checkpoint says."""
    return _encode((height, digest))


def step_of(vote: Prevote) -> Step:
    """The one that a vote belongs to."""
    return Step.PRECOMMIT if isinstance(vote, Precommit) else Step.PREVOTE


def vote_said(vote: Prevote) -> SignedVote:
    """A node's vote, as the rules take it."""
    plain = (vote.node, step_of(vote), vote.round, vote.value, vote.signature, vote.time_ns)
    if isinstance(vote, ExtendedPrecommit):
        return SignedVote(*plain, vote.extension, vote.extension_signature)
    return SignedVote(*plain)
