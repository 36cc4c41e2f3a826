"""What Tendermint sends, what it makes durable, what is signed, and how it is configured.

A vote and a proposal are signed as statements, each kind under a context of its own: height, round, what it is for, and
with a proposal its valid round. Keys bind the cluster. Votes name their node, since others pass them on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated, ClassVar, Final, TypeAlias

import msgspec
from msgspec import Meta

from quorate.kernel import NODE_ID_MAX, NodeId
from quorate.ledger.validators import POWER_MAX
from quorate.parts.bounds import COUNTS, MESSAGE_SIZES, SIZES, TIMES, BoundedConfig, Bounds
from quorate.parts.crypto.keys import Signature
from quorate.parts.votes.certificate import Certificate
from quorate.parts.votes.evidence import Rules, one_value_a_slot
from quorate.parts.wire import Index
from quorate.protocols.tendermint.effects import NO_ROUND, Step

BATCH_COUNT_MAX: Final = 4096
NODES_MAX: Final = NODE_ID_MAX + 1
ROUNDS_MAX: Final = 1 << 16
"""Of a height. Timeouts grow, so no correct node comes that far within a month; what is of a later one is malformed."""
VOTES_A_NODE_MAX: Final = 4
"""Of two rounds, two in each."""

Batch: TypeAlias = Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=BATCH_COUNT_MAX)]
"""Signed requests that are decided as one."""
BatchId: TypeAlias = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""The paper's id(v)."""
Round: TypeAlias = Annotated[int, Meta(ge=0, lt=ROUNDS_MAX)]
ValidRound: TypeAlias = Annotated[int, Meta(ge=NO_ROUND, lt=ROUNDS_MAX)]
Power: TypeAlias = Annotated[int, Meta(ge=1, le=POWER_MAX)]

PROPOSAL: Final = "tendermint proposal"
PREVOTE: Final = "tendermint prevote"
PRECOMMIT: Final = "tendermint precommit"

_encode: Final = msgspec.msgpack.Encoder().encode


class TendermintConfig(BoundedConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times in seconds of the local clock. Each timeout is so much longer in every further round of a height."""

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

    def timeout_s(self, step: Step, round: int) -> float:
        """How long a step may take in a round. It grows without a bound, to exceed whatever messages take."""
        first = {Step.PROPOSE: self.propose_s, Step.PREVOTE: self.prevote_s, Step.PRECOMMIT: self.precommit_s}[step]
        return first + round * self.further_s


# --- what travels; the first three are records as well, of what this node signed ---


class Proposal(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """From the round's proposer. ``proof`` has the prevotes of a quorum in ``valid_round``, unless that is NO_ROUND."""

    height: Index
    round: Round
    values: Batch
    valid_round: ValidRound
    proof: Certificate | None
    signature: Signature


class Prevote(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The node accepts the batch in this round; None: none."""

    height: Index
    round: Round
    value: BatchId | None
    node: NodeId
    signature: Signature


class Precommit(Prevote, frozen=True, array_like=True, tag=True, gc=False):
    """The node has seen a quorum prevote the batch in this round, and is locked on it; None: on none in this round."""


class Votes(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """All that the sender has of two rounds, its own votes and those of others: what gossip is for in the paper."""

    votes: Annotated[tuple[Prevote | Precommit, ...], Meta(max_length=VOTES_A_NODE_MAX * NODES_MAX)]


class Decision(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The batch is decided at this height; ``proof`` has the precommits of a quorum in the round. Also a record."""

    height: Index
    round: Round
    values: Batch
    proof: Certificate


class Here(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The sender has decided every height below this one."""

    height: Index


MESSAGES: Final = (Proposal, Prevote, Precommit, Votes, Decision, Here)

# --- records ---


class Valid(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """validValue and validRound; ``proof`` has the prevotes of a quorum in the round."""

    height: Index
    round: Round
    values: Batch
    proof: Certificate


class Locked(Valid, frozen=True, array_like=True, tag=True, gc=False):
    """lockedValue and lockedRound, and valid ones alike: this node precommits the batch in this round."""


RECORDS: Final = (Proposal, Prevote, Precommit, Locked, Valid, Decision)

# --- what is signed ---


def batch_id(values: Sequence[bytes]) -> bytes:
    """The paper's id(v)."""
    return sha256(_encode(values)).digest()


def vote_statement(height: int, round: int, value: bytes | None) -> bytes:
    """What a vote says."""
    return _encode((height, round, value))


def proposal_statement(height: int, round: int, value: bytes, valid_round: int) -> bytes:
    """What a proposal says."""
    return _encode((height, round, value, valid_round))


def vote_context(step: Step) -> str:
    """Under which votes of this step are signed."""
    return PREVOTE if step is Step.PREVOTE else PRECOMMIT


def step_of(vote: Prevote) -> Step:
    """The one that a vote belongs to."""
    return Step.PRECOMMIT if isinstance(vote, Precommit) else Step.PREVOTE


def _slot_of(statement: bytes) -> tuple[int, int] | None:
    try:
        fields = msgspec.msgpack.decode(statement)
    except (msgspec.MsgspecError, ArithmeticError, RecursionError):
        return None
    match fields:
        case [int(height), int(round), *_]:
            return height, round
    return None


RULES: Final[Rules] = {context: one_value_a_slot(_slot_of) for context in (PROPOSAL, PREVOTE, PRECOMMIT)}
"""A node signs one statement of each kind for a height and a round."""
