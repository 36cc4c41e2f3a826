"""OneHistory: all apps go through one history, which is that of the blocks.

How it works. The first node that applies a block says what the block is and what the app made of it; all others, and
each later life, must say the same. A client takes a transaction for done when a node has applied a block that has it:
from then on every app must come to have it. At the end the apps are compared with each other, with what they were told,
and with the key-value pairs that the blocks alone make.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final

import msgspec

from quorate.ledger.comet.abci.contents import Misbehavior, misbehaviors
from quorate.ledger.comet.abci.request_messages import Request, RequestFinalizeBlock
from quorate.ledger.comet.blocks import BLOCK
from quorate.ledger.comet.evidence import Misconduct
from quorate.machines.abci.kvstore import VALIDATOR_PREFIX
from quorate.protocols.tendermint.app_messages import BlockApplied, EvidenceTaken, LogBegins, finalized_of
from quorate.sim.checkers.base import Checker, Violation

ONE_HISTORY: Final = "all apps have one history"
TOLD_ALL: Final = "apps are told what blocks say"
KEPT_ALL: Final = "apps have what blocks say"


class BlockSays(msgspec.Struct, frozen=True):
    """What a block has for apps."""

    txs: tuple[bytes, ...]
    misbehavior: tuple[Misbehavior, ...]


class OneHistory(Checker):
    """Every node applies the same blocks, with the same outcomes, in each life from the first one on."""

    def __init__(self) -> None:
        self.heights: list[tuple[bytes, bytes]] = []
        """By height from 1 on: a digest of the block, and the app's hash after it."""
        self.told: list[BlockSays] = []
        """By height from 1 on."""
        self.pairs: dict[bytes, bytes] = {}
        """What the blocks' transactions make."""
        self.txs: set[bytes] = set()
        self.pieces: list[Misconduct] = []
        self.is_shown = False
        """Whether a node has said that it has a piece of evidence which somebody showed to it."""
        self.answers: set[str] = set()
        """What nodes said to such pieces: why it is not taken; empty: it is."""
        self.reached: dict[int, int] = {}

    @property
    def size(self) -> int:
        """How many transactions the blocks have."""
        return sum(len(told.txs) for told in self.told)

    def started(self, node: int, core: Any) -> None:
        """Its log is gone through from the beginning."""
        self.reached[node] = 0

    def output(self, node: int, value: Any) -> None:
        """Raises Violation."""
        if isinstance(value, EvidenceTaken):
            self.answers.add(value.why)
            self.is_shown = self.is_shown or not value.why
        if isinstance(value, LogBegins):
            self.reached[node] = value.height
        if not isinstance(value, BlockApplied):
            return
        its = (sha256(value.block).digest(), finalized_of(value.answer).app_hash)
        if value.height != self.reached[node] + 1:
            raise Violation(ONE_HISTORY, f"node {node} applies height {value.height} after {self.reached[node]}")
        self.reached[node] = value.height
        if value.height > len(self.heights):
            self._grow(value, its)
        elif self.heights[value.height - 1] != its:
            raise Violation(ONE_HISTORY, f"node {node} applied another block at height {value.height}, or otherwise")

    def _grow(self, value: BlockApplied, its: tuple[bytes, bytes]) -> None:
        block = BLOCK.decode(value.block)
        txs, pieces = block.data.txs, block.evidence.evidence
        self.heights.append(its)
        self.told.append(BlockSays(txs, tuple([told for piece in pieces for told in misbehaviors(piece)])))
        self.txs.update(txs)
        self.pieces += pieces
        for tx, result in zip(txs, finalized_of(value.answer).results, strict=True):
            if result.code == 0 and not tx.startswith(VALIDATOR_PREFIX):
                key, _, text = tx.replace(b":", b"=", 1).partition(b"=")
                self.pairs[key] = text

    def check_told(self, node: int, calls: Iterable[Request]) -> None:
        """The calls of one life of an app. Raises Violation."""
        for call in calls:
            if isinstance(call, RequestFinalizeBlock) and call.height <= len(self.told):
                if BlockSays(call.txs, call.misbehavior) != self.told[call.height - 1]:
                    raise Violation(TOLD_ALL, f"the app of node {node} was told otherwise of height {call.height}")

    def check_kept(self, node: int, pairs: dict[bytes, bytes], size: int) -> None:
        """An app's state after the last block. Raises Violation."""
        if pairs == self.pairs and size == self.size:
            return
        wrong = sorted(key for key in {*pairs, *self.pairs} if pairs.get(key) != self.pairs.get(key))
        what = f"other values of {wrong[:4]}" if wrong else f"{size} transactions, not {self.size}"
        raise Violation(KEPT_ALL, f"the app of node {node} has {what} after height {len(self.heights)}")
