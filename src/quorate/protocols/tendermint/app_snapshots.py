"""AppSnapshots: what this node's app has to give to others: its snapshots, chunk by chunk; and where the chain stood.

The app is asked which it has (ListSnapshots) when another node wants to know, and now and then. One is offered if the
log has the block after it, whose header has the app's hash. A chunk may be longer than a message: it is loaded whole,
and the last one stays here while its parts are fetched.

What others may ask is bounded: each is told of snapshots once between two beats, and has one chunk loaded at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from quorate.kernel import Env, Key
from quorate.ledger.comet.abci.contents import AppSnapshot
from quorate.ledger.comet.abci.request_messages import RequestListSnapshots, RequestLoadSnapshotChunk
from quorate.ledger.comet.abci.response_messages import ResponseListSnapshots, ResponseLoadSnapshotChunk
from quorate.ledger.comet.headers import HEADER
from quorate.protocols.tendermint.app_messages import AskApp
from quorate.protocols.tendermint.log import DecidedLog
from quorate.protocols.tendermint.named_blocks import decode_block
from quorate.protocols.tendermint.questions import Questions
from quorate.protocols.tendermint.stands import Stands
from quorate.protocols.tendermint.sync_messages import (
    CHUNK_BYTES_MAX,
    METADATA_BYTES_MAX,
    OFFERS_MAX,
    SNAPSHOT_CHUNKS_MAX,
    SNAPSHOT_HASH_BYTES_MAX,
    AskStand,
    FetchChunk,
    ListedSnapshot,
    SnapshotChunk,
    SnapshotOffer,
    StandIs,
    StandProof,
)

LIST_BEATS: Final = 16
"""How often the app is asked without anybody wanting to know, if there are new blocks."""


class AppSnapshots:
    """``listed``: those that the app has, newest first."""

    def __init__(self, env: Env, log: DecidedLog, stands: Stands, part_bytes: int) -> None:
        self._env = env
        self._log = log
        self._stands = stands
        self._part_bytes = part_bytes
        self._questions = Questions(env, "snapshots")
        self.listed: tuple[ListedSnapshot, ...] = ()
        self._is_listing = False
        self._asking: set[int] = set()
        self._told: set[int] = set()
        self._loading: set[int] = set()
        self._loaded: tuple[tuple[int, int, int], bytes] | None = None
        """The chunk that was loaded last, and its height, format and number."""
        self._beats = self._listed_at = 0

    # --- which there are ---

    def beat(self) -> None:
        """Others may ask again."""
        self._questions.beat()
        self._told.clear()
        self._beats += 1
        if self._beats >= LIST_BEATS and self._log.last > self._listed_at:
            self._list()

    def ask(self, node: int) -> None:
        """A node wants to know of them."""
        if node not in self._told:
            self._told.add(node)
            self._asking.add(node)
            self._list()

    def _list(self) -> None:
        if not self._is_listing:
            self._is_listing = True
            self._beats, self._listed_at = 0, self._log.last
            self._questions.ask(AskApp(RequestListSnapshots()))

    def _list_is_here(self, snapshots: tuple[AppSnapshot, ...]) -> None:
        self._is_listing = False
        newest = sorted(filter(_fits, snapshots), key=lambda one: (one.height, one.format), reverse=True)
        known = [one for one in newest if self._stands.at(one.height) is not None][:OFFERS_MAX]
        self.listed = tuple([ListedSnapshot(s.height, s.format, s.chunks, s.hash, s.metadata) for s in known])
        self._stands.only(self.heights)
        asking, self._asking = sorted(self._asking), set()
        for offer in self._offers() if asking else ():
            self._env.send(tuple(asking), offer)

    @property
    def heights(self) -> list[int]:
        """Of those that are listed."""
        return [snapshot.height for snapshot in self.listed]

    @property
    def offered(self) -> list[int]:
        """Those of them of which the log has the block after."""
        return [height for height in self.heights if self._log.base <= height < self._log.last]

    def _offers(self) -> Iterator[SnapshotOffer]:
        for snapshot in self.listed:
            kept = self._stands.at(snapshot.height)
            following = self._log.after(snapshot.height)[:1]
            if kept is not None and snapshot.height in self.offered:
                header = HEADER.encode(decode_block(following[0].block).block.header)
                yield SnapshotOffer(snapshot, kept.stand, StandProof(kept.commit, header, following[0].commit))

    def on_ask_stand(self, sender: int, m: AskStand) -> None:
        """Of a height that is in the log."""
        digest = self._stands.digest(m.height)
        if digest is not None:
            self._env.send(sender, StandIs(m.height, digest))

    # --- chunks ---

    def on_fetch_chunk(self, sender: int, m: FetchChunk) -> None:
        """Of a snapshot that was offered."""
        wanted = (m.height, m.format, m.index)
        if self._loaded is not None and self._loaded[0] == wanted:
            self._send(sender, m, self._loaded[1])
        elif not any((one.height, one.format, one.hash) == (m.height, m.format, m.hash) for one in self.listed):
            self._send(sender, m, b"")
        elif sender not in self._loading:
            self._loading.add(sender)
            self._questions.ask(AskApp(RequestLoadSnapshotChunk(*wanted)), (sender, m))

    def _send(self, node: int, m: FetchChunk, chunk: bytes) -> None:
        data = chunk[m.offset : m.offset + self._part_bytes]
        total = len(chunk) if m.offset < len(chunk) <= CHUNK_BYTES_MAX else 0
        self._env.send(node, SnapshotChunk(m.height, m.format, m.index, m.offset, total, data if total else b""))

    def done(self, key: Key, result: Any) -> bool:
        """Whether this was a question of this part."""
        if not self._questions.is_of(key):
            return False
        asked = self._questions.done(key, result)
        if asked is not None and isinstance(result, ResponseListSnapshots):
            self._list_is_here(result.snapshots)
        elif asked is not None:
            assert isinstance(result, ResponseLoadSnapshotChunk), "the answer is of the request's kind"
            sender, m = asked[1]
            self._loading.discard(sender)
            self._loaded = ((m.height, m.format, m.index), result.chunk)
            self._send(sender, m, result.chunk)
        return True


def _fits(snapshot: AppSnapshot) -> bool:
    """Whether others would take it: its sizes are what messages have room for."""
    return (
        snapshot.height > 0
        and 0 < snapshot.chunks <= SNAPSHOT_CHUNKS_MAX
        and len(snapshot.hash) <= SNAPSHOT_HASH_BYTES_MAX
        and len(snapshot.metadata) <= METADATA_BYTES_MAX
    )
