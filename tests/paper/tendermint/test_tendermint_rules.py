"""Algorithm 1 of arXiv 1807.04938, rule by rule: what makes each run, what it does, and what does not make it run.

Four nodes of one vote each, so a quorum is 3, of which node 3, whose effects are looked at, gives one. Node r proposes
in round r.
"""

import pytest

from tests.paper.tendermint.one_height import (
    BAD,
    NIL,
    PRECOMMIT,
    PREVOTE,
    PROPOSE,
    A,
    B,
    Decide,
    EnterRound,
    GetValue,
    Judge,
    KeepValid,
    Lock,
    OneHeight,
    SendProposal,
    SendVote,
    SetTimeout,
)

# --- lines 10-21: a round begins ---


def test_who_does_not_propose_gives_the_proposer_some_time() -> None:
    """Lines 20-21."""
    node = OneHeight()
    assert node.first == [EnterRound(0), SetTimeout(PROPOSE, 0)]
    assert node.place == (0, PROPOSE)


def test_the_proposer_asks_for_a_new_value_and_proposes_it() -> None:
    """Lines 17-19; its own prevote follows from rule 22, as it does everywhere."""
    node = OneHeight(node=0)
    assert node.first == [EnterRound(0), GetValue(0)]
    assert node.built(0, A) == [SendProposal(0, A, -1), SendVote(PREVOTE, 0, A)]


def test_the_proposer_proposes_its_valid_value_again() -> None:
    """Lines 15-16: with the round in which a quorum prevoted it."""
    node = OneHeight(node=2)
    node.locks(A)
    assert node.skips_to(2) == [EnterRound(2), SendProposal(2, A, 0), SendVote(PREVOTE, 2, A)]


def test_a_new_value_is_proposed_once() -> None:
    node = OneHeight(node=0)
    assert node.built(0, A) != []
    assert node.built(0, B) == []


def test_a_new_value_that_comes_too_late_is_not_proposed() -> None:
    node = OneHeight(node=0)
    node.skips_to(1, (1, 2))
    assert node.built(0, A) == []
    node = OneHeight(node=0)
    assert node.built(1, A) == [], "which nobody asked for"


def test_nothing_happens_before_the_start() -> None:
    """What comes early is kept."""
    node = OneHeight(is_started=False)
    assert node.proposes(0, A) + node.prevotes(0, A, 0, 1) == []
    node.height.start()
    assert node._run() == [
        *(EnterRound(0), SetTimeout(PROPOSE, 0), SendVote(PREVOTE, 0, A)),
        *(Lock(0, A), KeepValid(0, A), SendVote(PRECOMMIT, 0, A)),
    ]


# --- lines 22-27: a new proposal ---


def test_22_prevotes_a_valid_value() -> None:
    node = OneHeight()
    assert node.proposes(0, A) == [SendVote(PREVOTE, 0, A)]
    assert node.place == (0, PREVOTE)


def test_22_prevotes_nil_for_what_is_not_valid() -> None:
    assert OneHeight().proposes(0, BAD) == [SendVote(PREVOTE, 0, NIL)]


def test_22_prevotes_the_locked_value_again() -> None:
    node = OneHeight()
    node.locks(A)
    node.skips_to(1)
    assert node.proposes(1, A) == [SendVote(PREVOTE, 1, A)]


def test_22_prevotes_nil_against_the_lock() -> None:
    node = OneHeight()
    node.locks(A)
    node.skips_to(1)
    assert node.proposes(1, B) == [SendVote(PREVOTE, 1, NIL)]
    assert node.lock == (A, 0)


def test_22_is_for_the_proposer_of_this_round() -> None:
    assert OneHeight().proposes(0, A, node=1) == [], "of another node"
    assert OneHeight().proposes(1, A) == [], "of another round"


def test_22_runs_in_step_propose_alone() -> None:
    node = OneHeight()
    node.times_out(PROPOSE, 0)
    assert node.proposes(0, A) == []


def test_22_takes_one_of_two_proposals() -> None:
    node = OneHeight()
    assert node.proposes(0, A) == [SendVote(PREVOTE, 0, A)]
    assert not [effect for effect in node.proposes(0, B) if isinstance(effect, SendVote)]


# --- lines 28-33: a proposal that was prevoted before ---


def test_28_prevotes_what_a_quorum_prevoted_in_the_valid_round() -> None:
    node = OneHeight()
    node.prevotes(0, A, 0, 1, 2)
    node.skips_to(1)
    assert node.proposes(1, A, 0) == [SendVote(PREVOTE, 1, A)]


