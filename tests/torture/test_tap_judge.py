"""The judge of taps sees what it is there for, and nothing where all is well."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.messages import Votes

from tests.protocols.tendermint.one_node import (
    CHAIN_ID,
    KEYRING,
    NIL,
    A,
    B,
    P,
    decision,
    precommit,
    prevote,
    proof,
    proposal,
    resigned,
)
from tests.torture.tap_judge import TapJudge

ONE = P[0]
ROUND_0 = (proposal(0, A), *[prevote(node, 0, A) for node in P[:3]], *[precommit(node, 0, A) for node in P[:3]])
"""As it should be."""
UNLOCKED = proposal(2, B, valid_round=1, proof=proof(Step.PREVOTE, 1, B, P[1:]))
"""A quorum has prevoted it after round 0."""


def faults(*messages: Any) -> list[str]:
    judge = TapJudge(CHAIN_ID, KEYRING)
    judge.hear(messages)
    return judge.faults()


def test_what_is_right_has_no_faults() -> None:
    assert (
        faults(*ROUND_0, *ROUND_0, Votes(ROUND_0[1:]), decision(), proposal(1, A, 0, proof(Step.PREVOTE, 0, A))) == []
    )
    judge = TapJudge(CHAIN_ID, KEYRING)
    judge.hear([*ROUND_0, UNLOCKED, prevote(ONE, 2, B)])
    assert (judge.faults(), judge.locks_judged) == ([], 1)
    assert len(judge.said) == 1 + 3 + 3 + 1 + 1 + 3, "the proof is heard, too"


def test_two_values_are_seen_wherever_they_come_from() -> None:
    said = f"node {ONE}, height 1, round 0, prevote: signed 2 values"
    for other in (prevote(ONE, 0, B), prevote(ONE, 0, NIL)):
        assert faults(*ROUND_0, other) == faults(*ROUND_0, Votes((other,))) == [said]
    shown = proposal(1, B, 0, proof(Step.PREVOTE, 0, B, (ONE,)))
    assert faults(*ROUND_0, shown) == [said]
    assert "precommit: signed 2 values" in faults(decision(), *[precommit(ONE, 0, NIL)])[0]
    assert faults(*ROUND_0, proposal(0, B)) == [f"node {ONE}, height 1, round 0, propose: signed 2 values"]


def test_another_time_is_a_second_signature() -> None:
    first = prevote(ONE, 0, A)
    other = resigned(replace(first, time_ns=first.time_ns + 1))
    assert faults(*ROUND_0, other) == [f"node {ONE}, height 1, round 0, prevote: signed one value 2 times"]


def test_a_prevote_against_a_lock_is_seen() -> None:
    against = prevote(ONE, 2, B)
    said = [f"node {ONE}, height 1, round 2, prevote: against its lock of round 0"]
    assert faults(*ROUND_0, proposal(2, B), against) == said
    early = proposal(2, B, valid_round=1, proof=proof(Step.PREVOTE, 1, B, P[1:3]))
    assert faults(*ROUND_0, early, against) == said, "two are no quorum"
    assert faults(*ROUND_0, against) == [], "what it was shown did not come by"
    assert faults(*ROUND_0, proposal(2, B), prevote(ONE, 2, NIL)) == []


def test_a_precommit_without_a_quorum_is_seen() -> None:
    said = f"node {ONE}, height 1, round 0, precommit: precommitted what only {[P[1]]} were heard to prevote"
    assert faults(prevote(ONE, 0, A), prevote(P[1], 0, A), precommit(ONE, 0, A)) == [said]
    assert faults(prevote(P[1], 0, A), prevote(P[2], 0, A), precommit(ONE, 0, A)) == [], "its own did not come by"


def test_what_nobody_signed_is_no_statement() -> None:
    said = ["1 statements that nobody signed"]
    for changed in (replace(prevote(ONE, 0, A), value=NIL), replace(prevote(ONE, 0, A), node=P[1])):
        assert faults(changed) == faults(*ROUND_0, changed) == said, "also with a signature that holds elsewhere"
