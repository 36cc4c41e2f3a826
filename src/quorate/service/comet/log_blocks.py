"""LogBlocks: the blocks of a chain whose transactions are clients' requests, as its core's log has them, one by one.

The core says nothing of blocks to the layer above, which wants the requests alone. So they are read out of its log, up
to the height whose requests have come: these are durable. What a block does not say follows from it: what came of it
(``requests_outcome``), and who voted, since the powers never change.

The log begins with the first block, or after the older of the snapshots that the core has; so what the block store
lacks after a crash is there. If a snapshot came from others, the log begins anew, and what was before is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

from quorate.ledger.comet.abci.request_messages import RequestInitChain
from quorate.ledger.comet.abci.response_messages import RESPONSE, ResponseFinalizeBlock
from quorate.ledger.comet.blocks import BLOCK
from quorate.ledger.comet.param_updates import ChainParams
from quorate.ledger.comet.validators import CometValidatorSet
from quorate.protocols.tendermint.app_messages import LogBegins
from quorate.protocols.tendermint.app_requests import init_chain
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.committee import Committee
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.messages import Decision
from quorate.protocols.tendermint.requests_app import requests_outcome


class LoggedBlock:
    """An AppliedBlock. Its answer is made where it is asked for: the store's thread."""

    retain_height = 0

    def __init__(self, decision: Decision, validators: CometValidatorSet, params: ChainParams) -> None:
        self.height = decision.height
        self.block = decision.block
        self.commit = decision.commit
        self.validators = validators
        self.params = params

    @cached_property
    def answer(self) -> bytes:
        said = requests_outcome(BLOCK.decode(self.block))
        return RESPONSE.encode(ResponseFinalizeBlock(tx_results=said.results, app_hash=said.app_hash))


class LogBlocks:
    """Of one life of a node. ``height``: the last that was given out."""

    def __init__(self, core: Callable[[], Tendermint]) -> None:
        self._core = core
        self._committee: Committee | None = None
        self.height = 0

    def genesis(self) -> RequestInitChain:
        """What an app would be told of it."""
        core = self._core()
        return init_chain(Chain(core.chain.id, self._first(core), core.config.genesis_s, core.chain.verify))

    def _first(self, core: Tendermint) -> Committee:
        return Committee(core.env.peers, core.config.powers, core.keyring)

    def after(self, known: int, height: int) -> Iterator[LoggedBlock | LogBegins]:
        """Those up to this height that were not given out, from ``known`` on. Whatever the newest snapshot has is
        durable as well, so ``height`` may be less."""
        core = self._core()
        committee = self._committee
        if committee is None or self.height < core.log.base:
            committee = self._committee = self._first(core)
            if core.log.base:
                yield self._begin(core, committee)
        images = core.checkpoints.images
        most = max(height, images[-1].height if images else 0)
        for decision in core.log.after(self.height):
            if decision.height > most:
                return
            self.height = decision.height
            if decision.height >= known:
                yield LoggedBlock(decision, committee.validators, core.chain.params)
            committee.advance()

    def _begin(self, core: Tendermint, committee: Committee) -> LogBegins:
        """After the first snapshot from which the log goes on."""
        image = next(image for image in core.checkpoints.images if image.height >= core.log.base)
        point = image.point
        assert point.last is not None, "a snapshot is of a height"
        committee.stand_on(point.last, point.now, point.after)
        self.height = image.height
        return LogBegins(image.height)
