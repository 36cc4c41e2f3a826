"""A crash after every write: whatever comes then, the node contradicts nothing that it signed, and keeps its lock."""

import pytest

from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.messages import Decision, Locked, Prevote, Proposal, step_of
from quorate.protocols.tendermint.named_blocks import decode_block

from tests.protocols.tendermint.one_node import (
    ME,
    NIL,
    ONE,
    TWO,
    A,
    B,
    C,
    OneNode,
    P,
    precommit,
    prevote,
    proof,
    proposal,
    proposer_of,
    said,
)

PREVOTE = Step.PREVOTE
Slot = tuple[int, int, Step]


def a_life() -> list[list[object]]:
    """The writes of a node over five rounds of two heights, with everything that a node can write."""
    node = OneNode()
    writes: list[list[object]] = []

    def note() -> None:
        writes.extend([record.value for record in turn.records] for turn in node.turns if turn.records)

    def votes(make: object, round: int, values: tuple[bytes, ...] | None, *nodes: int) -> None:
        node.votes(make, round, values, *nodes)
        note()

    node.submits(TWO)
    note()
    node.hears((P[0], proposal(0, A)))
    note()
    votes(prevote, 0, A, P[0], P[1])  # locks A
    votes(precommit, 0, NIL, P[0], P[1])
    node.fires("precommit")
    note()
    node.hears((P[1], proposal(1, B)))  # against its lock
    note()
    votes(prevote, 1, NIL, P[0])
    votes(prevote, 1, B, P[1])
    node.fires("prevote")
    note()
    votes(precommit, 1, NIL, P[0], P[1])
    node.fires("precommit")
    note()
    node.hears((P[2], proposal(2, C, 1, proof(PREVOTE, 1, C))))  # which lets the lock go
    note()
    votes(prevote, 2, NIL, P[0])
    votes(prevote, 2, C, P[2])
    node.fires("prevote")
    note()
    votes(prevote, 2, C, P[1])  # and is valid now
    votes(precommit, 2, NIL, P[0], P[1])
    node.fires("precommit")  # it proposes C, as its valid value
    note()
    votes(prevote, 3, C, P[0], P[1])  # and locks it
    votes(precommit, 3, C, P[0], P[1])
    assert node.place == (2, 0, Step.PROPOSE)
    for round in range(4):
        if proposer_of(round, 2) == ME:
            break
        node.votes(precommit, round + 1, NIL, P[0], P[1], height=2)
        note()
    node.votes(prevote, round, NIL, P[0], P[1], height=2)
    note()
    return writes


WRITES = a_life()
KINDS = {type(record).__name__ for write in WRITES for record in write}


def slots(records: list[object]) -> dict[Slot, bytes | None]:
    """What was signed, by height, round and step."""
    found: dict[Slot, bytes | None] = {}
    for record in records:
        if isinstance(record, Proposal):
            found[record.height, record.round, Step.PROPOSE] = decode_block(record.block).name
        elif isinstance(record, Prevote):
            found[record.height, record.round, step_of(record)] = record.value
    return found


def torment(node: OneNode) -> list[object]:
    """Everything that could make it sign something else, over five rounds; what it signs."""
    signed: list[object] = [message for turn in node.turns for message in said(turn)]
    height = node.place[0]
    for round in range(5):
        turns = [node.votes(precommit, round, NIL, P[0], P[1], height=height)] if round else []
        proposer = proposer_of(round, height)
        turns.append(node.submits(ONE))
        if proposer != ME:
            turns.append(node.hears((proposer, proposal(round, (TWO, ONE), height=height))))
        turns.append(node.fires("propose"))
        turns.append(node.votes(prevote, round, (TWO, ONE), P[0], P[1], height=height))
        turns.append(node.votes(prevote, round, NIL, P[2], height=height))
        turns.append(node.fires("prevote"))
        signed += [message for turn in turns for message in said(turn)]
    return signed


def test_the_life_has_every_kind_of_record() -> None:
    assert {"Proposal", "Prevote", "Precommit", "Locked", "Valid", "Decision"} == KINDS
    assert len(WRITES) > 12


@pytest.mark.parametrize("writes", range(len(WRITES) + 1))
def test_after_every_write_a_crash_is_only_a_crash(writes: int) -> None:
    records = [record for write in WRITES[:writes] for record in write]
    promised = slots(records)
    node = OneNode(records)
    locks = [record for record in records if isinstance(record, Locked)]
    decided = [record for record in records if isinstance(record, Decision)]
    assert node.core.locks.lock == (locks[-1] if locks and not decided else None)
    for slot, value in slots(torment(node)).items():
        assert promised.setdefault(slot, value) == value, f"{slot} was signed for something else"


@pytest.mark.parametrize("writes", range(len(WRITES) + 1))
def test_a_checkpoint_at_any_time_is_as_good_as_what_it_replaces(writes: int) -> None:
    records = [record for write in WRITES[:writes] for record in write]
    long, short = OneNode(records), OneNode(OneNode(records).recovered)
    assert long.place == short.place
    assert (long.core.locks.lock, long.core.locks.valid) == (short.core.locks.lock, short.core.locks.valid)
    assert torment(long) == torment(short)


def test_without_its_records_it_would_contradict_itself() -> None:
    """Or the test above would prove nothing."""
    promised = slots([record for write in WRITES for record in write])
    again = slots(torment(OneNode()))
    assert any(promised.get(slot, value) != value for slot, value in again.items())
