"""Vote: its config, what travels, and what is durable. The decoder checks types and ranges, handlers what they mean."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from quorate.parts.bounds import COUNTS, MESSAGE_SIZES, TIMES, BoundedConfig, Bounds
from quorate.parts.crypto.keys import Signature
from quorate.parts.votes.certificate import Certificate
from quorate.parts.wire import Index, Natural

BATCH_COUNT_MAX: Final = 4096

Batch = Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=BATCH_COUNT_MAX)]
BatchDigest = Annotated[bytes, Meta(min_length=32, max_length=32)]


class VoteConfig(BoundedConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times in seconds of the local clock; the later rounds of a height last longer than the first, ``round_s``."""

    bounds: ClassVar[Mapping[str, Bounds]] = {
        "beat_s": TIMES,
        "round_s": TIMES,
        "batch_count_max": Bounds(1, BATCH_COUNT_MAX),
        "batch_bytes_max": MESSAGE_SIZES,
        "pending_max": COUNTS,
    }

    beat_s: float = 0.2
    round_s: float = 1.0
    batch_count_max: int = 1024
    batch_bytes_max: int = 1 << 20
    pending_max: int = 16_384


class ProposedBatch(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """From the round's leader. ``proof`` has prevotes of ``proof_round`` for the batch, if the leader had locked it."""

    height: Index
    round: Natural
    values: Batch
    proof_round: Natural = 0
    proof: Certificate | None = None


class Prevote(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The sender accepts the batch of this digest in this round, and no other. Also a record."""

    height: Index
    round: Natural
    digest: BatchDigest
    signature: Signature


class Precommit(Prevote, frozen=True, array_like=True, tag=True, gc=False):
    """The sender has the prevotes of a quorum for the batch in this round, and has locked it."""


class Locked(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A record: this node precommits the batch in this round; ``proof`` has the prevotes."""

    height: Index
    round: Natural
    values: Batch
    proof: Certificate


class Decision(Locked, frozen=True, array_like=True, tag=True, gc=False):
    """``proof`` has the precommits of a quorum. Also a record."""


class Here(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Where the sender is: it has decided every height below this one."""

    height: Index
    round: Natural


def digest_of(values: Sequence[bytes]) -> bytes:
    """What votes name a batch by."""
    return sha256(msgspec.msgpack.encode(values)).digest()
