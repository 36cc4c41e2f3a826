"""CurrentHeight: the height that is being decided, which is another one when that is done. Many parts read it.

``Deciding`` ends it by ``leave``, and the core opens the next one when the app has the block. Between the two, ``open``
is still the height that was decided, and ``next`` is ahead of it. Before the first one it is height 0, at which nothing
happens.
"""

from __future__ import annotations

from typing import Final

from quorate.parts.crypto.keys import Keys
from quorate.protocols.tendermint.blockchain import Chain
from quorate.protocols.tendermint.height import Height
from quorate.protocols.tendermint.lock_state import LockState
from quorate.protocols.tendermint.messages import vote_said
from quorate.protocols.tendermint.named_blocks import decode_block
from quorate.protocols.tendermint.open_height import OpenHeight, said_of
from quorate.protocols.tendermint.signing import SignState

STALLED: Final = "the disk takes nothing"
"""Why nothing is taken in."""


class CurrentHeight:
    """``open``: it. ``is_stalled``: the disk is full, so nothing is taken in and nothing signed."""

    def __init__(
        self,
        keys: Keys,
        chain: Chain,
        signed: SignState,
        locks: LockState,
        open_class: type[OpenHeight] = OpenHeight,
        rules_class: type[Height] = Height,
    ) -> None:
        self._keys = keys
        self._chain = chain
        self._signed = signed
        self._locks = locks
        self._open_class = open_class
        self._rules_class = rules_class
        self.open = self._make(0)
        self.is_stalled = False

    def _make(self, number: int) -> OpenHeight:
        return self._open_class(number, self._keys, self._chain, self._rules_class)

    @property
    def next(self) -> int:
        """The first height that is not decided."""
        return self._signed.height

    def leave(self, height: int) -> None:
        """It is decided: nothing that was signed for it matters any more."""
        self._signed.advance_to(height + 1)
        self._locks.clear()

    def open_next(self) -> None:
        """The first one that is not decided."""
        self.open = self._make(self.next)
        self.resume()

    def resume(self) -> None:
        """Go on after what this node signed last at the open height, with its lock, if there is any."""
        last = self._signed.last
        if last is None:
            return
        own, rules, node = self._signed.proposal, self.open.rules, self._keys.node
        if own is not None:
            rules.on_said(said_of(node, own, decode_block(own.block)))
        for vote in self._signed.votes.values():
            rules.on_said(vote_said(vote))
        locked, valid = (
            (kept.round, decode_block(kept.block).name) if kept else None
            for kept in (self._locks.lock, self._locks.valid)
        )
        rules.resume(*last, locked, valid)
