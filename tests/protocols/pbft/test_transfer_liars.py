"""Liars aimed at nodes that catch up: whom they speak to unasked, and what becomes of what is sent to laggards."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import ROOT, Received, Send, Turn
from quorate.parts.crypto.keys import Symbolic
from quorate.parts.log.pieces import count_of, is_proven
from quorate.protocols.pbft.liars import resign_pbft
from quorate.protocols.pbft.messages import (
    OFFER,
    FetchImage,
    FetchLog,
    Image,
    ImagePiece,
    LogOf,
    Offer,
    Prepare,
    Stable,
    Status,
    offer_statement,
)
from quorate.protocols.pbft.transfer_liars import EarlyProofs, FalseOffers, LyingSource, Withholding
from quorate.sim.adversary.liar import Liar, Means

from tests.protocols.pbft.alone import Alone
from tests.protocols.pbft.pbft_nodes import FOUR, X, Y, image_piece, in_pieces, stable
from tests.sim.liars import Dice

SCHEME = Symbolic(range(1, 5))
FILE = bytes(range(1, 41))
IMAGE = in_pieces(Image(8, 20, b"h" * 32, 0, b"d" * 32, FOUR), FILE)
PIECE = image_piece(IMAGE, FILE)
LAST = image_piece(IMAGE, FILE, 32)


def liar(kind: type[Liar], core: Any = None) -> Any:
    made = kind(Means(1, FOUR, Dice(), SCHEME.keys(1), resign_pbft))  # type: ignore[arg-type]
    made.means.core = core
    return made


def told(made: Liar, m: Any, to: tuple[int, ...] = (4,)) -> list[Any]:
    return [send.message for send in made.tell(Send(to, ROOT, m))]


def is_right(m: ImagePiece) -> bool:
    chunk = m.chunk
    count = count_of(len(FILE), IMAGE.piece_bytes)
    return is_proven(IMAGE.root, count, chunk.offset // IMAGE.piece_bytes, chunk.data, m.proof)


def with_snapshot() -> Any:
    """The honest core of a liar that has one."""
    offer = Offer((IMAGE,), (b"mine",))
    history, transfer = SimpleNamespace(images=[IMAGE]), SimpleNamespace(offer=lambda to: offer)
    return SimpleNamespace(history=history, transfer=transfer, env=SimpleNamespace(peers=FOUR))


# --- a lying source ---


@pytest.mark.parametrize("way", ["empty", "drip", "poison", "unproven"])
def test_a_piece_that_is_none(way: str) -> None:
    made = liar(LyingSource)
    made._ways = {4: way}
    (lie,) = told(made, PIECE)
    assert is_right(PIECE)
    assert not is_right(lie)
    assert (lie.chunk.index, lie.chunk.offset) == (PIECE.chunk.index, 0), "it looks like the one that was asked for"
    assert made.means.told == {"pieces poisoned": 1}


def test_the_last_piece_alone_is_wrong() -> None:
    made = liar(LyingSource)
    made._ways = {4: "last"}
    assert told(made, PIECE) == [PIECE]
    (lie,) = told(made, LAST)
    assert not is_right(lie)


def test_a_transfer_that_dries_up_or_never_begins() -> None:
    made = liar(LyingSource)
    made._ways = {3: "silent", 4: "dries"}
    assert told(made, PIECE, (3,)) == []
    for _ in range(2):
        made.hear(Received(4, FetchImage(20, 0)))
        assert told(made, PIECE) == [PIECE]
    made.hear(Received(4, FetchImage(20, 0)))
    assert told(made, PIECE) == []
    assert made.means.told == {"transfers cut": 2}


def test_every_piece_late() -> None:
    made = liar(LyingSource)
    made._ways = {4: "slow"}
    assert told(made, PIECE) == []
    ((_, late),) = made.means.delayed
    assert late == Send((4,), ROOT, PIECE)


def test_it_volunteers_to_who_is_behind_again_and_again() -> None:
    made = liar(LyingSource, with_snapshot())
    made.late_s_max = 0.0
    made.hear(Received(3, Status(0, False, 9, 8)))
    made.hear(Received(4, Status(0, False, 2, 0)))
    assert [(send.to, type(send.message)) for send in made.lie(Turn()).sends] == [((4,), Offer)]
    assert list(made.lie(Turn()).sends) == [], "a moment later not yet"
    made.means.now += 1.0
    assert [send.to for send in made.lie(Turn()).sends] == [(4,)]
    made.hear(Received(4, Status(0, False, 9, 8)))
    made.means.now += 1.0
    assert list(made.lie(Turn()).sends) == [], "it has caught up"
    made.hear(Received(9, Status(0, False, 2, 0)))
    made.means.now += 1.0
    assert list(made.lie(Turn()).sends) == [], "it has no key for a node that it does not know"


@pytest.mark.parametrize("question", [Status(0, False, 2, 0), FetchLog(2)], ids=["status", "fetch-log"])
def test_one_that_is_not_eager_offers_a_little_later(question: Any) -> None:
    """The first source is whoever completes f + 1 offers."""
    made = liar(LyingSource, with_snapshot())
    made.late_s_max = 0.01
    made.hear(Received(4, question))
    offer = Send((4,), ROOT, made.means.core.transfer.offer(4))
    assert [late for _, late in made.means.delayed] == [offer] * 3
    assert all(0.0 <= delay_s <= 0.01 for delay_s, _ in made.means.delayed)
    assert list(made.lie(Turn(sends=[offer])).sends) == [], "its honest half is not to come first"


def test_one_that_is_not_eager_offers_nothing_to_who_has_it_all_or_is_unknown() -> None:
    made = liar(LyingSource, with_snapshot())
    made.late_s_max = 0.01
    made.hear(Received(4, FetchLog(IMAGE.sequence)))
    made.hear(Received(9, FetchLog(0)))
    assert made.means.delayed == []


# --- proofs that come too early ---


def test_a_log_and_a_checkpoint_of_its_own_before_the_laggard_can_check_them() -> None:
    ahead = Alone(3)
    ahead.execute((X,), (Y,))
    ahead.do(ahead.history.stabilize, proof := stable((X,), (Y,)))
    digests = tuple(ahead.history.digests[sequence] for sequence in (1, 2))
    made = liar(EarlyProofs, ahead)
    made.hear(Received(4, Status(0, False, 0, 0)))
    made.hear(Received(2, FetchLog(1)))
    made.hear(Received(3, Status(0, False, 2, 2)))
    assert [(send.to, send.message) for send in made.lie(Turn()).sends] == [
        ((4,), Stable(proof)),
        ((4,), LogOf(0, digests, proof)),
        ((2,), LogOf(1, digests[1:], proof)),
    ]
    assert list(made.lie(Turn()).sends) == []
    assert told(made, Stable(proof)) == [], "what its honest half would say comes in the right order"


# --- offers of what nobody has ---


@pytest.mark.parametrize("draw", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_an_offer_of_something_else_is_rightly_signed(draw: float) -> None:
    made = liar(FalseOffers)
    made.rate = 1.0
    made.means.rng.numbers = [0.0, draw]
    (lie,) = told(made, Offer((IMAGE,), ()))
    assert lie.images != (IMAGE,)
    assert SCHEME.keys(4).has_mac(1, OFFER, offer_statement(lie.images), lie.proofs)
    assert told(made, Stable(stable((X,)))) == [Stable(stable((X,)))]


# --- what is held back ---


def test_what_laggards_need_is_held_back_from_some() -> None:
    made = liar(Withholding)
    made.victims, made.kinds, made.delay_s = (4,), (ImagePiece, Stable), None
    proof = Stable(stable((X,)))
    assert list(made.tell(Send((3, 4), ROOT, proof))) == [Send((3,), ROOT, proof)]
    vote = Prepare(0, 1, bytes(32), b"", b"")
    assert told(made, vote) == [vote]
    made.delay_s = 0.5
    assert told(made, PIECE) == []
    assert made.means.delayed == [(0.5, Send((4,), ROOT, PIECE))]


def test_a_wrong_piece_differs_from_the_right_one() -> None:
    """An empty file's only piece is empty: a lie about it would be none."""
    made = liar(LyingSource)
    made._ways = {4: "empty"}
    empty = replace(PIECE, chunk=replace(PIECE.chunk, data=b""))
    assert told(made, empty) == [empty]
    assert made.means.told == {}
