"""SignState, alone: what it signs, what it says again, what it refuses."""

from quorate.kernel import Record
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.messages import batch_id
from quorate.protocols.tendermint.signing import SignState

from tests.protocols.alone import Alone
from tests.protocols.tendermint.one_node import NIL, SCHEME, A, B, precommit, prevote, proposal

PROPOSE, PREVOTE, PRECOMMIT = Step
NODE = 1


def bench() -> Alone[SignState]:
    return Alone(lambda env: SignState(env, SCHEME.keys(NODE)), NODE, (0, 1, 2, 3))


def test_what_is_signed_is_durable() -> None:
    alone = bench()
    turn = alone.do(alone.part.vote, PREVOTE, 0, batch_id(A))
    assert alone.returned == prevote(NODE, 0, A)
    assert turn.records == [Record((), alone.returned)]
    assert not turn.lazy
    turn = alone.do(alone.part.propose, 1, A, -1, None)
    assert alone.returned == proposal(1, A, node=NODE)
    assert turn.records == [Record((), alone.returned)]


def test_the_same_is_said_again_and_not_written_again() -> None:
    alone = bench()
    alone.do(alone.part.vote, PREVOTE, 0, NIL)
    turn = alone.do(alone.part.vote, PREVOTE, 0, NIL)
    assert (alone.returned, turn.records) == (prevote(NODE, 0, NIL), ())
    alone.do(alone.part.propose, 1, A, -1, None)
    turn = alone.do(alone.part.propose, 1, B, -1, None)
    assert (alone.returned, turn.records) == (proposal(1, A, node=NODE), ()), "what was proposed, whatever is asked for"


def test_nothing_else_is_signed_for_the_same_round_and_step() -> None:
    alone = bench()
    alone.do(alone.part.vote, PREVOTE, 0, batch_id(A))
    for value in (batch_id(B), NIL):
        turn = alone.do(alone.part.vote, PREVOTE, 0, value)
        assert (alone.returned, turn.records) == (None, ())


def test_nothing_is_signed_for_what_is_over() -> None:
    alone = bench()
    alone.do(alone.part.vote, PRECOMMIT, 2, NIL)
    for step, round in ((PREVOTE, 2), (PREVOTE, 1), (PRECOMMIT, 1)):
        alone.do(alone.part.vote, step, round, NIL)
        assert alone.returned is None
    for round in (0, 2):
        alone.do(alone.part.propose, round, A, -1, None)
        assert alone.returned is None
    alone.do(alone.part.propose, 3, A, -1, None)
    assert alone.returned == proposal(3, A, node=NODE)


def test_a_height_that_is_decided_binds_nobody() -> None:
    alone = bench()
    alone.do(alone.part.vote, PRECOMMIT, 2, NIL)
    alone.part.advance()
    assert alone.part.last is None
    alone.do(alone.part.vote, PREVOTE, 0, batch_id(A))
    assert alone.returned == prevote(NODE, 0, A, 2)


def test_it_remembers_what_was_restored() -> None:
    alone = bench()
    for record in (proposal(1, A, node=NODE), prevote(NODE, 1, A), precommit(NODE, 1, NIL)):
        alone.part.restore(record)
    assert alone.part.last == (1, PRECOMMIT)
    assert list(alone.part.records()) == [proposal(1, A, node=NODE), prevote(NODE, 1, A), precommit(NODE, 1, NIL)]
    alone.do(alone.part.vote, PRECOMMIT, 1, batch_id(A))
    assert alone.returned is None