def test_28_gives_up_a_lock_for_prevotes_of_a_later_round() -> None:
    node = OneHeight()
    node.locks(A)
    node.prevotes(1, B, 0, 1, 2)
    node.skips_to(2)
    assert node.proposes(2, B, 1) == [SendVote(PREVOTE, 2, B)]
    assert node.lock == (A, 0), "what is locked changes by rule 36 alone"


def test_28_gives_up_a_lock_for_prevotes_of_the_same_round() -> None:
    """lockedRound <= vr, to the letter: two quorums in one round cannot be while less than a third lies."""
    node = OneHeight()
    node.locks(A)
    node.skips_to(1)
    assert node.proposes(1, B, 0) == []
    assert node.certified(0, PREVOTE, B) == [SendVote(PREVOTE, 1, B)]


def test_28_prevotes_nil_if_the_lock_is_later() -> None:
    node = OneHeight()
    node.prevotes(0, B, 0, 1, 2)
    node.locks(A, 1)
    node.skips_to(2)
    assert node.proposes(2, B, 0) == [SendVote(PREVOTE, 2, NIL)]


def test_28_prevotes_the_locked_value_whenever_it_was_prevoted() -> None:
    node = OneHeight()
    node.prevotes(0, A, 0, 1, 2)
    node.locks(A, 1)
    node.skips_to(2)
    assert node.proposes(2, A, 0) == [SendVote(PREVOTE, 2, A)]


def test_28_waits_for_prevotes_of_the_valid_round() -> None:
    """Of no other, and for no other value. They may come late."""
    node = OneHeight()
    node.prevotes(1, A, 0, 1)
    node.skips_to(2)
    assert node.proposes(2, A, 0) == []
    assert node.prevotes(1, A, 2) == [], "of round 1"
    assert node.prevotes(0, B, 2) == [], "for another value"
    assert node.prevotes(0, A, 0, 1) == []
    assert node.certified(0, PRECOMMIT, A) == [], "these are no prevotes"
    assert node.certified(0, PREVOTE, A) == [SendVote(PREVOTE, 2, A)]


def test_28_prevotes_nil_for_what_is_not_valid() -> None:
    node = OneHeight()
    node.prevotes(0, BAD, 0, 1, 2)
    node.skips_to(1)
    assert node.proposes(1, BAD, 0) == [SendVote(PREVOTE, 1, NIL)]


@pytest.mark.parametrize("valid_round", [1, 2, 7])
def test_28_is_for_rounds_before_this_one(valid_round: int) -> None:
    node = OneHeight()
    node.skips_to(1)
    node.proposes(1, A, valid_round)
    assert node.certified(valid_round, PREVOTE, A) == []


def test_28_runs_in_step_propose_alone() -> None:
    node = OneHeight()
    node.prevotes(0, A, 0, 1, 2)
    node.skips_to(1)
    node.times_out(PROPOSE, 1)
    assert node.proposes(1, A, 0) == []


# --- lines 34-35: prevotes for whatever ---


def test_34_starts_the_timeout_at_prevotes_for_whatever() -> None:
    node = OneHeight()
    node.times_out(PROPOSE, 0)
    assert node.prevotes(0, A, 0) == []
    assert node.prevotes(0, B, 1) == [SetTimeout(PREVOTE, 0)]


def test_34_runs_once_a_round() -> None:
    node = OneHeight()
    node.times_out(PROPOSE, 0)
    assert node.prevotes(0, A, 0) + node.prevotes(0, B, 1) == [SetTimeout(PREVOTE, 0)]
    assert node.prevotes(0, A, 2) == []
    node.skips_to(1)
    node.times_out(PROPOSE, 1)
    assert node.prevotes(1, A, 0) + node.prevotes(1, B, 1) == [SetTimeout(PREVOTE, 1)], "and in each"


def test_34_waits_for_step_prevote() -> None:
    node = OneHeight()
    assert node.prevotes(0, A, 0) + node.prevotes(0, B, 1, 2) == []
    assert node.times_out(PROPOSE, 0) == [SendVote(PREVOTE, 0, NIL), SetTimeout(PREVOTE, 0)]


def test_34_is_over_in_step_precommit() -> None:
    node = OneHeight()
    node.height.resume(0, PRECOMMIT)
    node._run()
    assert node.prevotes(0, A, 0) + node.prevotes(0, B, 1) + node.prevotes(0, NIL, 2) == []


# --- lines 36-43: a quorum prevoted a value ---


