"""Where others went wrong with algorithm 1: each mistake costs agreement, or progress, in the case told here."""

from tests.paper.tendermint.one_height import (
    NIL,
    PRECOMMIT,
    PREVOTE,
    PROPOSE,
    A,
    B,
    Decide,
    EnterRound,
    KeepValid,
    Lock,
    OneHeight,
    SendProposal,
    SendVote,
    SetTimeout,
)


def test_a_quorum_for_nil_unlocks_nobody() -> None:
    """Others may have decided what this node has locked: nodes 0, 1 and 3 precommitted it, and only 0 has seen that."""
    node = OneHeight()
    node.locks(A)
    node.skips_to(1)
    node.times_out(PROPOSE, 1)
    node.prevotes(1, NIL, 1, 2)
    assert node.lock == (A, 0)
    node.skips_to(2)
    assert node.proposes(2, B) == [SendVote(PREVOTE, 2, NIL)], "or else B may be decided as well"


def test_a_quorum_for_an_unknown_value_unlocks_nobody() -> None:
    """CometBFT lets a lock go for prevotes of a value that it has not: the paper does so for no prevotes alone."""
    node = OneHeight()
    node.locks(A)
    node.prevotes(1, B, 0, 1, 2)
    assert (node.height.round, node.lock) == (1, (A, 0))
    node.skips_to(2)
    assert node.proposes(2, A) == [SendVote(PREVOTE, 2, A)]


def test_a_locked_node_prevotes_what_is_proposed_and_not_what_it_locked() -> None:
    """nil, if that is something else; never its lock, which nobody proposed in this round."""
    node = OneHeight()
    node.locks(A)
    node.skips_to(1)
    assert node.proposes(1, B) == [SendVote(PREVOTE, 1, NIL)]


def test_the_valid_value_is_proposed_before_the_locked_one() -> None:
    """They differ where a quorum prevoted B after this node precommitted nil. Its lock on A would be refused."""
    node = OneHeight(node=2)
    node.locks(A)
    node.skips_to(1)
    node.proposes(1, B)  # it prevotes nil
    node.prevotes(1, NIL, 3)
    node.prevotes(1, B, 0)
    assert node.times_out(PREVOTE, 1) == [SendVote(PRECOMMIT, 1, NIL), SetTimeout(PRECOMMIT, 1)]
    assert node.certified(1, PREVOTE, B) == [KeepValid(1, B)]
    assert (node.lock, node.valid) == ((A, 0), (B, 1))
    assert node.times_out(PRECOMMIT, 1)[:2] == [EnterRound(2), SendProposal(2, B, 1)]


def test_the_valid_value_is_remembered_over_rounds_without_one() -> None:
    node = OneHeight(node=3)
    node.locks(A)
    for round in (1, 2):
        node.skips_to(round)
        node.times_out(PROPOSE, round)
        node.prevotes(round, NIL, 0, 1)
    assert SendProposal(3, A, 0) in node.skips_to(3)


def test_the_valid_value_is_kept_in_step_precommit_also_after_the_timeout() -> None:
    node = OneHeight()
    node.proposes(0, A)
    node.prevotes(0, NIL, 0)
    node.prevotes(0, A, 1)
    node.times_out(PREVOTE, 0)
    assert node.prevotes(0, A, 2) == [KeepValid(0, A)]


def test_old_prevotes_that_come_late_let_a_proposal_in() -> None:
    """The prevotes of round 0 arrive when this node is in round 2 already."""
    node = OneHeight()
    node.skips_to(2)
    assert node.proposes(2, A, 0) == []
    assert node.prevotes(0, A, 0, 1) == []
    assert node.prevotes(0, A, 2) == [SendVote(PREVOTE, 2, A)]


def test_old_precommits_that_come_late_decide() -> None:
    node = OneHeight()
    node.proposes(0, A)
    node.skips_to(7)
    assert node.precommits(0, A, 0, 1) == []
    assert node.precommits(0, A, 2) == [Decide(0, A)]


def test_the_timeout_of_precommits_waits_for_no_single_value() -> None:
    """Three that precommit A, nil and B are no quorum for anything, and the round must end all the same."""
    node = OneHeight()
    node.precommits(0, A, 0)
    node.precommits(0, NIL, 1)
    assert node.precommits(0, B, 2) == [SetTimeout(PRECOMMIT, 0)]


