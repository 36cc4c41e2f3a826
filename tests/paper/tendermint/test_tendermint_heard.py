"""What is kept of what others said, and what is not, so that a node that lies fills no other's memory."""

from quorate.protocols.tendermint.heard import FAR_ROUNDS, PROPOSALS_MAX

from tests.paper.tendermint.one_height import (
    NIL,
    PRECOMMIT,
    PREVOTE,
    A,
    B,
    C,
    Decide,
    EnterRound,
    Equivocation,
    Lock,
    OneHeight,
    SignedProposal,
    SignedVote,
)

FAR = FAR_ROUNDS + 1
"""The first round that is far from round 0."""


# --- two of a kind ---


def test_a_second_vote_does_not_count_and_is_shown() -> None:
    node = OneHeight()
    node.proposes(0, A)
    node.prevotes(0, B, 0)
    contradiction = Equivocation(SignedVote(0, PREVOTE, 0, B), SignedVote(0, PREVOTE, 0, A))
    assert node.prevotes(0, A, 0) == [contradiction]
    assert node.prevotes(0, A, 0) == [], "shown once"
    assert node.prevotes(0, A, 1) != [], "but that is no quorum for A"
    assert node.lock == (NIL, -1)


def test_nil_contradicts_a_value() -> None:
    node = OneHeight()
    node.precommits(0, NIL, 1)
    assert node.precommits(0, A, 1) == [Equivocation(SignedVote(1, PRECOMMIT, 0, NIL), SignedVote(1, PRECOMMIT, 0, A))]


def test_what_is_said_again_contradicts_nothing() -> None:
    """Also under another signature: the owner of a key can make many of one statement."""
    node = OneHeight()
    node.prevotes(0, A, 0)
    node.height.on_said(SignedVote(0, PREVOTE, 0, A, b"other"))
    node.precommits(0, B, 0)
    node.prevotes(1, B, 0)
    assert node.prevotes(0, A, 0) == []
    assert node.height.take() == []


def test_two_proposals_of_one_round_are_shown_once() -> None:
    node = OneHeight()
    node.proposes(0, A)
    both = Equivocation(SignedProposal(0, 0, A), SignedProposal(0, 0, B))
    assert node.proposes(0, B) == [both]
    assert node.proposes(0, C) == []
    node = OneHeight()
    node.skips_to(1)
    node.proposes(1, A)
    again = Equivocation(SignedProposal(1, 1, A), SignedProposal(1, 1, A, 0))
    assert node.proposes(1, A, 0) == [again], "the valid round is signed, too"


def test_only_a_few_proposals_of_a_round_are_kept() -> None:
    node = OneHeight()
    for value in range(20):
        node.proposes(0, b"%d" % value)
    assert len(node.height.heard.proposals(0)) == PROPOSALS_MAX


def test_a_proposal_that_a_correct_node_took_is_kept_all_the_same() -> None:
    node = OneHeight()
    node.proposes(0, B)
    node.proposes(0, C)
    node.prevotes(0, A, 0)
    node.proposes(0, A)
    assert len(node.height.heard.proposals(0)) == PROPOSALS_MAX, "node 0 may lie"
    node.prevotes(0, A, 1, 2)
    assert Lock(0, A) in node.proposes(0, A)


def test_who_has_no_power_says_nothing() -> None:
    node = OneHeight()
    assert node.prevotes(1, NIL, 4, 5, 1023) == []
    assert node.height.heard.votes(1, PREVOTE) == ()


def test_a_height_is_awaited_once_f_plus_1_speak_of_it_or_its_proposer_proposes() -> None:
    node = OneHeight(is_started=False)
    heard = node.height.heard
    node.prevotes(0, NIL, 0)
    node.precommits(3, A, 0)
    node.proposes(2, A, node=0)
    assert not heard.is_awaited
    node.prevotes(FAR, NIL, 1)
    assert heard.is_awaited, "of whatever rounds"
    node = OneHeight(is_started=False)
    node.proposes(2, A)
    assert node.height.heard.is_awaited


# --- far ahead ---


def test_near_rounds_are_kept_in_full() -> None:
    node = OneHeight()
    for round in range(1, FAR):
        node.prevotes(round, A, 0)
    assert [len(node.height.heard.votes(round, PREVOTE)) for round in range(1, FAR)] == [1] * FAR_ROUNDS


def test_of_rounds_far_ahead_each_node_has_one() -> None:
    """However many it speaks of."""
    node = OneHeight()
    for round in range(FAR, FAR + 500):
        node.prevotes(round, A, 0)
        node.precommits(round, A, 0)
        node.proposes(round, A, node=0)
        node.proposes(round, B, node=0)
    (far,) = node.height.heard._far.values()
    latest = FAR + 499
    assert far == [
        *(SignedVote(0, PREVOTE, latest, A), SignedVote(0, PRECOMMIT, latest, A)),
        SignedProposal(0, latest, A),
    ]
    assert not node.height.heard._votes
    assert not node.height.heard._senders


def test_who_was_further_is_not_heard_of_before() -> None:
    node = OneHeight()
    node.prevotes(FAR + 2, A, 0)
    node.prevotes(FAR, A, 0)
    assert node.prevotes(FAR, A, 1) == [], "node 0 has left that round"
    assert node.prevotes(FAR + 2, A, 1)[0] == EnterRound(FAR + 2)


def test_f_plus_1_far_ahead_are_followed() -> None:
    node = OneHeight()
    node.prevotes(10**9, NIL, 0)
    assert node.precommits(10**9, NIL, 1)[0] == EnterRound(10**9)


def test_what_was_far_ahead_counts_when_it_is_near() -> None:
    """A quorum's precommits of a round that this node comes to later."""
    node = OneHeight()
    node.proposes(FAR, A)  # of node 1
    assert node.height.heard.proposals(FAR) == ()
    node.skips_to(1, (0, 2))
    assert node.height.round == 1
    assert node.height.heard.proposals(FAR) == (SignedProposal(1, FAR, A),)
    node.precommits(FAR, A, 0)
    assert Decide(FAR, A) in node.precommits(FAR, A, 1, 2)


def test_what_was_far_ahead_and_is_of_no_proposer_is_dropped_then() -> None:
    node = OneHeight()
    node.proposes(FAR, A, node=0)
    node.skips_to(1, (1, 2))
    assert node.height.heard.proposals(FAR) == ()


def test_the_proposer_of_a_round_far_ahead_is_not_looked_for() -> None:
    """That takes as many steps as the round's number."""
    asked = []
    node = OneHeight()
    its = node.height.heard._proposer_of
    node.height.heard._proposer_of = lambda round: asked.append(round) or its(round)
    node.proposes(10**15, A, node=0)
    assert asked == []
