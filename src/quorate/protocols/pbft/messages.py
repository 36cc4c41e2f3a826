"""What PBFT sends, what it makes durable, what is signed, and how it is configured.

Every claim that a third node may have to believe is signed, as a statement under a context: a few numbers and a digest,
packed. The primary's pre-prepare is its vote for the same statement as the backups' prepares, so that one Certificate
of a quorum's votes proves *prepared*. Commits prove nothing to a third, so MACs are enough for them (§5.1 of Castro and
Liskov, OSDI 1999).
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from struct import Struct
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from quorate.kernel import NODE_ID_MAX, NodeId
from quorate.parts.bounds import BYTES_MAX, COUNTS, MESSAGE_SIZES, SIZES, TIMES, BoundedConfig, Bounds
from quorate.parts.crypto.keys import Public, Signature
from quorate.parts.log.configuration import Nodes
from quorate.parts.log.pieces import HASH_BYTES, PieceProof
from quorate.parts.log.replicated import Chunk
from quorate.parts.votes.certificate import Certificate
from quorate.parts.wire import Index, Natural

View: TypeAlias = Natural
Sequence: TypeAlias = Natural
"""The paper's n: the place of a batch in the order, from 1."""
Digest: TypeAlias = Annotated[bytes, Meta(min_length=32, max_length=32)]

WINDOW_MAX: Final = 4096
BATCH_COUNT_MAX: Final = 4096
LOG_MAX: Final = 1 << 16
"""Batches between the older of two snapshots and the newest stable checkpoint."""
NODES_MAX: Final = NODE_ID_MAX + 1
SNAPSHOT_SHARE: Final = 5
"""Within a budget, a snapshot is due when one part in so many of the log's bytes was executed since the last."""
LOG_BATCHES_MIN: Final = 32
"""Full batches that the log must have room for."""

Proofs: TypeAlias = Annotated[tuple[Signature, ...], Meta(min_length=1, max_length=NODES_MAX)]
"""A MAC for each node of the group, in order; or one signature."""

Batch: TypeAlias = Annotated[tuple[bytes, ...], Meta(max_length=BATCH_COUNT_MAX)]
"""Signed requests that are ordered as one. The empty batch is the null request (§4.4)."""

PREPARE: Final = "pbft prepare"
COMMIT: Final = "pbft commit"
DECIDED: Final = "pbft decided"
OFFER: Final = "pbft offer"
CHECKPOINT: Final = "pbft checkpoint"
VIEW_CHANGE: Final = "pbft view-change"
NEW_VIEW: Final = "pbft new-view"

_ORDER = Struct(">QQ32s")
_CHECKPOINT = Struct(">QQ32s")
_encode: Final = msgspec.msgpack.Encoder().encode


def digest_of(batch: tuple[bytes, ...]) -> bytes:
    """The digest of a batch: of the lengths and digests of its requests, so that no two batches have the same."""
    return sha256(b"".join([sha256(value).digest() for value in batch])).digest()


NULL: Final = digest_of(())


def order_statement(view: int, sequence: int, digest: bytes) -> bytes:
    """What a pre-prepare, a prepare and a commit say."""
    return _ORDER.pack(view, sequence, digest)


def order_of(statement: bytes) -> tuple[int, int, bytes] | None:
    """View, sequence and digest of such a statement; None for other bytes."""
    return _ORDER.unpack(statement) if len(statement) == _ORDER.size else None


def checkpoint_statement(sequence: int, index: int, history: bytes) -> bytes:
    """What a checkpoint says: after batch ``sequence``, ``index`` requests are executed, with this history."""
    return _CHECKPOINT.pack(sequence, index, history)


def checkpoint_of(statement: bytes) -> tuple[int, int, bytes] | None:
    """Sequence, index and history of such a statement; None for other bytes."""
    return _CHECKPOINT.unpack(statement) if len(statement) == _CHECKPOINT.size else None


def extend(history: bytes, digest: bytes) -> bytes:
    """The history after one more batch. Equal histories are equal states, as execution is deterministic."""
    return sha256(history + digest).digest()


NO_HISTORY: Final = bytes(32)


# --- messages: the decoder checks types and ranges, the handlers check what they mean ---


