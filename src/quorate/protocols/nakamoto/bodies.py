"""Bodies: which blocks are wanted, who has said that it has them, and who was asked.

How it works. Each id has the peers that announced it, in that order. One of them is asked at a time; if the block has
not come when ``retry_s`` have passed, the next is. A peer has at most ``asked_max`` requests outstanding, so one that
answers nothing holds up few blocks, and not for long. Nothing is durable: announcements are repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

WANTED_MAX: Final = 65_536
"""Ids. What is beyond is announced again."""
OFFERS_MAX: Final = 8
"""Peers that are remembered for one id."""


class _Wanted:
    """``asked`` is the peer that was asked last, ``until`` when its time is over."""

    __slots__ = ("asked", "offers", "until")

    def __init__(self) -> None:
        self.offers: list[int] = []
        self.asked: int | None = None
        self.until = 0.0


class Bodies:
    """Of one node. Times are local, in seconds."""

    def __init__(self, retry_s: float, asked_max: int) -> None:
        self._retry_s = retry_s
        self._asked_max = asked_max
        self._wanted: dict[bytes, _Wanted] = {}
        self._outstanding: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._wanted)

    def __contains__(self, id: bytes) -> bool:
        return id in self._wanted

    def want(self, id: bytes, peer: int) -> None:
        """A peer has this block, and this node does not."""
        wanted = self._wanted.get(id)
        if wanted is None:
            if len(self._wanted) >= WANTED_MAX:
                return
            wanted = self._wanted[id] = _Wanted()
        if peer not in wanted.offers and len(wanted.offers) < OFFERS_MAX:
            wanted.offers.append(peer)

    def got(self, id: bytes) -> None:
        """It is here, or wanted no longer."""
        wanted = self._wanted.pop(id, None)
        if wanted is not None:
            self._answered(wanted)

    def refuse(self, id: bytes, peer: int) -> None:
        """What this peer gave was not it: somebody else is to be asked."""
        wanted = self._wanted.get(id)
        if wanted is not None and peer in wanted.offers:
            wanted.offers.remove(peer)
            if wanted.asked == peer:
                self._answered(wanted)
            if not wanted.offers:
                del self._wanted[id]

    def forget(self, ids: Iterable[bytes]) -> None:
        """These are in the tree no longer."""
        for id in ids:
            self.got(id)

    def due(self, now: float) -> dict[int, list[bytes]]:
        """Whom to ask for what, now."""
        asks: dict[int, list[bytes]] = {}
        for id, wanted in self._wanted.items():
            if wanted.asked is not None:
                if now < wanted.until:
                    continue
                self._answered(wanted)
                wanted.offers.append(wanted.offers.pop(0))  # it had its chance; it may have another
            peer = next((each for each in wanted.offers if self._is_free(each)), None)
            if peer is None:
                continue
            wanted.offers.remove(peer)
            wanted.offers.insert(0, peer)
            wanted.asked, wanted.until = peer, now + self._retry_s
            self._outstanding[peer] = self._outstanding.get(peer, 0) + 1
            asks.setdefault(peer, []).append(id)
        return asks

    def _is_free(self, peer: int) -> bool:
        return self._outstanding.get(peer, 0) < self._asked_max

    def _answered(self, wanted: _Wanted) -> None:
        if wanted.asked is not None:
            self._outstanding[wanted.asked] -= 1
            wanted.asked = None
