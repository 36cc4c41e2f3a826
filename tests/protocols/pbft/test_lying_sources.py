"""A whole group in which the source of a snapshot lies: the laggard catches up, in time, and says who it was.

Node 1 lies, 2 and 3 are honest, 4 was away until the others had dropped the batches that it lacks. The liar offers its
snapshots, unasked, so that its own offer is the one which makes them believed: it is the first source.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from quorate.kernel import Blame, Send, Turn
from quorate.protocols.pbft import Pbft
from quorate.protocols.pbft.messages import FetchImage, ImagePiece, Offer
from quorate.protocols.pbft.transfer import PATIENCE_BEATS

from tests.protocols.cluster import Flight
from tests.protocols.pbft.pbft_nodes import CONFIG, PbftCluster, request

LIAR, LAGGARD = 1, 4
FEW_PIECES = replace(CONFIG, beat_s=0.2, chunk_bytes=64)
PATIENCE_S = PATIENCE_BEATS * FEW_PIECES.beat_s
PERIODS_MAX = 3

Lie = Callable[[ImagePiece, float], tuple[ImagePiece | None, float]]
"""From a piece and what time it is to what is sent, and how many seconds later."""


def honest(m: ImagePiece, now: float) -> tuple[ImagePiece | None, float]:
    return m, 0.0


def silent(m: ImagePiece, now: float) -> tuple[ImagePiece | None, float]:
    return None, 0.0


def empty(m: ImagePiece, now: float) -> tuple[ImagePiece | None, float]:
    return replace(m, chunk=replace(m.chunk, data=b"")), 0.0


def drip(m: ImagePiece, now: float) -> tuple[ImagePiece | None, float]:
    return replace(m, chunk=replace(m.chunk, data=m.chunk.data[:1])), 0.9 * PATIENCE_S


def poison(m: ImagePiece, now: float) -> tuple[ImagePiece | None, float]:
    """Wrong bytes of full length, and then nothing more."""
    return (None if m.chunk.offset else replace(m, chunk=replace(m.chunk, data=bytes(len(m.chunk.data))))), 0.0


def late_poison(m: ImagePiece, now: float) -> tuple[ImagePiece | None, float]:
    """All but the last piece are right."""
    is_last = m.chunk.offset + len(m.chunk.data) == m.chunk.total_bytes
    return (replace(m, chunk=replace(m.chunk, data=bytes(len(m.chunk.data)))) if is_last else m), 0.0


def slow(m: ImagePiece, now: float) -> tuple[ImagePiece | None, float]:
    """Right pieces, each just before patience would end if it began anew with each."""
    return m, 0.9 * PATIENCE_S


def drying_up(m: ImagePiece, now: float) -> tuple[ImagePiece | None, float]:
    return (m if m.chunk.offset < 3 * len(m.chunk.data) else None), 0.0


MODES: dict[str, Lie] = {lie.__name__: lie for lie in (silent, empty, drip, poison, late_poison, slow, drying_up)}
LIES = {"empty", "drip", "poison", "late_poison"}
"""What no honest node could do; the others are suspected."""
WRONG = Blame(LIAR, "sends a piece that is not in the snapshot")
LATE = Blame(LIAR, "sends little or nothing of a snapshot that it offers", is_suspicion=True)


class Transfer:
    """The group, and what the laggard said of others."""

    def __init__(self, lie: Lie, make: type[Pbft] = Pbft) -> None:
        self.group = group = PbftCluster(config=FEW_PIECES, delay_s=(0.001, 0.01), make=make)
        self.lie = lie
        self.blames: list[Blame] = []
        self.asked: list[int] = []
        group.run(0.5)
        group.cut((1, 2, 3), (4,))
        for number in range(24):
            group.submit(2, request(f"value {number}"))
            group.run(0.3)
        group.heal()
        self._sent, group.sent = group.sent, self.sent  # type: ignore[method-assign]
        group.watch = self.watch

    def watch(self, node: int, turn: Turn) -> None:
        if node == LAGGARD:
            self.blames += turn.blames

    def sent(self, sender: int, sends: list[Send]) -> None:
        """What the liar sends of the snapshot is what its mode makes of it."""
        group = self.group
        for send in sends:
            if isinstance(send.message, FetchImage):
                self.asked += send.to
            if sender == LIAR and isinstance(send.message, ImagePiece):
                m, delay_s = self.lie(send.message, group.now)
                if m is not None:
                    group.network.append(Flight(group.now + 0.001 + delay_s, LIAR, LAGGARD, m))
            elif isinstance(send.message, Offer) and self.lie is not honest:
                # At once behind any other's comes the liar's, so that it is the one that makes it f + 1.
                if sender == LIAR:
                    continue
                offer = group[LIAR].core.transfer.offer(LAGGARD)
                group.network.append(Flight(group.now + 0.01, sender, LAGGARD, send.message))
                group.network.append(Flight(group.now + 0.0101, LIAR, LAGGARD, offer))
            else:
                self._sent(sender, [send])

    def catches_up(self, limit_s: float = 60.0) -> float | None:
        """How many seconds that took; None where it did not."""
        group, began = self.group, self.group.now
        done = group.run(limit_s, until=lambda: group[LAGGARD].core.history.executed >= 20)
        return group.now - began if done else None


def honest_s() -> float:
    took = Transfer(honest).catches_up()
    assert took is not None
    return took


@pytest.mark.parametrize("mode", MODES)
def test_a_lying_source_costs_three_patience_periods_at_most_and_is_named(mode: str) -> None:
    transfer = Transfer(MODES[mode])
    took = transfer.catches_up()
    assert took is not None
    assert took <= honest_s() + PERIODS_MAX * PATIENCE_S
    assert transfer.asked[0] == LIAR, "it was the source"
    assert transfer.blames == [WRONG if mode in LIES else LATE]


def test_the_pieces_are_many() -> None:
    transfer = Transfer(honest)
    assert transfer.catches_up() is not None
    assert len(transfer.asked) > 8
    assert not transfer.blames