class Forward(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """To the primary: requests that a backup got from clients (§4.4)."""

    values: Batch


class PrePrepare(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """§4.2, from the primary: this batch has this sequence number in this view. Its signature is its vote."""

    view: View
    sequence: Sequence
    digest: Digest
    signature: Signature
    batch: Batch


class Prepare(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """§4.2, from a backup: I accepted that. ``proposal`` is the primary's signature, which shows whether it told all
    the same."""

    view: View
    sequence: Sequence
    digest: Digest
    signature: Signature
    proposal: Signature


class Commit(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """§4.2: prepared here."""

    view: View
    sequence: Sequence
    digest: Digest
    proofs: Proofs


class Decided(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """To a node that is behind: this batch was executed here. f + 1 nodes that say so are to be believed."""

    sequence: Sequence
    digest: Digest
    proofs: Proofs


class Checkpoint(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """§4.3: executed up to here, with this history."""

    sequence: Sequence
    index: Index
    history: Digest
    signature: Signature


class Stable(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """§4.3: a quorum's checkpoints. To a node that is behind."""

    certificate: Certificate


class ViewChange(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """§4.4: into this view, from the last stable checkpoint (None: the beginning), with all that prepared above it."""

    view: View
    stable: Certificate | None
    prepared: Annotated[tuple[Certificate, ...], Meta(max_length=WINDOW_MAX)]
    signature: Signature


class Proposal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One pre-prepare of a new view, without its batch."""

    sequence: Sequence
    digest: Digest
    signature: Signature


class NewView(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """§4.4, from the new primary: a quorum's view-changes and what follows from them. Anybody may pass it on."""

    view: View
    changes: Annotated[tuple[tuple[NodeId, ViewChange], ...], Meta(max_length=NODES_MAX)]
    proposals: Annotated[tuple[Proposal, ...], Meta(max_length=WINDOW_MAX)]
    signature: Signature


class Status(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """How far this node is; whoever is ahead sends what it lacks (thesis §5.2)."""

    view: View
    is_changing: bool
    executed: Sequence
    stable: Sequence


class FetchBatch(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Who has the batch of this digest?"""

    digest: Digest


class BatchOf(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The answer; the digest says whether it is the one."""

    batch: Batch


class FetchLog(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """What was ordered after this sequence number?"""

    after: Sequence


class LogOf(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The digests of the batches after ``after``, up to a stable checkpoint, whose history says whether they are."""

    after: Sequence
    digests: Annotated[tuple[Digest, ...], Meta(max_length=LOG_MAX)]
    certificate: Certificate


Members: TypeAlias = Annotated[tuple[NodeId, ...], Meta(max_length=NODES_MAX)]


class Image(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A snapshot, and what its file must be. f + 1 nodes that name the same one are to be believed.

    ``members`` are those of ``epoch``, which began at ``began_at``, after ``past_members``; if there is a change under
    way, ``next_members`` follow at ``switch_at``. ``root``, of a tree over pieces of ``piece_bytes``, proves each piece
    (``parts/log/pieces.py``); without one, as an earlier release took it, nobody can fetch it.
    """

    sequence: Sequence
    index: Index
    history: Digest
    size_bytes: Natural
    digest: Digest
    members: Members = ()
    epoch: Natural = 0
    next_members: Members = ()
    switch_at: Sequence = 0
    began_at: Sequence = 0
    past_members: Members = ()
    root: Annotated[bytes, Meta(max_length=HASH_BYTES)] = b""
    piece_bytes: Natural = 0


class Offer(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """To a node that is far behind: the snapshots that are here."""

    images: Annotated[tuple[Image, ...], Meta(max_length=4)]
    proofs: Proofs


class OfferAmong(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The same where nodes have come or gone: which there are after each of the snapshots."""

    images: Annotated[tuple[Image, ...], Meta(max_length=4)]
    nodes: Annotated[tuple[Nodes, ...], Meta(max_length=4)]
    proofs: Proofs


class FetchImage(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Send me the piece of the snapshot at this index that begins there. Who has it no more offers what it has."""

    index: Index
    offset: Natural


class ImagePiece(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A piece, and the proof that it is in the snapshot."""

    chunk: Chunk
    proof: PieceProof = ()


MESSAGES = (
    *(Forward, PrePrepare, Prepare, Commit, Decided, Checkpoint, Stable, ViewChange, NewView),
    *(Status, FetchBatch, BatchOf, FetchLog, LogOf, Offer, OfferAmong, FetchImage, ImagePiece),
)


def view_change_statement(view: int, stable: Certificate | None, prepared: tuple[Certificate, ...]) -> bytes:
    """What a view-change says."""
    return sha256(_encode((view, stable, prepared))).digest()


def offer_statement(images: tuple[Image, ...]) -> bytes:
    """What an offer says."""
    return sha256(_encode(images)).digest()


def offer_among_statement(images: tuple[Image, ...], nodes: tuple[Nodes, ...]) -> bytes:
    """The same where nodes have come or gone."""
    return sha256(_encode((images, nodes))).digest()


def new_view_statement(
    view: int, changes: tuple[tuple[int, ViewChange], ...], proposals: tuple[Proposal, ...]
) -> bytes:
    """What a new-view says."""
    return sha256(_encode((view, changes, proposals))).digest()


# --- records ---


class Stored(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A batch, found by its digest."""

    batch: Batch


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """This node voted for this order: it proposed it, or it prepared."""

    view: View
    sequence: Sequence
    digest: Digest
    proposal: Signature


class Prepared(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A quorum voted; this node may have committed."""

    certificate: Certificate


class Changing(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """This node has left all views below."""

    view: View


class Entered(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """This node works in the view of this message."""

    message: NewView


class Executed(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A stable checkpoint, and the digests of the batches up to it, ``first`` and after. Their batches are stored."""

    certificate: Certificate | None
    first: Sequence
    digests: tuple[Digest, ...]


class Taken(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """This snapshot is here, and durable. ``fetched``: nothing before it is: it came from others, or room was short."""

    image: Image
    fetched: bool = False


class TakenAmong(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The same where nodes have come or gone: which there are after the snapshot."""

    image: Image
    fetched: bool
    nodes: Nodes


class Footing(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A checkpoint that this node has not reached, above which it votes for what a new view goes on with."""

    certificate: Certificate


RECORDS = (Stored, Accepted, Prepared, Changing, Entered, Executed, Taken, TakenAmong, Footing)


class PbftConfig(BoundedConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times in seconds of the local clock, sizes in bytes. All nodes must be given the same, unless it says otherwise.

    A checkpoint is made every ``checkpoint_batches``, and at most ``window`` batches are ordered beyond a stable one.
    A snapshot is taken at a checkpoint when ``snapshot_batches``, or ``snapshot_bytes`` of requests, were executed
    since the last. While one is on its way to a node, it stays, and so do the batches after it, as long as these are no
    more than ``hold_bytes_max``: so much may be written during a transfer, or it begins again with a newer snapshot.
    The primary has at most ``inflight_batches`` undecided; what comes meanwhile makes the next batch.

    The batches since the older of two snapshots, and those that are not executed yet, are in memory, and have at most
    ``log_bytes_max`` (``message_log.py``). Where they come near to that, a snapshot is taken besides. Nodes may differ
    in this, but one that may hold less than the others falls behind when they hold more.

    A request that is not executed within ``request_timeout_s`` costs the primary its view; a view that does not begin
    in time costs twice as much as the one before, up to ``view_timeout_s_max``.

    ``founders``: the nodes that the cluster began with, once others have joined it (empty: all that a node is told of
    at its start). ``members``: who votes at first (empty: every founder); the others learn. ``admins``: the public keys
    of those who may change that.
    """

    bounds: ClassVar[Mapping[str, Bounds]] = {
        "batch_count_max": Bounds(1, BATCH_COUNT_MAX),
        "batch_bytes_max": MESSAGE_SIZES,
        "inflight_batches": Bounds(1, WINDOW_MAX),
        "window": Bounds(2, WINDOW_MAX),
        "snapshot_bytes": SIZES,
        "chunk_bytes": MESSAGE_SIZES,
        "hold_bytes_max": Bounds(0, BYTES_MAX),
        "pending_max": COUNTS,
        "pending_bytes_max": SIZES,
        "log_bytes_max": SIZES,
        "request_timeout_s": TIMES,
        "view_timeout_s_max": TIMES,
        "beat_s": TIMES,
    }

    batch_count_max: int = 1024
    batch_bytes_max: int = 1 << 20
    inflight_batches: int = 4
    checkpoint_batches: int = 128
    window: int = 256
    snapshot_batches: int = 8192
    snapshot_bytes: int = 64 << 20
    chunk_bytes: int = 1 << 20
    pending_max: int = 65_536
    pending_bytes_max: int = 64 << 20
    log_bytes_max: int = 1 << 30
    request_timeout_s: float = 2.0
    view_timeout_s_max: float = 60.0
    beat_s: float = 0.2
    commits: Literal["mac", "signature"] = "mac"
    members: tuple[NodeId, ...] = ()
    founders: tuple[NodeId, ...] = ()
    admins: tuple[Public, ...] = ()
    hold_bytes_max: int = 256 << 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.checkpoint_batches <= self.window // 2 or self.window > WINDOW_MAX:
            raise ValueError(
                f"window is {self.window}, checkpoint_batches {self.checkpoint_batches}: the window is at least two "
                f"checkpoints (else ordering stops at each) and at most {WINDOW_MAX}"
            )
        if not self.window <= self.snapshot_batches <= LOG_MAX // 4:
            raise ValueError(
                f"snapshot_batches is {self.snapshot_batches}: it must be at least the window ({self.window}), so that "
                f"nodes that work together have a snapshot in common, and at most {LOG_MAX // 4}"
            )
        if not 0 < 2 * self.beat_s <= self.request_timeout_s <= self.view_timeout_s_max:
            raise ValueError(
                f"beat_s is {self.beat_s}, request_timeout_s {self.request_timeout_s}: the time-out must be at least "
                "two beats, which send again what was lost, and at most view_timeout_s_max"
            )
        if self.log_bytes_max < LOG_BATCHES_MIN * self.batch_bytes_max:
            raise ValueError(
                f"log_bytes_max is {self.log_bytes_max}: it must have room for {LOG_BATCHES_MIN} batches of "
                f"batch_bytes_max, {self.batch_bytes_max}, so that a few are under way while a snapshot is written"
            )

    def within(self, log_bytes_max: int) -> PbftConfig:
        """The same with no more than so many bytes in memory of batches, of requests that wait for their execution, and
        of messages for a later view. Snapshots are due as often as that takes, so nodes with the same budget have them
        in common."""
        log = max(LOG_BATCHES_MIN * self.batch_bytes_max, min(self.log_bytes_max, log_bytes_max * 5 // 8))
        return self.but(
            log_bytes_max=log,
            snapshot_bytes=min(self.snapshot_bytes, log // SNAPSHOT_SHARE),
            pending_bytes_max=min(self.pending_bytes_max, log_bytes_max // 4),
        )
