"""SignState, alone: what it signs, what it says again, what it refuses."""

from quorate.kernel import Record
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.signing import SignState

from tests.protocols.alone import Alone
from tests.protocols.tendermint.one_node import (
    CHAIN_ID,
    NIL,
    SCHEME,
    WALL_NS,
    A,
    B,
    block,
    precommit,
    prevote,
    proposal,
)

PROPOSE, PREVOTE, PRECOMMIT = Step
NODE = 1


def bench() -> Alone[SignState]:
    return Alone(lambda env: SignState(env, SCHEME.keys(NODE), CHAIN_ID), NODE, (0, 1, 2, 3))


def test_what_is_signed_is_durable() -> None:
    alone = bench()
    turn = alone.do(alone.part.vote, PREVOTE, 0, block(A).name, WALL_NS)
    assert alone.returned == prevote(NODE, 0, A)
    assert turn.records == [Record((), alone.returned)]
    assert not turn.lazy
    turn = alone.do(alone.part.propose, 1, block(A), -1, None, WALL_NS)
    assert alone.returned == proposal(1, A, node=NODE)
    assert turn.records == [Record((), alone.returned)]


def test_the_same_is_said_again_and_not_written_again() -> None:
    alone = bench()
    alone.do(alone.part.vote, PREVOTE, 0, NIL, WALL_NS)
    turn = alone.do(alone.part.vote, PREVOTE, 0, NIL, WALL_NS + 5)
    assert (alone.returned, turn.records) == (prevote(NODE, 0, NIL), ()), "with the time that it had"
    alone.do(alone.part.propose, 1, block(A), -1, None, WALL_NS)
    turn = alone.do(alone.part.propose, 1, block(B), -1, None, WALL_NS)
    assert (alone.returned, turn.records) == (proposal(1, A, node=NODE), ()), "what was proposed, whatever is asked for"


def test_nothing_else_is_signed_for_the_same_round_and_step() -> None:
    alone = bench()
    alone.do(alone.part.vote, PREVOTE, 0, block(A).name, WALL_NS)
    for value in (block(B).name, NIL):
        turn = alone.do(alone.part.vote, PREVOTE, 0, value, WALL_NS)
        assert (alone.returned, turn.records) == (None, ())


def test_nothing_is_signed_for_what_is_over() -> None:
    alone = bench()
    alone.do(alone.part.vote, PRECOMMIT, 2, NIL, WALL_NS)
    for step, round in ((PREVOTE, 2), (PREVOTE, 1), (PRECOMMIT, 1)):
        alone.do(alone.part.vote, step, round, NIL, WALL_NS)
        assert alone.returned is None
    for round in (0, 2):
        alone.do(alone.part.propose, round, block(A), -1, None, WALL_NS)
        assert alone.returned is None
    alone.do(alone.part.propose, 3, block(A), -1, None, WALL_NS)
    assert alone.returned == proposal(3, A, node=NODE)


def test_a_height_that_is_decided_binds_nobody() -> None:
    alone = bench()
    alone.do(alone.part.vote, PRECOMMIT, 2, NIL, WALL_NS)
    alone.part.advance()
    assert alone.part.last is None
    alone.do(alone.part.vote, PREVOTE, 0, block(A, 2).name, WALL_NS + 1_000_000)
    assert alone.returned == prevote(NODE, 0, A, 2)


def test_it_remembers_what_was_restored() -> None:
    alone = bench()
    for record in (proposal(1, A, node=NODE), prevote(NODE, 1, A), precommit(NODE, 1, NIL)):
        alone.part.restore(record)
    assert alone.part.last == (1, PRECOMMIT)
    assert list(alone.part.records()) == [proposal(1, A, node=NODE), prevote(NODE, 1, A), precommit(NODE, 1, NIL)]
    alone.do(alone.part.vote, PRECOMMIT, 1, block(A).name, WALL_NS)
    assert alone.returned is None
