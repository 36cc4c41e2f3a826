"""Judging: valid(v) of the paper. It is the chain's next block, its evidence holds, and the app accepts it."""

from __future__ import annotations

from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.chain_app import ChainApp, Processed
from quorate.protocols.tendermint.current_height import CurrentHeight
from quorate.protocols.tendermint.effects import Judge
from quorate.protocols.tendermint.evidence_pool import EvidencePool


class Judging:
    """The app is asked last, and about nothing that is wrong without it."""

    def __init__(self, current: CurrentHeight, chain: Chain, evidence: EvidencePool, app: ChainApp) -> None:
        self._current = current
        self._chain = chain
        self._evidence = evidence
        self._app = app

    def on_judge(self, effect: Judge) -> None:
        """The answer may take a while."""
        height = self._current.open
        block = height.block_of(effect.value)
        header, pieces = block.block.header, block.block.evidence.evidence
        if self._chain.refusal(block.block) or self._evidence.refusal(pieces, header.height, header.time):
            height.rules.on_judged(effect.value, False)
        else:
            self._app.process(block)

    def processed(self, answer: Processed) -> None:
        """Of a block that the open height asked for, or of one that is gone."""
        rules = self._current.open.rules
        if answer.value in rules.validity:
            rules.on_judged(answer.value, answer.is_valid)
