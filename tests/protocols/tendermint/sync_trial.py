"""Chains whose apps take snapshots and let blocks go, in the simulator: who was away comes back by state sync.

The app is the built-in kvstore with small snapshots, and its hash is that of all it has, so that a chain can tell two
states apart. Node 1 keeps nothing over a crash. The others keep what they committed, until the node says that its app
must be emptied: an operator does that here, and starts it again.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from quorate.kernel import App, Rng
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
from quorate.machines.abci.kv_snapshots import SyncedKVStoreApp, WrittenState
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.app_liars import APP_LIARS
from quorate.protocols.tendermint.app_messages import BeyondReach
from quorate.sim.checkers.base import Violation
from quorate.sim.options import COMMON
from quorate.sim.run import RunOutcome, simulate

from tests.protocols.tendermint.app_trial import CONFIG, AppSubject, Asked, app_trial

CHUNK_ORDER = "chunks come in order"
SYNCED = CONFIG.but(chunk_bytes=48)
EVIDENCE = EvidenceParams(4, Duration(0, 300_000_000), 1 << 16)


class Checked(SyncedKVStoreApp):
    """Its hash covers what it has, so a false state is found. It wants its chunks in order."""

    def __init__(self) -> None:
        super().__init__(snapshot_interval=3, retain_blocks=5, chunk_bytes=100)
        self._wanted: list[int] = []

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
        return answer

    def apply_snapshot_chunk(self, request: RequestApplySnapshotChunk) -> ResponseApplySnapshotChunk:
        if self._wanted[:1] != [request.index]:
            raise Violation(CHUNK_ORDER, f"chunk {request.index} comes where {self._wanted[:1]} was due")
        answer = super().apply_snapshot_chunk(request)
        if answer.result is ApplyResult.ACCEPT:
            self._wanted = sorted({*self._wanted[1:], *answer.refetch_chunks})
        return answer


class SyncSubject(AppSubject):
    """``emptied``: how often the operator emptied an app; ``synced``: heights of the snapshots that apps took over."""

    app_class: ClassVar[type[Checked]] = Checked

    def __init__(self) -> None:
        super().__init__(self.app_class)
        self.emptied = 0
        self.world: Any = None

    def app(self, node: int, rng: Rng) -> App:
        made = super().app(node, rng)
        assert isinstance(made, Asked)
        made.outputs.append(lambda value: self._look(node, value))
        return made

    def workload(self, world: Any) -> Any:
        self.world = world
        return super().workload(world)

    def _look(self, node: int, value: Any) -> None:
        if isinstance(value, BeyondReach):
            self.emptied += 1
            self._kept.pop(node, None)
            self.world.after(0.01, lambda: self._restart(node))

    def _restart(self, node: int) -> None:
        (found,) = [one for one in self.world.honest if one.id == node] or [None]
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
    options = {"faults": (*COMMON, "snapshots"), "duration_s": 8.0, "config": SYNCED, "liars": APP_LIARS, **options}
    return simulate(app_trial(seed, subject or SyncSubject(), core=core, **options))
