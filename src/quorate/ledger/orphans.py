"""OrphanHeaders: headers whose parent is unknown, until it comes, within bounds that no peer can push others out of.

How it works. Orphans are kept by the parent that they wait for. Each peer has a share of the room, and loses its oldest
orphan when it is over that; when all together are over the whole, the peer that holds the most loses its oldest. So a
peer that floods loses its own. An orphan is charged to the peer that sent it first.

Orphans are hints: to lose one costs a question with a locator. Nothing is durable.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, NamedTuple

from quorate.ledger.header import LedgerHeader

ORPHAN_BYTES: Final = 512
"""What one is charged: eighty bytes, and what Python needs to hold and find them."""
ORPHANS_BYTES_MAX: Final = 16 << 20
PEER_BYTES_MAX: Final = 1 << 20


class OrphanHeader(NamedTuple):
    """One that waits, and who is charged for it."""

    id: bytes
    header: LedgerHeader
    peer: Hashable


class OrphanHeaders:
    """``peer`` is whatever the core knows a peer by."""

    __slots__ = ("_by_id", "_by_parent", "_by_peer", "_in_all_max", "_of_a_peer_max")

    def __init__(self, bytes_max: int = ORPHANS_BYTES_MAX, peer_bytes_max: int = PEER_BYTES_MAX) -> None:
        self._in_all_max = bytes_max // ORPHAN_BYTES
        self._of_a_peer_max = peer_bytes_max // ORPHAN_BYTES
        self._by_id: dict[bytes, OrphanHeader] = {}
        self._by_parent: dict[bytes, dict[bytes, None]] = {}
        self._by_peer: dict[Hashable, dict[bytes, None]] = {}
        """Oldest first."""

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def size_bytes(self) -> int:
        """Of all together."""
        return len(self._by_id) * ORPHAN_BYTES

    def size_bytes_of(self, peer: Hashable) -> int:
        """What a peer is charged."""
        return len(self._by_peer.get(peer, ())) * ORPHAN_BYTES

    def put(self, peer: Hashable, header: LedgerHeader, id: bytes | None = None) -> None:
        """Keep one, if there is room for any at all."""
        id = header.id if id is None else id
        if id in self._by_id or not self._in_all_max or not self._of_a_peer_max:
            return
        if len(self._by_peer.get(peer, ())) >= self._of_a_peer_max:
            self._drop_oldest(peer)
        elif len(self._by_id) >= self._in_all_max:
            self._drop_oldest(max(self._by_peer, key=lambda each: len(self._by_peer[each])))
        self._by_id[id] = OrphanHeader(id, header, peer)
        self._by_parent.setdefault(header.parent, {})[id] = None
        self._by_peer.setdefault(peer, {})[id] = None

    def claim(self, parent: bytes) -> list[OrphanHeader]:
        """The parent is here: what waited for it, which is kept no longer."""
        return [self._drop(id) for id in list(self._by_parent.get(parent, ()))]

    def wanted(self) -> list[tuple[bytes, Hashable]]:
        """The parents that are waited for and are no orphans themselves, and a peer that should have each."""
        return [
            (parent, self._by_id[next(iter(ids))].peer)
            for parent, ids in self._by_parent.items()
            if parent not in self._by_id
        ]

    def forget(self, peer: Hashable) -> None:
        """The peer is gone."""
        for id in list(self._by_peer.get(peer, ())):
            self._drop(id)

    def _drop_oldest(self, peer: Hashable) -> None:
        self._drop(next(iter(self._by_peer[peer])))

    def _drop(self, id: bytes) -> OrphanHeader:
        orphan = self._by_id.pop(id)
        for index, name in ((self._by_parent, orphan.header.parent), (self._by_peer, orphan.peer)):
            _remove(index, name, id)
        return orphan


def _remove(index: dict[bytes, dict[bytes, None]] | dict[Hashable, dict[bytes, None]], name: object, id: bytes) -> None:
    ids = index[name]  # type: ignore[index]
    del ids[id]
    if not ids:
        del index[name]  # type: ignore[arg-type]
