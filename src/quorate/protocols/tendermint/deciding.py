"""Deciding: how the open height ends here. A quorum precommitted a block before this node's eyes; or another node shows
such a commit; or a snapshot of a later height takes the place of all before.

What is decided is written down, and the app is asked what comes of it (``applying.py``).
"""

from __future__ import annotations

from quorate.kernel import Env
from quorate.protocols.tendermint.applying import Applying
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.checkpoints import ChainCheckpoints
from quorate.protocols.tendermint.commits import decided_block
from quorate.protocols.tendermint.current_height import CurrentHeight
from quorate.protocols.tendermint.effects import Decide
from quorate.protocols.tendermint.extensions import check_extensions
from quorate.protocols.tendermint.log import DecidedLog
from quorate.protocols.tendermint.messages import Decision, Offer
from quorate.protocols.tendermint.named_blocks import NamedBlock
from quorate.protocols.tendermint.proposing import Proposing
from quorate.protocols.tendermint.step_timeouts import StepTimeouts


class Deciding:
    """While what was decided is applied, nothing else is."""

    def __init__(
        self,
        env: Env,
        current: CurrentHeight,
        chain: Chain,
        log: DecidedLog,
        checkpoints: ChainCheckpoints,
        applying: Applying,
        proposing: Proposing,
        timeouts: StepTimeouts,
    ) -> None:
        self._env = env
        self._current = current
        self._chain = chain
        self._log = log
        self._checkpoints = checkpoints
        self._applying = applying
        self._proposing = proposing
        self._timeouts = timeouts

    @property
    def _is_open(self) -> bool:
        """Whether it could end now."""
        return not self._applying.is_busy and not self._current.is_stalled

    def on_decide(self, effect: Decide) -> None:
        """By the precommits that came here."""
        height = self._current.open
        block = height.block_of(effect.value)
        self._decide(height.decision(effect.round, block), block)

    def on_decision(self, sender: int, m: Decision) -> bool:
        """Of any node, if it is proven. Whether the height has ended by it."""
        if m.height != self._current.open.number or not self._is_open:
            return False
        block = self._proven(m)
        if block is None:
            self._env.blame(sender, "sent a decision without a proof")
            return False
        self._decide(m, block)
        return True

    def _proven(self, m: Decision) -> NamedBlock | None:
        """The next block, if this decides it."""
        try:
            block = decided_block(self._chain, m.block, m.commit)
            check_extensions(self._chain, m)
        except ValueError:
            return None
        return block if self._chain.refusal(block.block) is None else None

    def _decide(self, decision: Decision, block: NamedBlock) -> None:
        self._log.add(decision)
        self.end(decision.height)
        self._applying.add(decision, block)

    def install(self, offer: Offer | None) -> bool:
        """The state is that of a snapshot that was fetched, if it is still ahead of this node. Whether it is."""
        if offer is None or offer.image.height < self._current.next or not self._is_open:
            return False
        self._checkpoints.install(offer)
        self._applying.stand_on(offer.image)
        self.end(offer.image.height)
        return True

    def end(self, height: int) -> None:
        """All heights up to this one are decided."""
        self._current.leave(height)
        self._proposing.stop()
        self._timeouts.cancel()