def test_36_locks_and_precommits() -> None:
    node = OneHeight()
    node.proposes(0, A)
    assert node.prevotes(0, A, 0) == []
    assert node.prevotes(0, A, 1) == [Lock(0, A), KeepValid(0, A), SendVote(PRECOMMIT, 0, A)]
    assert (node.place, node.lock, node.valid) == ((0, PRECOMMIT), (A, 0), (A, 0))


def test_36_needs_the_proposal() -> None:
    node = OneHeight()
    node.times_out(PROPOSE, 0)
    assert node.prevotes(0, A, 0, 1, 2) == [SetTimeout(PREVOTE, 0)]
    assert node.proposes(0, A) == [Lock(0, A), KeepValid(0, A), SendVote(PRECOMMIT, 0, A)]


def test_36_waits_for_step_prevote() -> None:
    node = OneHeight()
    assert node.prevotes(0, A, 0, 1, 2) == []
    assert node.proposes(0, A) == [
        SendVote(PREVOTE, 0, A),
        *(Lock(0, A), KeepValid(0, A), SendVote(PRECOMMIT, 0, A)),
    ]


def test_36_is_for_prevotes_of_this_round() -> None:
    """Those of an earlier round lock nothing."""
    node = OneHeight()
    node.proposes(0, A)
    node.skips_to(1)
    assert node.prevotes(0, A, 0, 1, 2) == []
    assert (node.lock, node.valid) == ((NIL, -1), (NIL, -1))


def test_36_is_for_valid_values() -> None:
    node = OneHeight()
    assert node.proposes(0, BAD) == [SendVote(PREVOTE, 0, NIL)]
    assert Lock(0, BAD) not in node.prevotes(0, BAD, 0, 1, 2)
    assert (node.lock, node.valid) == ((NIL, -1), (NIL, -1))


def test_36_keeps_the_valid_value_in_step_precommit_and_locks_nothing() -> None:
    """Lines 42-43 stand outside the condition of line 37."""
    node = OneHeight()
    node.proposes(0, A)
    node.prevotes(0, NIL, 0)
    node.prevotes(0, A, 1)
    assert node.times_out(PREVOTE, 0) == [SendVote(PRECOMMIT, 0, NIL)]
    assert node.prevotes(0, A, 2) == [KeepValid(0, A)]
    assert (node.lock, node.valid) == ((NIL, -1), (A, 0))


def test_36_runs_once_a_round() -> None:
    node = OneHeight()
    node.locks(A)
    assert node.proposes(0, B)[1:] == []
    assert node.certified(0, PREVOTE, B) == []
    assert node.lock == (A, 0)


def test_36_moves_the_lock_to_a_later_round() -> None:
    node = OneHeight()
    node.locks(A)
    node.prevotes(1, B, 0, 1, 2)
    node.skips_to(2)
    node.proposes(2, B, 1)
    node.prevotes(2, B, 0)
    timeout = SetTimeout(PRECOMMIT, 2)  # nodes 0 and 1 precommitted nil there before
    assert node.prevotes(2, B, 1) == [Lock(2, B), KeepValid(2, B), SendVote(PRECOMMIT, 2, B), timeout]
    assert (node.lock, node.valid) == ((B, 2), (B, 2))


# --- lines 44-46: a quorum prevoted nil ---


def test_44_precommits_nil() -> None:
    node = OneHeight()
    node.times_out(PROPOSE, 0)
    assert node.prevotes(0, NIL, 0, 1) == [SetTimeout(PREVOTE, 0), SendVote(PRECOMMIT, 0, NIL)]
    assert node.place == (0, PRECOMMIT)


def test_44_waits_for_step_prevote() -> None:
    node = OneHeight()
    assert node.prevotes(0, NIL, 0, 1, 2) == []
    assert node.place == (0, PROPOSE)


def test_44_leaves_the_lock_as_it_is() -> None:
    node = OneHeight()
    node.locks(A)
    node.skips_to(1)
    node.times_out(PROPOSE, 1)
    assert node.prevotes(1, NIL, 0, 1)[-2] == SendVote(PRECOMMIT, 1, NIL)
    assert node.place == (1, PRECOMMIT)
    assert (node.lock, node.valid) == ((A, 0), (A, 0))


# --- lines 47-48: precommits for whatever ---


def test_47_starts_the_timeout_at_precommits_for_whatever() -> None:
    node = OneHeight()
    assert node.precommits(0, A, 0) + node.precommits(0, NIL, 1) == []
    assert node.precommits(0, B, 2) == [SetTimeout(PRECOMMIT, 0)], "in step propose, as in any"