def test_the_timeout_of_prevotes_waits_for_no_single_value() -> None:
    node = OneHeight()
    node.times_out(PROPOSE, 0)
    node.prevotes(0, A, 0)
    assert node.prevotes(0, B, 1) == [SetTimeout(PREVOTE, 0)]


def test_a_lock_of_this_round_moves_with_a_proposal_of_a_later_valid_round_alone() -> None:
    """B was prevoted in round 0, A is locked in round 1: that B came with a certificate does not matter."""
    node = OneHeight()
    node.prevotes(0, B, 0, 1, 2)
    node.locks(A, 1)
    node.skips_to(3, (1, 2))
    assert node.height.round == 3
    node = OneHeight(node=2)
    node.prevotes(0, B, 0, 1, 3)
    node.locks(A, 1)
    node.skips_to(3)
    assert node.proposes(3, B, 0) == [SendVote(PREVOTE, 3, NIL)]


def test_a_new_proposal_of_a_value_that_others_prevoted_moves_no_lock() -> None:
    """valid_round is what the proposer says it is: without it prevotes of earlier rounds do not count."""
    node = OneHeight()
    node.locks(A)
    node.prevotes(1, B, 0, 1, 2)
    node.skips_to(2)
    assert node.proposes(2, B) == [SendVote(PREVOTE, 2, NIL)]


def test_a_decision_does_not_wait_for_this_nodes_own_step() -> None:
    node = OneHeight()
    node.precommits(0, A, 0, 1, 2)
    assert node.proposes(0, A) == [Decide(0, A)]


def test_two_proposals_of_one_round_and_the_quorum_is_for_the_second() -> None:
    """The proposer lied to this node, or to the others; what the quorum has, it can lock all the same."""
    node = OneHeight()
    node.proposes(0, B)
    node.proposes(0, A)
    assert node.prevotes(0, A, 0, 1, 2)[-3:] == [Lock(0, A), KeepValid(0, A), SendVote(PRECOMMIT, 0, A)]


def test_rounds_go_on_while_the_proposer_has_nothing_to_propose() -> None:
    node = OneHeight(node=0)
    assert node.first == [EnterRound(0), node.first[1]]
    node.prevotes(0, NIL, 1, 2, 3)
    assert node.precommits(0, NIL, 1, 2, 3) == [SetTimeout(PRECOMMIT, 0)]
    assert node.times_out(PRECOMMIT, 0) == [EnterRound(1), SetTimeout(PROPOSE, 1)]


# --- after a restart ---


def test_a_node_resumes_in_the_step_of_its_last_vote() -> None:
    node = OneHeight(is_started=False)
    node.height.resume(2, PREVOTE, (1, A), (1, A))
    assert node._run() == [EnterRound(2)]
    assert node.proposes(2, B) == [], "it has prevoted"
    assert (node.lock, node.valid) == ((A, 1), (A, 1))
    assert node.prevotes(2, NIL, 0, 1, 2)[-1] == SendVote(PRECOMMIT, 2, NIL)
    node = OneHeight(is_started=False)
    node.height.resume(2, PRECOMMIT)
    assert node._run() == [EnterRound(2)]
    assert SendVote(PRECOMMIT, 2, NIL) not in node.prevotes(2, NIL, 0, 1, 2)
    assert node.precommits(2, NIL, 0, 1, 2)[-1] == SetTimeout(PRECOMMIT, 2)


def test_a_node_that_sent_no_vote_begins_its_round_again() -> None:
    node = OneHeight(is_started=False)
    node.height.resume(2, PROPOSE, None, (0, A))
    assert node._run() == [EnterRound(2), SetTimeout(PROPOSE, 2)]
    node = OneHeight(node=2, is_started=False)
    node.height.resume(2, PROPOSE, None, (0, A))
    assert node._run() == [EnterRound(2), SendProposal(2, A, 0)]


def test_the_lock_holds_after_a_restart() -> None:
    node = OneHeight(is_started=False)
    node.height.resume(1, PROPOSE, (0, A), (0, A))
    node._run()
    assert node.proposes(1, B) == [SendVote(PREVOTE, 1, NIL)]
