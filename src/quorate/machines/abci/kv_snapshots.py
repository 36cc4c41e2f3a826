"""SyncedKVStoreApp: the kvstore with snapshots, so that a new node can take over a state instead of running all blocks.

How it works. After every so many blocks the state is written down, in the one order that all nodes have, and cut into
chunks. The metadata of a snapshot are the digests of its chunks, and its hash is the digest of the metadata: so equal
states are equal snapshots, and a chunk that is not the right one is found when it comes, with who sent it. At the end
the state must have the hash that the chain says.

CometBFT's kvstore has no snapshots; the format is ours.

Limit: the kvstore's hash is the number of transactions alone, so a chain cannot tell a snapshot with other values in it
from a right one, if all that a node asks are offered it. This app is for trying state sync out.

Source: CometBFT 0.38, ``spec/abci/abci++_methods.md`` (state sync), ``spec/p2p/legacy-docs/messages/state-sync.md``.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from itertools import pairwise
from typing import Final

import msgspec

from quorate.ledger.comet.abci.contents import AppSnapshot
from quorate.ledger.comet.abci.request_messages import (
    RequestApplySnapshotChunk,
    RequestCommit,
    RequestListSnapshots,
    RequestLoadSnapshotChunk,
    RequestOfferSnapshot,
)
from quorate.ledger.comet.abci.response_messages import (
    ApplyResult,
    OfferResult,
    ResponseApplySnapshotChunk,
    ResponseCommit,
    ResponseListSnapshots,
    ResponseLoadSnapshotChunk,
    ResponseOfferSnapshot,
)
from quorate.ledger.comet.validators import PUBLIC_KEY_BYTES, TOTAL_POWER_MAX
from quorate.machines.abci.kvstore import KVStoreApp, kv_app_hash

SNAPSHOT_FORMAT: Final = 1
CHUNK_BYTES: Final = 1 << 20
SNAPSHOT_CHUNKS_MAX: Final = 1 << 12
"""What is offered may come from anybody: 4 GiB."""
KEPT: Final = 2
DIGEST_BYTES: Final = 32


class WrittenState(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot holds, sorted by keys."""

    height: int
    size: int
    pairs: list[tuple[bytes, bytes]]
    powers: list[tuple[bytes, int]]

    def check(self) -> None:
        """Raises ValueError for what no app has written."""
        for rows in (self.pairs, self.powers):
            keys = [key for key, _ in rows]
            if any(before >= after for before, after in pairwise(keys)):
                raise ValueError("its keys are not in order")
        if self.height < 1 or self.size < 0:
            raise ValueError(f"height {self.height}, {self.size} transactions")
        if any(len(key) != PUBLIC_KEY_BYTES or power < 1 for key, power in self.powers):
            raise ValueError("a validator without a key or without power")
        if sum(power for _, power in self.powers) > TOTAL_POWER_MAX:
            raise ValueError("more power than there may be")


class _Restoring:
    """A snapshot whose chunks come."""

    def __init__(self, snapshot: AppSnapshot, app_hash: bytes) -> None:
        self.height = snapshot.height
        self.app_hash = app_hash
        metadata = snapshot.metadata
        self.digests = [metadata[at : at + DIGEST_BYTES] for at in range(0, len(metadata), DIGEST_BYTES)]
        self.chunks: dict[int, bytes] = {}

    def state(self) -> WrittenState:
        """What all chunks together are. Raises ValueError."""
        data = b"".join(self.chunks[index] for index in range(len(self.digests)))
        written = msgspec.msgpack.decode(data, type=WrittenState)  # raises DecodeError, a ValueError
        written.check()
        if written.height != self.height:
            raise ValueError("the state of another height")
        return written


