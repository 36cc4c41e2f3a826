"""State sync where a node lies about whole states: an app that takes any, and a liar that makes one up."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import msgspec
from msgspec.structs import replace

from quorate.kernel import ROOT, Received, Send, Turn
from quorate.ledger.comet.abci.request_messages import RequestOfferSnapshot
from quorate.ledger.comet.abci.response_messages import ResponseOfferSnapshot
from quorate.machines.abci.kv_snapshots import SNAPSHOT_FORMAT, WrittenState
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.app_liars import APP_LIARS
from quorate.protocols.tendermint.app_mutants import SmallAppChain
from quorate.protocols.tendermint.sync_liars import SYNC_LIARS
from quorate.protocols.tendermint.sync_messages import FetchChunk, ListedSnapshot, SnapshotChunk, SnapshotOffer
from quorate.sim.adversary import GENERIC
from quorate.sim.adversary.liar import Liar, Means
from quorate.sim.options import COMMON
from quorate.sim.run import RunOutcome, simulate
from quorate.trials.abci.syncing import Checked, SyncSubject

from tests.protocols.tendermint.app_trial import CONFIG, app_trial

SYNCED = CONFIG.but(chunk_bytes=48)
LIARS = (*APP_LIARS, *SYNC_LIARS)
LIES = tuple(liar.name for liar in (*GENERIC, *LIARS))
SYNC_LIES = tuple(liar.name for liar in SYNC_LIARS)


class Gullible(Checked):
    """Takes any state that is well formed, in any format, and leaves it to the engine to compare."""

    def offer_snapshot(self, request: RequestOfferSnapshot) -> ResponseOfferSnapshot:
        assert request.snapshot is not None
        return super().offer_snapshot(replace(request, snapshot=replace(request.snapshot, format=SNAPSHOT_FORMAT)))

    def hash_of(self, written: WrittenState) -> bytes:
        return self._offered


class WrongState(Liar):
    """Offers a well-formed snapshot of another state, and serves it; all with the proof of a true one. Its format is
    the higher one, so it is tried first."""

    is_rare = needs_laggards = True
    name = "wrong-state"
    summary = "serves a well-formed snapshot of a state that no app ever had"

    def tell(self, send: Send) -> Iterable[Send]:
        m = send.message
        if type(m) is SnapshotOffer:
            self.means.count(self.name)
            yield Send(send.to, send.path, replace(m, snapshot=self.made_up(m.snapshot.height)[0]))
        yield send

    def hear(self, item: Received) -> None:
        """Its core knows of no such chunk: it is told by the next Turn."""
        if type(item.message) is FetchChunk:
            self._asked.append((item.sender, item.message))

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._asked: list[tuple[int, FetchChunk]] = []

    def lie(self, turn: Turn) -> Turn:
        told = super().lie(turn)
        asked, self._asked = self._asked, []
        sends = list(told.sends)
        for node, m in asked:
            snapshot, data = self.made_up(m.height)
            if m.hash == snapshot.hash:
                part = data[m.offset : m.offset + SYNCED.chunk_bytes]
                sends = [send for send in sends if send.to != (node,) or type(send.message) is not SnapshotChunk]
                sends.append(Send((node,), ROOT, SnapshotChunk(m.height, m.format, m.index, m.offset, len(data), part)))
        return replace(told, sends=sends)

    def made_up(self, height: int) -> tuple[ListedSnapshot, bytes]:
        data = msgspec.msgpack.encode(WrittenState(height, 1, [(b"nobody", b"wrote this")], []))
        metadata = sha256(data).digest()
        return ListedSnapshot(height, SNAPSHOT_FORMAT + 1, 1, sha256(metadata).digest(), metadata), data


def run_synced(
    seed: int, subject: SyncSubject | None = None, core: type[AppChain] = SmallAppChain, **options: Any
) -> RunOutcome:
    """One seed, with absences."""
    usual = {"faults": (*COMMON, "snapshots"), "duration_s": 8.0, "config": SYNCED, "liars": (*LIARS, WrongState)}
    return simulate(app_trial(seed, subject or SyncSubject(), core=core, **(usual | options)))