def test_47_runs_once_a_round() -> None:
    node = OneHeight()
    node.precommits(0, A, 0)
    assert node.precommits(0, NIL, 1, 2) == [SetTimeout(PRECOMMIT, 0)]
    assert SetTimeout(PRECOMMIT, 0) not in node.times_out(PROPOSE, 0)


def test_47_is_for_this_round() -> None:
    node = OneHeight()
    node.skips_to(1)
    assert node.precommits(0, NIL, 0, 1, 2) == []


# --- lines 49-54: a decision ---


def test_49_decides() -> None:
    node = OneHeight()
    node.proposes(0, A)
    assert node.precommits(0, A, 0, 1) == []
    assert node.precommits(0, A, 2) == [Decide(0, A)], "and no timeout"
    assert node.height.decision == Decide(0, A)


@pytest.mark.parametrize("now", [0, 1, 5])
def test_49_decides_in_any_round(now: int) -> None:
    """Whatever round this node is in: of an earlier round, and of one that it never entered."""
    node = OneHeight()
    node.proposes(2, A)
    node.precommits(2, A, 0)
    if now:
        node.skips_to(now)
    assert Decide(2, A) in node.precommits(2, A, 1, 2)


def test_49_needs_the_proposal_of_that_round() -> None:
    node = OneHeight()
    node.proposes(0, A)
    assert Decide(1, A) not in node.precommits(1, A, 0, 1, 2)
    assert node.proposes(1, A) == [Decide(1, A)]


def test_49_needs_a_quorum_for_one_value_in_one_round() -> None:
    node = OneHeight()
    node.proposes(0, A)
    node.proposes(1, A)
    effects = node.precommits(0, A, 0, 1) + node.precommits(1, A, 2) + node.precommits(0, B, 2)
    assert not [effect for effect in effects if isinstance(effect, Decide)]


def test_49_decides_no_nil() -> None:
    node = OneHeight()
    node.proposes(0, A)
    node.precommits(0, NIL, 0, 1, 2)
    assert node.height.decision is None


def test_49_is_for_valid_values() -> None:
    node = OneHeight()
    node.proposes(0, BAD)
    node.precommits(0, BAD, 0, 1, 2)
    assert node.height.decision is None


def test_49_ends_the_height() -> None:
    node = OneHeight()
    node.proposes(0, A)
    node.precommits(0, A, 0, 1, 2)
    assert node.skips_to(5) + node.times_out(PROPOSE, 0) + node.times_out(PRECOMMIT, 0) + node.proposes(1, B) == []


# --- lines 55-56: others are further ---


def test_55_follows_f_plus_1_to_their_round() -> None:
    node = OneHeight()
    assert node.prevotes(4, NIL, 0) == []
    assert node.prevotes(4, A, 1) == [EnterRound(4), SetTimeout(PROPOSE, 4)]


def test_55_counts_messages_of_any_type() -> None:
    node = OneHeight()
    node.proposes(4, A)
    assert node.place == (0, PROPOSE)
    assert node.precommits(4, NIL, 1) == [EnterRound(4), SetTimeout(PROPOSE, 4), SendVote(PREVOTE, 4, A)]


def test_55_counts_nodes_and_not_messages() -> None:
    node = OneHeight()
    assert node.proposes(1, A) + node.prevotes(1, A, 1) + node.precommits(1, A, 1) == []


def test_55_counts_one_round_at_a_time() -> None:
    node = OneHeight()
    assert node.prevotes(1, NIL, 0) + node.prevotes(2, NIL, 1) + node.prevotes(3, NIL, 2) == []


def test_55_goes_no_way_back() -> None:
    node = OneHeight()
    node.skips_to(4)
    assert node.prevotes(2, NIL, 0, 1, 2) == []
    assert node.place == (4, PROPOSE)


# --- lines 57-67: timeouts ---


def test_57_prevotes_nil_without_a_proposal() -> None:
    node = OneHeight()
    assert node.times_out(PROPOSE, 0) == [SendVote(PREVOTE, 0, NIL)]
    assert node.place == (0, PREVOTE)


def test_61_precommits_nil_without_a_quorum_for_one_value() -> None:
    node = OneHeight()
    node.proposes(0, A)
    node.prevotes(0, A, 0)
    node.prevotes(0, NIL, 1)
    assert node.times_out(PREVOTE, 0) == [SendVote(PRECOMMIT, 0, NIL)]
    assert (node.place, node.lock) == ((0, PRECOMMIT), (NIL, -1))