class SyncedKVStoreApp(KVStoreApp):
    """The app, with a snapshot after every ``snapshot_interval`` blocks; the last two are kept."""

    def __init__(self, snapshot_interval: int, retain_blocks: int = 0, chunk_bytes: int = CHUNK_BYTES) -> None:
        super().__init__(retain_blocks)
        self.snapshot_interval = snapshot_interval
        self.chunk_bytes = chunk_bytes
        self._taken: OrderedDict[int, tuple[AppSnapshot, list[bytes]]] = OrderedDict()
        """By height."""
        self._restoring: _Restoring | None = None

    def commit(self, request: RequestCommit) -> ResponseCommit:
        response = super().commit(request)
        if self.height and self.height % self.snapshot_interval == 0:
            self._take()
        return response

    def list_snapshots(self, request: RequestListSnapshots) -> ResponseListSnapshots:
        return ResponseListSnapshots(tuple(snapshot for snapshot, _ in self._taken.values()))

    def load_snapshot_chunk(self, request: RequestLoadSnapshotChunk) -> ResponseLoadSnapshotChunk:
        _, chunks = self._taken.get(request.height, (None, []))
        is_there = request.format == SNAPSHOT_FORMAT and request.chunk < len(chunks)
        return ResponseLoadSnapshotChunk(chunks[request.chunk] if is_there else b"")

    def offer_snapshot(self, request: RequestOfferSnapshot) -> ResponseOfferSnapshot:
        snapshot = request.snapshot
        self._restoring = None
        if snapshot is None:
            return ResponseOfferSnapshot(OfferResult.REJECT)
        if snapshot.format != SNAPSHOT_FORMAT:
            return ResponseOfferSnapshot(OfferResult.REJECT_FORMAT)
        is_whole = (
            0 < snapshot.chunks <= SNAPSHOT_CHUNKS_MAX and len(snapshot.metadata) == snapshot.chunks * DIGEST_BYTES
        )
        if not is_whole or sha256(snapshot.metadata).digest() != snapshot.hash:
            return ResponseOfferSnapshot(OfferResult.REJECT)
        self._restoring = _Restoring(snapshot, request.app_hash)
        return ResponseOfferSnapshot(OfferResult.ACCEPT)

    def apply_snapshot_chunk(self, request: RequestApplySnapshotChunk) -> ResponseApplySnapshotChunk:
        restoring = self._restoring
        if restoring is None or request.index >= len(restoring.digests):
            return ResponseApplySnapshotChunk(ApplyResult.ABORT)
        if sha256(request.chunk).digest() != restoring.digests[request.index]:
            # RETRY alone would give the same bytes again.
            senders = (request.sender,) if request.sender else ()
            return ResponseApplySnapshotChunk(ApplyResult.RETRY, (request.index,), senders)
        restoring.chunks[request.index] = request.chunk
        if len(restoring.chunks) < len(restoring.digests):
            return ResponseApplySnapshotChunk(ApplyResult.ACCEPT)
        self._restoring = None
        try:
            written = restoring.state()
            if self.hash_of(written) != restoring.app_hash:
                raise ValueError("the state of another chain")
        except ValueError:
            return ResponseApplySnapshotChunk(ApplyResult.REJECT_SNAPSHOT)
        self.height, self.size = written.height, written.size
        self.pairs, self.powers = dict(written.pairs), dict(written.powers)
        return ResponseApplySnapshotChunk(ApplyResult.ACCEPT)

    def hash_of(self, written: WrittenState) -> bytes:
        """What the chain says of this state."""
        return kv_app_hash(written.size)

    def _take(self) -> None:
        written = WrittenState(self.height, self.size, sorted(self.pairs.items()), sorted(self.powers.items()))
        data = msgspec.msgpack.encode(written)
        chunks = [data[at : at + self.chunk_bytes] for at in range(0, len(data), self.chunk_bytes)]
        if len(chunks) > SNAPSHOT_CHUNKS_MAX:
            return  # nobody would accept it
        metadata = b"".join(sha256(chunk).digest() for chunk in chunks)
        name = sha256(metadata).digest()
        self._taken[self.height] = (AppSnapshot(self.height, SNAPSHOT_FORMAT, len(chunks), name, metadata), chunks)
        while len(self._taken) > KEPT:
            self._taken.popitem(last=False)
