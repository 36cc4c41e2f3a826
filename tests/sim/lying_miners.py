"""A miner that lies by itself: the blocks of one node have the work, and a payment that nobody can make."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from quorate.kernel import Env
from quorate.ledger.block import LedgerBlock
from quorate.ledger.chain_jobs import BlockBuilt
from quorate.parts.crypto.merkle import merkle_root
from quorate.protocols.nakamoto.core import Nakamoto
from quorate.protocols.nakamoto.messages import GiveBlocks, Headers, WantBlocks
from quorate.trials.chain.coins import sealed


class OverspendingMiner(Nakamoto):
    """It builds on what others made."""

    def __init__(self, env: Env, *args: Any, **which: Any) -> None:
        super().__init__(env, *args, **which)
        self.made: dict[bytes, LedgerBlock] = {}

    def _built(self, built: BlockBuilt) -> None:
        transactions = (*built.transactions, sealed(1, 10**6, 2, 10**6))
        payload = replace(built.payload, transactions=merkle_root(transactions))
        super()._built(BlockBuilt(built.parent, payload, transactions))

    def _mined(self, result: Any) -> None:
        assert self.draft is not None
        draft, built = self.draft
        header = self.sealer.sealed(draft, result)
        if header is not None:
            self.made[header.id] = LedgerBlock(header, built.payload, built.transactions)
            self.env.send(self.env.others, Headers((header,)))
        self._build()

    def on_want_blocks(self, sender: int, m: WantBlocks) -> None:
        if bad := tuple(self.made[id] for id in m.ids if id in self.made):
            self.env.send(sender, GiveBlocks(bad))
        super().on_want_blocks(sender, m)