def test_65_enters_the_next_round() -> None:
    node = OneHeight()
    node.precommits(0, NIL, 0, 1, 2)
    assert node.times_out(PRECOMMIT, 0) == [EnterRound(1), SetTimeout(PROPOSE, 1)]


def test_65_is_for_any_step() -> None:
    for step in (PROPOSE, PREVOTE, PRECOMMIT):
        node = OneHeight()
        node.height.step = step
        assert node.times_out(PRECOMMIT, 0)[0] == EnterRound(1)


@pytest.mark.parametrize(("step", "over_in"), [(PROPOSE, PREVOTE), (PREVOTE, PRECOMMIT)])
def test_a_timeout_that_comes_after_its_step_does_nothing(step: int, over_in: int) -> None:
    node = OneHeight()
    node.height.step = PREVOTE if over_in == PREVOTE else PRECOMMIT
    assert node.times_out(PROPOSE if step == PROPOSE else PREVOTE, 0) == []


@pytest.mark.parametrize("step", [PROPOSE, PREVOTE, PRECOMMIT])
def test_a_timeout_of_another_round_does_nothing(step: int) -> None:
    node = OneHeight()
    node.skips_to(1)
    for round in (0, 2):
        assert [effect for kind in (PROPOSE, PREVOTE, PRECOMMIT) for effect in node.times_out(kind, round)] == []


# --- validity that is not known yet ---


def test_a_rule_waits_until_it_is_known_whether_the_value_is_valid() -> None:
    node = OneHeight(known={})
    assert node.proposes(0, A) == [Judge(A)]
    assert node.prevotes(0, A, 0) == [], "asked once"
    assert node.judged(A, True) == [SendVote(PREVOTE, 0, A)]
    node = OneHeight(known={})
    node.proposes(0, A)
    assert node.judged(A, False) == [SendVote(PREVOTE, 0, NIL)]


def test_an_answer_may_come_after_the_timeout() -> None:
    """Then the node has prevoted nil, and locks what a quorum of the others prevoted."""
    node = OneHeight(known={})
    node.proposes(0, A)
    assert node.times_out(PROPOSE, 0) == [SendVote(PREVOTE, 0, NIL)]
    assert node.prevotes(0, A, 0, 1, 2) == [SetTimeout(PREVOTE, 0)]
    assert node.judged(A, True) == [Lock(0, A), KeepValid(0, A), SendVote(PRECOMMIT, 0, A)]


def test_a_decision_waits_for_the_answer_too() -> None:
    node = OneHeight(known={})
    node.proposes(0, A)
    assert Decide(0, A) not in node.precommits(0, A, 0, 1, 2)
    assert node.judged(A, True) == [Decide(0, A)]


def test_what_the_lock_forbids_needs_no_answer() -> None:
    node = OneHeight(known={A: True})
    node.locks(A)
    node.skips_to(1)
    assert node.proposes(1, B) == [SendVote(PREVOTE, 1, NIL)]


def test_the_first_answer_stays() -> None:
    node = OneHeight(known={})
    node.proposes(0, A)
    node.judged(A, False)
    assert node.judged(A, True) == []
    assert Lock(0, A) not in node.prevotes(0, A, 0, 1, 2)


# --- voting power ---


def test_quorums_are_of_power() -> None:
    """Of 19 a quorum is 13, and f + 1 is 7."""
    node = OneHeight(powers=(10, 5, 3, 1))
    node.proposes(0, A)
    assert node.prevotes(0, A, 1, 2) == [], "with its own: 9"
    assert node.prevotes(0, A, 0) == [Lock(0, A), KeepValid(0, A), SendVote(PRECOMMIT, 0, A)]
    node = OneHeight(powers=(10, 5, 3, 1))
    assert node.prevotes(1, NIL, 1) == [], "5"
    assert node.prevotes(1, NIL, 2) == [EnterRound(1), SetTimeout(PROPOSE, 1)], "8"
    node = OneHeight(powers=(10, 5, 3, 1))
    assert node.prevotes(1, NIL, 0) == [EnterRound(1), SetTimeout(PROPOSE, 1)], "10, alone"


def test_exactly_two_thirds_are_no_quorum() -> None:
    node = OneHeight(node=2, powers=(1, 1, 1))
    node.proposes(0, A)
    assert node.prevotes(0, A, 0) == []
    assert node.prevotes(0, A, 1) == [Lock(0, A), KeepValid(0, A), SendVote(PRECOMMIT, 0, A)]
