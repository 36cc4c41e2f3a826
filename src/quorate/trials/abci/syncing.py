"""Chains whose apps take snapshots and let blocks go: a node that was away comes back by state sync.

The app is the built-in kvstore with small snapshots, and its hash is that of all it has, so that a chain can tell two
states apart. One node keeps nothing over a crash. The others keep what they committed, until the node says that its app
must be emptied: an operator does that here, and starts it again.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

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
from quorate.protocols.tendermint.app_messages import BeyondReach
from quorate.protocols.tendermint.extension_liars import OF_EXTENSIONS
from quorate.sim.checkers.base import Violation
from quorate.sim.workload import Results, Workload
from quorate.trials.abci.asked_app import AskedApp
from quorate.trials.abci.subject import FORGETFUL, AppSubject

CHUNK_ORDER: Final = "chunks come in order"
REJECTED: Final = "senders are rejected"
AWAY_S: Final = 0.5
CALM_S: Final = 1.0
"""Before the end of the faults nobody goes away any more."""
EVIDENCE: Final = EvidenceParams(4, Duration(0, 300_000_000), 1 << 16)


class Checked(SyncedKVStoreApp):
    """Its hash covers what it has, so a false state is found. It wants its chunks in order."""

    def __init__(self) -> None:
        super().__init__(snapshot_interval=3, retain_blocks=5, chunk_bytes=100)
        self._wanted: list[int] = []
        self._unwanted: set[str] = set()
        """Senders that it rejected."""
        self._offered = b""
        """The hash that the state is to have, as the engine says."""

    def _punish(self, piece: Misbehavior, updates: dict[bytes, int]) -> None:
        """Who votes twice keeps his power, so that the validators stay those that the invariants count with."""

    def digest(self, pairs: dict[bytes, bytes]) -> bytes:
        """Of all key-value pairs."""
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


class SyncSubject(AppSubject):
    """``emptied``: how often the operator emptied an app."""

    idle = OF_EXTENSIONS

    def __init__(self, make: Callable[[], SyncedKVStoreApp] = Checked) -> None:
        super().__init__(make)
        self.emptied = 0
        self.world: Any = None

    def app(self, node: int, rng: Rng) -> App:
        """And the operator listens."""
        made = super().app(node, rng)
        assert isinstance(made, AskedApp)
        made.outputs.append(lambda value: self._look(node, value))
        return made

    def workload(self, world: Any) -> Workload:
        """And absences of the node whose app keeps nothing."""
        self.world = world
        world.after(AWAY_S, self._away)
        return super().workload(world)

    def _away(self) -> None:
        """It is away now and then, as long as there are faults."""
        found = self._found(FORGETFUL)
        if found is not None and self.world.now < self.world.options.duration_s - CALM_S:
            if found.up:
                found.crash()
                self.world.after(AWAY_S, found.restart)
            self.world.after(3 * AWAY_S, self._away)

    def _found(self, node: int) -> Any:
        """A node, if it is honest and there."""
        return next((one for one in self.world.honest if one.id == node), None)

    def _look(self, node: int, value: Any) -> None:
        if isinstance(value, BeyondReach):
            self.emptied += 1
            self._kept.pop(node, None)
            self.world.after(0.01, lambda: self._restart(node))

    def _restart(self, node: int) -> None:
        found = self._found(node)
        if found is not None and found.up:
            self._kept.pop(node, None)
            found.crash()
            self.world.after(0.05, found.restart)

    def results(self, world: Any) -> Results:
        """And how often an app was emptied."""
        results = super().results(world)
        return replace(results, counts={**results.counts, "apps emptied": self.emptied})
