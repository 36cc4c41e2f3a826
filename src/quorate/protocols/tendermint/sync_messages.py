"""What nodes send and keep besides (``app_messages.py``) so that one that is behind can take over its app's state.

A snapshot is the app's affair: the engine knows its height, its number of chunks, and where the chain stood there.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from quorate.ledger.comet.abci.contents import BLOB_BYTES_MAX
from quorate.parts.bounds import MESSAGE_BYTES_MAX
from quorate.parts.wire import Index, Natural
from quorate.protocols.tendermint.messages import ChainPoint, CommitBytes, Digest

CHUNK_BYTES_MAX: Final = BLOB_BYTES_MAX
"""Of one chunk, as CometBFT has it (``statesync/messages.go``)."""
SNAPSHOT_CHUNKS_MAX: Final = 1 << 20
METADATA_BYTES_MAX: Final = 1 << 18
"""CometBFT takes 4 MB. Here several of several nodes are kept at a time."""
SNAPSHOT_HASH_BYTES_MAX: Final = 1 << 10
HEADER_BYTES_MAX: Final = 1 << 12
PARAMS_BYTES_MAX: Final = 1 << 12
OFFERS_MAX: Final = 4
"""Snapshots of one node that others hear of: the newest."""

_encode: Final = msgspec.msgpack.Encoder().encode

UInt32: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 32)]
Position: TypeAlias = Annotated[int, Meta(ge=0, le=CHUNK_BYTES_MAX)]
ChunkNumber: TypeAlias = Annotated[int, Meta(ge=0, lt=SNAPSHOT_CHUNKS_MAX)]
HeaderBytes: TypeAlias = Annotated[bytes, Meta(min_length=1, max_length=HEADER_BYTES_MAX)]
SnapshotHash: TypeAlias = Annotated[bytes, Meta(max_length=SNAPSHOT_HASH_BYTES_MAX)]


class ListedSnapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One that an app has, in the app's own words."""

    height: Index
    format: UInt32
    chunks: Annotated[int, Meta(ge=1, le=SNAPSHOT_CHUNKS_MAX)]
    hash: SnapshotHash
    metadata: Annotated[bytes, Meta(max_length=METADATA_BYTES_MAX)]


class Stand(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where the chain stands after a height, alike at all nodes: ``params`` (ConsensusParams) of the next block, the
    number of transactions so far, and the header of this height."""

    point: ChainPoint
    params: Annotated[bytes, Meta(max_length=PARAMS_BYTES_MAX)]
    index: Natural
    header: HeaderBytes


class StandProof(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The commit of the stand's block, and the next header, which names the app's hash, with its own commit."""

    commit: CommitBytes
    following: HeaderBytes
    following_commit: CommitBytes


class AskSnapshots(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Which snapshots are there?"""


class SnapshotOffer(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The sender's app has this one, and the chain stood there."""

    snapshot: ListedSnapshot
    stand: Stand
    proof: StandProof


class AskStand(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Where did the chain stand after this height?"""

    height: Index


class StandIs(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """There (``stand_digest``)."""

    height: Index
    digest: Digest


class FetchChunk(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Send so much of a chunk as fits into one message, from this position on."""

    height: Index
    format: UInt32
    hash: SnapshotHash
    index: ChunkNumber
    offset: Position


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """This is it, of a chunk of so many bytes; 0: the sender does not have it."""

    height: Index
    format: UInt32
    index: ChunkNumber
    offset: Position
    total_bytes: Position
    data: Annotated[bytes, Meta(max_length=MESSAGE_BYTES_MAX)]


class NewestSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The sender's app has one of this height, and none of a later one."""

    height: Index


class Forgotten(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """To a node that is behind: the sender's log begins after this height, so it cannot send what is missing."""

    base: Index


SYNC_MESSAGES: Final = (
    *(AskSnapshots, SnapshotOffer, AskStand, StandIs),
    *(FetchChunk, SnapshotChunk, NewestSnapshot, Forgotten),
)

# --- records ---


class Aimed(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The app is about to be offered a snapshot of this height; the commit is that of its block."""

    stand: Stand
    commit: CommitBytes


class Based(Aimed, frozen=True, array_like=True, tag=True, gc=False):
    """The log begins after this height: what is before it is not here, and not needed."""


class Stranded(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """No other node has the blocks after this height, which is this node's last. If its app is emptied, it is to be
    given the state of others, and not the blocks of this log."""

    height: Index


SYNC_RECORDS: Final = (Aimed, Based, Stranded)


def stand_digest(stand: Stand) -> bytes:
    """What nodes compare."""
    return sha256(_encode(stand)).digest()
