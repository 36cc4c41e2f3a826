"""Incarnations: how nodes notice that one of them has come back without what it promised.

How it works. A node draws 16 random bytes when its folder is made (``folder.py``), and names them in each Hello to
another node. Each keeps, durably, the first that it has heard from each number. A node that calls under such a number
as another incarnation has lost its folder, or is a second one under a number that is taken. Its votes and
acknowledgements are worth nothing, so it is refused, and nothing that it says is believed. Of a node that has left,
the incarnation is forgotten with the number.

One that was *repaired* (``repair.py``) says by its incarnation, which begins with another byte, that it knows what it
has lost: its protocol lets it count again when it may. It takes the place of the one before, for good: if that comes
back, say because a disk was mounted again, it is refused.

A node of an older release names none, and is taken as before. If nodes have no keys this is no proof, as nothing in a
Hello is: it catches mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final, TypeAlias

import msgspec

from quorate.runtime.handshake import Hello, LocalNode, Refused, refused

LOST_CODE: Final = "incarnation"
INCARNATION_BYTES_MAX: Final = 64
RANDOM_BYTES: Final = 16
REPAIRED: Final = b"\x01"
"""Stands before the random bytes of a repaired node; of others there are only these."""
FORMER_MAX: Final = 16
"""How many incarnations of a node are remembered. Those of 64 nodes fit the file that keeps them (``folder.py``)."""
SHOWN_BYTES: Final = 4

Incarnation: TypeAlias = Annotated[bytes, msgspec.Meta(max_length=INCARNATION_BYTES_MAX)]


class PeerHello(Hello, frozen=True, array_like=True):
    """A Hello of a node without keys. One of an older release has no incarnation."""

    incarnation: Incarnation = b""


_decode = msgspec.msgpack.Decoder(PeerHello).decode


def is_repaired(incarnation: bytes) -> bool:
    """Whether it is that of a node that lost its folder and says so."""
    return len(incarnation) == len(REPAIRED) + RANDOM_BYTES and incarnation.startswith(REPAIRED)


def peer_hello(me: LocalNode, target: int, incarnation: bytes) -> Hello:
    """What a node without keys says when it calls another one."""
    plain = me.hello(target)
    if not incarnation:
        return plain
    fields = {name: getattr(plain, name) for name in plain.__struct_fields__}
    return PeerHello(**fields, incarnation=incarnation)


def incarnation_in(frame: bytes) -> bytes:
    """The one in a Hello; empty if there is none. Whether the Hello is right is for ``judge`` to say."""
    try:
        return _decode(frame).incarnation
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return b""


NEVER_AGAIN: Final = "; without that, never start it under this number again"


class Incarnations:
    """What one node knows. ``own``: its own; ``advice``: what whoever runs a node that was lost can do."""

    def __init__(self, node: int) -> None:
        self._node = node
        self._others: dict[int, tuple[bytes, ...]] = {}
        self._on_change: Callable[[], object] = _nothing
        self.own = b""
        self.advice = NEVER_AGAIN
        self.takes_repaired = False
        """Whether the protocol has a way back for nodes that were repaired."""

    @property
    def others(self) -> Mapping[int, tuple[bytes, ...]]:
        """By number: the present one last, and before it those in whose place it came."""
        return self._others

    def copy(self) -> dict[int, tuple[bytes, ...]]:
        """Of that, from any thread."""
        return dict(self._others)

    def recall(self, own: bytes, others: Mapping[int, tuple[bytes, ...]], on_change: Callable[[], object]) -> None:
        """What is durable; ``on_change`` is called when there is more, or less."""
        self.own = own
        self._others = dict(others)
        self._on_change = on_change

    def refuses(self, node: int, incarnation: bytes) -> Refused | None:
        """Why a caller is not the node that it says it is."""
        known = self._others.get(node)
        if known is None or not incarnation or incarnation == known[-1]:
            return None
        if self._may_replace(known, incarnation):
            return None
        why = (
            f"node {node} was here with another data folder (incarnation {_shown(known[-1])}, now "
            f"{_shown(incarnation)}): it has lost its log and its votes, or two nodes have this number. Start it with "
            f"the folder it had{self.advice}"
        )
        return refused(LOST_CODE, why)

    def learn(self, node: int, incarnation: bytes) -> None:
        """A caller was let in."""
        known = self._others.get(node, ())
        if incarnation and (not known or self._may_replace(known, incarnation)):
            self._others[node] = (*known[1 - FORMER_MAX :], incarnation)
            self._on_change()

    def expect(self, node: int, incarnation: bytes) -> None:
        """The log says which folder a node began with. One that has called since may have been repaired."""
        if incarnation and node not in self._others:
            self.learn(node, incarnation)

    def _may_replace(self, known: tuple[bytes, ...], incarnation: bytes) -> bool:
        return self.takes_repaired and is_repaired(incarnation) and incarnation not in known

    def forget(self, node: int) -> None:
        """It has left, or is another one by its key."""
        if self._others.pop(node, None) is not None:
            self._on_change()


def _shown(incarnation: bytes) -> str:
    return incarnation[-RANDOM_BYTES:][:SHOWN_BYTES].hex()


def _nothing() -> None:
    """Nothing is durable here."""
