"""Chains whose apps take snapshots and let blocks go, in the simulator: who was away comes back by state sync.

The app is the built-in kvstore with small snapshots, and its hash is that of all it has, so that a chain can tell two
states apart. Node 1 keeps nothing over a crash. The others keep what they committed, until the node says that its app
must be emptied: an operator does that here, and starts it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import msgspec
from msgspec.structs import replace

from quorate.kernel import ROOT, App, Received, Rng, Send, Turn
from quorate.ledger.comet.abci.contents import Misbehavior
from quorate.ledger.comet.abci.request_messages import (
    RequestApplySnapshotChunk,
    RequestFinalizeBlock,
    RequestInfo,
    RequestInitChain,
    RequestOfferSnapshot,
)
from quorate.ledger.comet.abci.response_messages import (
    ApplyResult,
    ResponseApplySnapshotChunk,
    ResponseFinalizeBlock,
    ResponseInfo,
    ResponseInitChain,
    ResponseOfferSnapshot,
)
from quorate.ledger.comet.params import ConsensusParams, Duration, EvidenceParams
from quorate.machines.abci.kv_snapshots import SNAPSHOT_FORMAT, SyncedKVStoreApp, WrittenState
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.app_liars import APP_LIARS
from quorate.protocols.tendermint.app_messages import BeyondReach
from quorate.protocols.tendermint.sync_liars import SYNC_LIARS
from quorate.protocols.tendermint.sync_messages import FetchChunk, ListedSnapshot, SnapshotChunk, SnapshotOffer
from quorate.sim.adversary import GENERIC
from quorate.sim.adversary.liar import Liar, Means
from quorate.sim.checkers.base import Violation
from quorate.sim.options import COMMON
from quorate.sim.run import RunOutcome, simulate

from tests.protocols.tendermint.app_trial import CONFIG, AppSubject, Asked, app_trial

CHUNK_ORDER = "chunks come in order"
REJECTED = "senders are rejected"
FORGETFUL = 1
AWAY_S = 0.5
AWAY_UNTIL_S = 7.0
SYNCED = CONFIG.but(chunk_bytes=48)
LIARS = (*APP_LIARS, *SYNC_LIARS)
LIES = tuple(liar.name for liar in (*GENERIC, *LIARS))
SYNC_LIES = tuple(liar.name for liar in SYNC_LIARS)
EVIDENCE = EvidenceParams(4, Duration(0, 300_000_000), 1 << 16)


class Checked(SyncedKVStoreApp):
    """Its hash covers what it has, so a false state is found. It wants its chunks in order."""

    def __init__(self) -> None:
        super().__init__(snapshot_interval=3, retain_blocks=5, chunk_bytes=100)
        self._wanted: list[int] = []
        self._unwanted: set[str] = set()
        """Senders that it rejected."""

    def _punish(self, piece: Misbehavior, updates: dict[bytes, int]) -> None:
        """Who votes twice keeps his power, so that the validators stay those that the invariants count with."""

    def digest(self, pairs: dict[bytes, bytes]) -> bytes:
        return sha256(msgspec.msgpack.encode(sorted(pairs.items()))).digest()[:8]

    def info(self, request: RequestInfo) -> ResponseInfo:
        return replace(super().info(request), last_block_app_hash=self.digest(self.pairs))

    def init_chain(self, request: RequestInitChain) -> ResponseInitChain:
        super().init_chain(request)
        return ResponseInitChain(ConsensusParams(evidence=EVIDENCE), app_hash=self.digest({}))

    def finalize_block(self, request: RequestFinalizeBlock) -> ResponseFinalizeBlock:
        answer = super().finalize_block(request)
        assert self._staged is not None
        return replace(answer, app_hash=self.digest({**self.pairs, **self._staged.pairs}))

    def hash_of(self, written: WrittenState) -> bytes:
        return self.digest(dict(written.pairs))

    def offer_snapshot(self, request: RequestOfferSnapshot) -> ResponseOfferSnapshot:
        answer = super().offer_snapshot(request)
        if self._restoring is not None and request.snapshot is not None:
            self._wanted = list(range(request.snapshot.chunks))
            self._offered = request.app_hash
        return answer

    def apply_snapshot_chunk(self, request: RequestApplySnapshotChunk) -> ResponseApplySnapshotChunk:
        if self._wanted[:1] != [request.index]:
            raise Violation(CHUNK_ORDER, f"chunk {request.index} comes where {self._wanted[:1]} was due")
        if request.sender in self._unwanted:
            raise Violation(REJECTED, f"chunk {request.index} is of {request.sender}, which the app rejected")
        answer = super().apply_snapshot_chunk(request)
        self._unwanted.update(answer.reject_senders)
        if answer.result is ApplyResult.ACCEPT:
            self._wanted = sorted({*self._wanted[1:], *answer.refetch_chunks})
        return answer


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


class SyncSubject(AppSubject):
    """``emptied``: how often the operator emptied an app; ``synced``: heights of the snapshots that apps took over."""

    def __init__(self, make: type[Checked] = Checked) -> None:
        super().__init__(make)
        self.emptied = 0
        self.world: Any = None

    def app(self, node: int, rng: Rng) -> App:
        made = super().app(node, rng)
        assert isinstance(made, Asked)
        made.outputs.append(lambda value: self._look(node, value))
        return made

    def workload(self, world: Any) -> Any:
        self.world = world
        world.after(AWAY_S, self._away)
        return super().workload(world)

    def _away(self) -> None:
        """The node that keeps nothing is away now and then, as long as there are faults."""
        found = next((one for one in self.world.honest if one.id == FORGETFUL), None)
        if found is not None and self.world.now < AWAY_UNTIL_S:
            if found.up:
                found.crash()
                self.world.after(AWAY_S, found.restart)
            self.world.after(3 * AWAY_S, self._away)

    def _look(self, node: int, value: Any) -> None:
        if isinstance(value, BeyondReach):
            self.emptied += 1
            self._kept.pop(node, None)
            self.world.after(0.01, lambda: self._restart(node))

    def _restart(self, node: int) -> None:
        found = next((one for one in self.world.honest if one.id == node), None)
        if found is not None and found.up:
            self._kept.pop(node, None)
            found.crash()
            self.world.after(0.05, found.restart)

    def calls(self, kind: type) -> list[Any]:
        return [
            call for lives in self.apps.values() for asked in lives for call in asked.calls if isinstance(call, kind)
        ]


class SyncChain(AppChain):
    LEAP_HEIGHTS = 6
    MARK_HEIGHTS = 2


def run_synced(
    seed: int, subject: SyncSubject | None = None, core: type[AppChain] = SyncChain, **options: Any
) -> RunOutcome:
    """One seed, with absences."""
    usual = {"faults": (*COMMON, "snapshots"), "duration_s": 8.0, "config": SYNCED, "liars": (*LIARS, WrongState)}
    return simulate(app_trial(seed, subject or SyncSubject(), core=core, **(usual | options)))
