"""Applying: the heights that are decided and that the app has not kept yet, one after the other.

After a restart these are all heights of the log: the app is told of them again. Only when none is left does the next
height begin, for its block says what the app made of the one before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from quorate.kernel import Env
from quorate.ledger.comet.commits import COMMIT, Commit
from quorate.parts.log.replicated import Restored
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.chain_app import ChainApp, Committed, Finalized
from quorate.protocols.tendermint.checkpoints import ChainCheckpoints
from quorate.protocols.tendermint.evidence_pool import EvidencePool
from quorate.protocols.tendermint.messages import Decision, Image
from quorate.protocols.tendermint.named_blocks import NamedBlock, decode_block

PAUSE: Final = "pause"


class _Underway(NamedTuple):
    """The height that the app was asked about."""

    block: NamedBlock
    commit: Commit


class Applying:
    """``is_busy``: whether there are any, or the app is not ready for any."""

    def __init__(
        self, env: Env, app: ChainApp, chain: Chain, evidence: EvidencePool, checkpoints: ChainCheckpoints
    ) -> None:
        self._env = env
        self._checkpoints = checkpoints
        self._is_paused = False  # until the next step, so that a snapshot is of the state at its height
        self._is_recovering = False
        self._app = app
        self._chain = chain
        self._evidence = evidence
        self._waiting: deque[tuple[Decision, NamedBlock | None]] = deque()
        self._underway: _Underway | None = None
        self._said: Finalized | None = None

    @property
    def is_busy(self) -> bool:
        return self._is_paused or self._underway is not None or bool(self._waiting) or not self._app.is_ready

    def add(self, decision: Decision, block: NamedBlock | None = None) -> None:
        """The next one; ``block``: that of the decision, if it is known."""
        self._waiting.append((decision, block))
        self._go_on()

    def recover(self, decisions: Iterable[Decision]) -> None:
        """The log, after a restart. No snapshots are taken of what is past."""
        self._is_recovering = True
        self._waiting.extend((decision, None) for decision in decisions)
        self._go_on()

    def recovered(self) -> None:
        """What follows is new."""
        self._is_recovering = False

    def _go_on(self) -> None:
        if not self._is_paused and self._underway is None and self._waiting and self._app.is_ready:
            decision, block = self._waiting.popleft()
            self._underway = _Underway(block or decode_block(decision.block), COMMIT.decode(decision.commit))
            self._app.finalize(*self._underway)

    def finalized(self, said: Finalized) -> None:
        """What came of the block."""
        assert self._underway is not None, "the app was not asked"
        self._said = said
        self._app.commit(self._underway.block.block.header.height, said)

    def committed(self, answer: Committed) -> None:
        """The app has kept it: the chain goes on."""
        assert self._underway is not None, "the app was not asked"
        assert self._said is not None, "the app has not said what comes of it"
        block, commit = self._underway
        self._evidence.decided(block.block, self._chain.committee.validators)
        self._chain.advance(block, commit, self._said)
        self._underway = self._said = None
        if self._app.takes_snapshots and self._checkpoints.is_due(len(block.data)):
            self._evidence.forget_all()
            if not self._is_recovering and self._checkpoints.take(self._app.index):
                self._is_paused = True  # outputs of this Turn end here
                self._env.set_timer(PAUSE, 0.0)
        self._go_on()

    def resume(self) -> None:
        """The step after a snapshot; or the app is ready now."""
        self._is_paused = False
        self._go_on()

    @property
    def block(self) -> NamedBlock:
        """The one that the app was asked about."""
        assert self._underway is not None, "the app was not asked"
        return self._underway.block

    def begin_after(self, decisions: Iterable[Decision]) -> None:
        """The app has the state before these, and not by the blocks before them."""
        assert self._underway is None, "the app was not ready"
        self._waiting.clear()
        self._evidence.forget_all()
        self._waiting.extend((decision, None) for decision in decisions)

    def stand_on(self, image: Image) -> None:
        """The state is that of a snapshot, which the kernel's App loads."""
        self._is_paused = False
        self._waiting.clear()
        self._underway = self._said = None
        self._evidence.forget_all()
        self._app.stand_on(image.index, image.point.app_hash)
        self._env.deliver(Restored(image.index, image.height))
