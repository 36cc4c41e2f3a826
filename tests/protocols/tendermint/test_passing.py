"""Requests that were brought to one node alone: when the others are told, what those do, and whom they blame."""

from __future__ import annotations

from typing import Any

from quorate.kernel import Done, Failed, Stalled, Turn
from quorate.parts import requests
from quorate.protocols.tendermint.app_messages import Transactions, TxChecked
from quorate.protocols.tendermint.passing import ACCEPTED

from tests.protocols.tendermint.one_node import (
    CONFIG,
    ME,
    ONE,
    SCHEME,
    THREE,
    TWO,
    OneNode,
    P,
    blames,
    decision,
    proposal,
    said,
    told,
)

FORGED = ONE[:-1] + bytes([ONE[-1] ^ 1])
UNSIGNED = "tells of a request that no client signed"


def brings(node: OneNode, *values: bytes) -> Turn:
    return node.hears((ME, Transactions(values)))


def passed_on(turn: Turn) -> list[Any]:
    return [m for m in told(turn, P[0]) if isinstance(m, Transactions)]


def answered(turn: Turn) -> list[Any]:
    return [output for output in (*turn.at_once, *turn.outputs) if isinstance(output, TxChecked)]


def waits(node: OneNode) -> list[bytes]:
    return list(node.core.app.pending.waiting.values())


def test_the_others_are_told_once_the_signature_is_checked() -> None:
    node = OneNode(checks=False)
    turn = brings(node, ONE, FORGED)
    assert (passed_on(turn), answered(turn)) == ([], [])
    turn = node.checked(turn.jobs[0])
    assert passed_on(turn) == [Transactions((ONE,))]
    assert answered(turn) == [TxChecked(ONE, ACCEPTED)]
    turn = node.fires("beat")
    assert answered(turn) == []


def test_what_nobody_signed_is_told_to_who_brought_it_alone() -> None:
    turn = brings(OneNode(), FORGED)
    assert passed_on(turn) == blames(turn) == []
    assert answered(turn) == [TxChecked(FORGED, None, "not signed by a client")]


def test_they_are_told_again_while_it_waits() -> None:
    node = OneNode()
    brings(node, ONE)
    beats = [passed_on(node.fires("beat")) for _ in range(9)]
    assert [number for number, sent in enumerate(beats, 1) if sent] == [1, 2, 4, 8]
    assert beats[0] == [Transactions((ONE,))]
    node.hears((P[0], decision()))
    assert not any(passed_on(node.fires("beat")) for _ in range(16))


def test_what_is_here_already_and_what_has_no_room() -> None:
    node = OneNode(config=CONFIG.but(pending_max=1))
    node.submits(ONE)
    assert answered(brings(node, ONE)) == [TxChecked(ONE, None, "tx already exists in cache")]
    assert answered(brings(node, TWO)) == [TxChecked(TWO, None, "mempool is full")]


def test_a_block_may_have_it_before_it_is_checked() -> None:
    node = OneNode(checks=False)
    brings(node, ONE)
    node.hears((P[0], decision()))
    assert answered(node.fires("beat")) == [TxChecked(ONE, ACCEPTED)]


def test_while_the_disk_takes_nothing_it_is_refused() -> None:
    node = OneNode()
    node.step(Stalled("disk full"))
    assert answered(brings(node, ONE)) == [TxChecked(ONE, None, "the disk takes nothing")]
    assert not waits(node)


def test_who_is_told_proposes_it_and_passes_it_on_to_nobody() -> None:
    node = OneNode(node=P[0])
    turn = node.hears((P[1], Transactions((ONE,))))
    assert said(turn)[0] == proposal(0, (ONE,))
    assert not [m for m in told(turn, P[1]) if isinstance(m, Transactions)]
    assert answered(turn) == []


def test_who_tells_of_what_no_client_signed_is_blamed() -> None:
    node = OneNode()
    turn = node.hears((P[1], Transactions((FORGED, b"no request", TWO))))
    assert blames(turn) == [(P[1], UNSIGNED)] * 2
    assert waits(node) == [TWO]


def test_for_a_check_that_could_not_be_made_nobody_is_blamed() -> None:
    node = OneNode(checks=False)
    (job,) = node.hears((P[1], Transactions((ONE,)))).jobs
    turn = node.step(Done(job.key, Failed("no room"), job.path))
    assert (blames(turn), waits(node)) == ([], [])
    node.hears((P[1], Transactions((ONE,))))
    assert node.core.app.pending.holds(ONE), "its room is free again"


def test_a_node_has_its_share_of_the_room_and_no_more() -> None:
    """A node that lies can make up clients without end; those of this node must find room."""
    some = tuple(requests.sign(SCHEME.client(1), [b"%d" % number]) for number in range(6))
    for config in (CONFIG.but(pending_max=8), CONFIG.but(pending_bytes_max=8 * len(some[0]))):
        node = OneNode(config=config)
        turn = node.hears((P[1], Transactions(some)))
        assert waits(node) == list(some[:2]), "of eight for four nodes"
        assert not answered(turn), "nobody waits to hear that there is no room"
        node.hears((P[2], Transactions(some[2:])))
        assert waits(node) == list(some[:4])
        node.submits(ONE, TWO, THREE)
        assert len(waits(node)) == 7
        node.core.app.pending.decided(some[:1])
        node.hears((P[1], Transactions(some[4:])))
        assert waits(node)[-1] == some[4], "and again when a block has one"
