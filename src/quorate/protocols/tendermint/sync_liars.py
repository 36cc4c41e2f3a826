"""Liars that aim at nodes whose apps have no state: snapshots that nobody has, false words of where the chain stood,
and chunks that are wrong, short, late or missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from quorate.kernel import Send
from quorate.ledger.comet.params import CONSENSUS_PARAMS, Duration, EvidenceParams
from quorate.protocols.tendermint.sync_messages import (
    CHUNK_BYTES_MAX,
    METADATA_BYTES_MAX,
    Forgotten,
    NewestSnapshot,
    SnapshotChunk,
    SnapshotOffer,
    Stand,
    StandIs,
)
from quorate.protocols.tendermint.transfer_liars import OneWayEach
from quorate.sim.adversary.liar import Liar


class WrongChunks(OneWayEach):
    """Serves chunks to nodes that ask, each in one way, from the first one on or after some."""

    is_rare = needs_laggards = True
    name = "wrong-chunks"
    summary = "sends chunks of a snapshot that are wrong, short, too long or missing"

    WAYS = ("poison", "short", "long", "other", "missing", "silent", "dries")

    def tell(self, send: Send) -> Iterable[Send]:
        """A chunk, as its way with this node makes it."""
        m, means = send.message, self.means
        if type(m) is not SnapshotChunk or len(send.to) != 1:
            return (send,)
        way = self.way_with(send.to[0])
        means.count(self.name)
        if way == "silent" or (way == "dries" and m.index):
            return ()
        return (Send(send.to, send.path, self._worse(m, way)),)

    def _worse(self, m: SnapshotChunk, way: str) -> SnapshotChunk:
        data = m.data
        if way == "poison" and data:
            at = self.means.pick(range(len(data)))
            return replace(m, data=data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        if way == "short":
            return replace(m, data=data[:-1])
        if way == "long":
            return replace(m, total_bytes=CHUNK_BYTES_MAX)
        if way == "other":
            return replace(m, data=bytes(len(data)))
        return replace(m, total_bytes=0, data=b"") if way == "missing" else m


class FalseSnapshots(Liar):
    """Offers snapshots that nobody has, or its own with something false beside it; its word of stands is false too."""

    is_rare = needs_laggards = True
    name = "false-snapshots"
    summary = "offers snapshots that it made up, and says that the chain stood elsewhere"

    def tell(self, send: Send) -> Iterable[Send]:
        """An offer, or a word, that is false now and then."""
        m, means = send.message, self.means
        if type(m) is SnapshotOffer and means.chance(0.8):
            means.count(self.name)
            worse = WORSE[means.pick(tuple(WORSE))](m)
            if means.chance(0.5):
                yield Send(send.to, send.path, replace(m, snapshot=replace(m.snapshot, height=m.snapshot.height + 1)))
            yield Send(send.to, send.path, worse)
            return
        if type(m) is StandIs and means.chance(0.5):
            means.count(self.name)
            yield Send(send.to, send.path, replace(m, digest=bytes(32)))
            return
        yield send


def _with_stand(m: SnapshotOffer, stand: Stand) -> SnapshotOffer:
    return replace(m, stand=stand)


def _other_turn(m: SnapshotOffer) -> SnapshotOffer:
    """Priorities and the next proposer are not in headers."""
    point = m.stand.point
    address, power, priority = point.now.validators[-1]
    validators = (*point.now.validators[:-1], (address, power, priority + 1))
    now = replace(point.now, validators=validators, proposer=address)
    return _with_stand(m, replace(m.stand, point=replace(point, now=now)))


def _other_params(m: SnapshotOffer) -> SnapshotOffer:
    """Nor are parameters of evidence."""
    evidence = EvidenceParams(1 << 30, Duration(1 << 20), 1 << 10)
    params = replace(CONSENSUS_PARAMS.decode(m.stand.params), evidence=evidence)
    return _with_stand(m, replace(m.stand, params=CONSENSUS_PARAMS.encode(params)))


WORSE: Final[Mapping[str, Callable[[SnapshotOffer], SnapshotOffer]]] = {
    "hash": lambda m: replace(m, snapshot=replace(m.snapshot, hash=bytes(32))),
    "endless": lambda m: replace(m, snapshot=replace(m.snapshot, metadata=bytes(METADATA_BYTES_MAX))),
    "chunks": lambda m: replace(m, snapshot=replace(m.snapshot, chunks=m.snapshot.chunks + 1)),
    "format": lambda m: replace(m, snapshot=replace(m.snapshot, format=m.snapshot.format + 1)),
    "app hash": lambda m: _with_stand(m, replace(m.stand, point=replace(m.stand.point, app_hash=bytes(8)))),
    "index": lambda m: _with_stand(m, replace(m.stand, index=m.stand.index + 1)),
    "turn": _other_turn,
    "params": _other_params,
}


class FalseWords(Liar):
    """Tells of snapshots that it does not have, so that others drop their logs, and says that it dropped its own."""

    name = "false-words"
    summary = "tells of snapshots that it does not have, and of blocks that it dropped and did not"

    def tell(self, send: Send) -> Iterable[Send]:
        """Its message, and a false word now and then."""
        yield send
        if self.means.chance(0.05):
            self.means.count(self.name)
            yield Send(self.means.others, send.path, self.means.pick((NewestSnapshot(1 << 40), Forgotten(1 << 40))))


SYNC_LIARS = (WrongChunks, FalseSnapshots, FalseWords)
