"""Tendermint on the kernel, a step at a time: what is said, what is durable before it is, and whom it believes."""

from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import Asked, Done, Failed, Stalled, Turn
from quorate.ledger.comet.blocks import BLOCK
from quorate.ledger.comet.commits import COMMIT, FOR_BLOCK, FOR_NIL
from quorate.ledger.comet.headers import ConsensusVersion
from quorate.parts.log.replicated import Busy, Decided, Dropped, Leads, ReadFailed, ReadReady
from quorate.protocols.tendermint.commits import commit_of, prevotes_of
from quorate.protocols.tendermint.committee import Committee
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.messages import (
    Decision,
    Here,
    Locked,
    Precommit,
    Prevote,
    Proposal,
    Valid,
    Votes,
)
from quorate.protocols.tendermint.named_blocks import name_block

from tests.protocols.tendermint.one_node import (
    CHAIN_ID,
    CONFIG,
    KEYRING,
    ME,
    NIL,
    ONE,
    OTHERS,
    SCHEME,
    THREE,
    TWO,
    A,
    B,
    OneNode,
    P,
    as_said,
    blames,
    block,
    chain_at,
    decision,
    precommit,
    prevote,
    proof,
    proposal,
    proposal_of,
    proposer_of,
    resigned,
    said,
    told,
    written,
)

PROPOSE, PREVOTE, PRECOMMIT = Step


def outputs(turn: Turn, kind: type) -> list[Any]:
    return [output for output in turn.outputs if isinstance(output, kind)]


def txs(m: Proposal) -> tuple[bytes, ...]:
    return BLOCK.decode(m.block).data.txs


def timers(turn: Turn, now: float = 10.0) -> dict[Any, float | None]:
    """How long each is to take; None: not any more."""
    return {timer.key: None if timer.at is None else round(timer.at - now, 6) for timer in turn.timers}


# --- a height ---


def test_a_height_waits_for_something_to_decide() -> None:
    node = OneNode()
    assert (said(node.first), timers(node.first)) == ([], {"beat": 0.2})
    assert node.first.sends[0].message == Here(1)
    turn = node.submits(ONE)
    assert (said(turn), timers(turn)) == ([], {"propose": 3.0})
    assert outputs(turn, Leads) == [Leads(1, P[0])]


def test_the_proposer_signs_a_proposal_and_makes_it_durable_before_it_leaves() -> None:
    node = OneNode(node=P[0])
    turn = node.submits(ONE)
    own = proposal(0, A)
    assert said(turn) == [own, prevote(P[0], 0, A)]
    assert [[record.value for record in each.records] for each in node.turns if each.records] == [
        [own],
        [prevote(P[0], 0, A)],
    ]
    assert [said(each) for each in node.turns if each.records] == [[own], [prevote(P[0], 0, A)]], "in the same Turn"


def test_the_normal_case() -> None:
    node = OneNode()
    assert said(node.hears((P[0], proposal(0, A)))) == [prevote(ME, 0, A)]
    node.hears((P[0], prevote(P[0], 0, A)))
    turn = node.hears((P[1], prevote(P[1], 0, A)))
    lock = Locked(1, 0, block(A).data, proof(PREVOTE, 0, A, (P[0], P[1], ME)))
    assert written(turn) == [lock, precommit(ME, 0, A)]
    assert said(turn) == [precommit(ME, 0, A)]
    assert len(node.turns[0].records) == 2, "atomically"
    node.hears((P[0], precommit(P[0], 0, A)))
    turn = node.hears((P[1], precommit(P[1], 0, A)))
    its = decision(nodes=(P[0], P[1], ME))
    assert (written(turn), said(turn)) == ([its], [])
    (decided,) = outputs(turn, Decided)
    assert (decided.first_index, [entry.data for entry in decided.entries]) == (1, [ONE])
    assert decided.proof == COMMIT.decode(its.commit)
    assert node.place == (2, 0, PROPOSE)
    assert not node.core.current.open.rules.is_started
    assert (node.core.locks.lock, node.core.locks.valid) == (None, None)


def test_a_proposer_that_has_nothing_yet_proposes_as_soon_as_it_has() -> None:
    node = OneNode(node=P[0])
    node.votes(prevote, 0, NIL, P[1], P[2])
    assert node.core.current.open.rules.is_started, "f + 1 nodes speak of the height"
    assert said(node.submits(TWO, ONE))[0] == proposal(0, (TWO, ONE))


def test_timeouts_grow_with_the_round() -> None:
    """By half a second a round here."""
    node = OneNode()
    turn = node.submits(ONE)
    for round, more in ((0, 0.0), (5, 2.5)):
        if round:
            turn = node.votes(precommit, round, NIL, P[2])
            turn = node.votes(precommit, round, NIL, P[1])
        assert timers(turn)["propose"] == 3.0 + more
        node.fires("propose")
        node.hears((P[0], prevote(P[0], round, A)))
        assert timers(node.hears((P[1], prevote(P[1], round, B))))["prevote"] == 1.0 + more
        turn = node.fires("prevote")
        if not round:
            node.votes(precommit, round, NIL, P[2])
            turn = node.votes(precommit, round, A, P[1])
        assert timers(turn)["precommit"] == 1.0 + more


def test_a_decision_ends_the_timeouts() -> None:
    node = OneNode()
    node.submits(ONE)
    turn = node.hears((P[0], decision()))
    assert timers(turn)["propose"] is None
    assert written(node.fires("propose")) == []


def test_a_timeout_of_the_last_height_does_nothing() -> None:
    """It ran out in the step that decided."""
    node = OneNode()
    node.submits(ONE)
    node.hears((P[0], decision()))
    node.submits(TWO)
    assert node.core.timeouts.rounds == {PROPOSE: 0}
    node.core.timeouts.rounds.clear()
    assert said(node.fires("propose")) == []


def test_rounds_end_by_timeouts() -> None:
    node = OneNode()
    node.submits(ONE)
    assert said(node.fires("propose")) == [prevote(ME, 0, NIL)]
    node.hears((P[0], prevote(P[0], 0, A)), (P[1], prevote(P[1], 0, NIL)))
    assert said(node.fires("prevote")) == [precommit(ME, 0, NIL)]
    node.votes(precommit, 0, NIL, P[0], P[1])
    node.fires("precommit")
    assert node.place == (1, 1, PROPOSE)


# --- locks and valid values ---


def locked() -> OneNode:
    """On A, in round 0."""
    node = OneNode()
    node.hears((P[0], proposal(0, A)), (P[0], prevote(P[0], 0, A)), (P[1], prevote(P[1], 0, A)))
    assert node.core.locks.lock is not None
    return node


def test_a_valid_value_is_proposed_with_the_prevotes_that_make_it_valid() -> None:
    node = locked()
    turn = node.votes(precommit, 3, NIL, P[0], P[1])
    assert said(turn)[0] == proposal(3, A, 0, proof(PREVOTE, 0, A, (P[0], P[1], ME)))


def test_a_valid_value_that_is_no_lock_is_durable_too() -> None:
    node = OneNode()
    node.hears((P[0], proposal(0, A)), (P[0], prevote(P[0], 0, A)), (P[1], prevote(P[1], 0, NIL)))
    node.fires("prevote")
    turn = node.hears((P[2], prevote(P[2], 0, A)))
    assert written(turn) == [Valid(1, 0, block(A).data, proof(PREVOTE, 0, A, (P[0], P[2], ME)))]
    assert node.core.locks.lock is None
    again = OneNode(list(node.core.checkpoint()))
    turn = again.votes(precommit, 3, NIL, P[0], P[1])
    assert said(turn)[0].valid_round == 0


def test_a_proposal_shows_prevotes_that_this_node_has_not_heard() -> None:
    node = locked()
    node.votes(precommit, 2, NIL, P[0], P[1])
    turn = node.hears((P[2], proposal(2, B, 1, proof(PREVOTE, 1, B))))
    assert said(turn) == [prevote(ME, 2, B)], "in a later round than the lock's"


@pytest.mark.parametrize(
    ("valid_round", "shown", "why"),
    [
        (1, None, "no rule allows"),
        (-1, proof(PREVOTE, 1, B), "no rule allows"),
        (2, proof(PREVOTE, 2, B), "no rule allows"),
        (1, proof(PREVOTE, 0, B), "without a proof"),
        (1, proof(PREVOTE, 1, A), "without a proof"),
        (1, proof(PRECOMMIT, 1, B), "without a proof"),
        (1, proof(PREVOTE, 1, B, OTHERS[:2]), "without a proof"),
        (1, proof(PREVOTE, 1, B, height=2), "without a proof"),
    ],
)
def test_a_proposal_that_shows_nothing_is_blamed(valid_round: int, shown: Any, why: str) -> None:
    node = locked()
    node.votes(precommit, 2, NIL, P[0], P[1])
    turn = node.hears((P[2], proposal(2, B, valid_round, shown)))
    assert said(turn) == []
    ((blamed, reason),) = blames(turn)
    assert blamed == P[2]
    assert why in reason


def test_a_node_that_is_locked_prevotes_nil_for_another_value() -> None:
    node = locked()
    node.votes(precommit, 2, NIL, P[0], P[1])
    assert said(node.hears((P[2], proposal(2, B)))) == [prevote(ME, 2, NIL)]


# --- whom it believes ---


def test_what_is_not_rightly_signed_does_not_count() -> None:
    node = OneNode()
    wrong = replace(proposal(0, A), signature=bytes(64))
    assert blames(node.hears((P[0], wrong))) == [(P[0], "sent a proposal that it did not sign")]
    other = replace(proposal(0, A), block=block(B).data)
    assert blames(node.hears((P[0], other))) == [(P[0], "sent a proposal that it did not sign")]
    assert blames(node.hears((P[1], proposal(0, A, node=P[1])))) == [(P[1], "proposed out of turn")]
    vote = replace(prevote(P[1], 0, A), round=1)
    assert blames(node.hears((P[1], vote))) == [(P[1], "sent a vote that its node did not sign")]
    right = prevote(P[1], 0, A)
    vote = Precommit(1, 0, right.value, P[1], right.time_ns, right.signature)
    assert blames(node.hears((P[1], vote))) == [(P[1], "sent a vote that its node did not sign")], "for another step"
    assert node.core.current.open.rules.heard.votes(0, PREVOTE) == ()


def test_a_vote_comes_from_its_node_or_among_others_that_are_passed_on() -> None:
    node = OneNode()
    vote = prevote(P[1], 0, A)
    assert blames(node.hears((P[2], vote))) == [(P[2], "sent a vote as that of another node")]
    assert blames(node.hears((P[2], Votes((vote, precommit(P[0], 3, NIL)))))) == []
    assert [one.node for one in node.core.current.open.rules.heard.votes(0, PREVOTE)] == [P[1]]
    bad = replace(prevote(P[0], 0, A), signature=bytes(64))
    turn = node.hears((P[2], Votes((bad, prevote(P[0], 1, A)))))
    assert blames(turn) == [(P[2], "sent a vote that its node did not sign")], "whoever passed it on"
    assert node.core.current.open.rules.heard.votes(1, PREVOTE) == (), "what follows is not looked at"


def test_nobody_passes_on_more_votes_than_there_are() -> None:
    """Each takes a signature to check, and a node that lies signs as many as it likes."""
    node = OneNode()
    many = tuple(prevote(P[1], round, A) for round in range(16))
    assert blames(node.hears((P[1], Votes(many)))) == []
    many += (prevote(P[1], 16, A),)
    assert blames(node.hears((P[1], Votes(many)))) == [(P[1], "passed on more votes than two rounds have")]


def test_votes_of_other_heights_are_passed_over() -> None:
    node = OneNode()
    node.hears((P[2], Votes((prevote(P[1], 0, A, 2), prevote(P[1], 0, A)))))
    assert [one.node for one in node.core.current.open.rules.heard.votes(0, PREVOTE)] == [P[1]]


def test_two_votes_for_one_round_are_evidence() -> None:
    node = OneNode()
    turn = node.hears((P[1], prevote(P[1], 0, A)), (P[1], prevote(P[1], 0, NIL)))
    (blame,) = turn.blames
    assert (blame.node, blame.why) == (P[1], "signed two votes for one round")
    assert blame.evidence.holds(CHAIN_ID, KEYRING) is None


def test_two_proposals_for_one_round_are_evidence() -> None:
    node = OneNode()
    turn = node.hears((P[0], proposal(0, A)), (P[0], proposal(0, B)))
    (blame,) = turn.blames
    assert (blame.node, blame.why) == (P[0], "signed two proposals for one round")
    assert blame.evidence.holds(CHAIN_ID, KEYRING) is None
    assert said(turn) == [prevote(ME, 0, A)]


def test_what_a_node_repeats_is_no_evidence() -> None:
    node = OneNode()
    again = (P[1], prevote(P[1], 0, A))
    turn = node.hears(again, again, (P[1], prevote(P[1], 1, B)), (P[1], precommit(P[1], 0, B)))
    assert blames(turn) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"chain_id": "another"},
        {"time": block(B, 3).block.header.time.plus_ns(1)},
        {"last_block_id": block(A, 1).id},
        {"validators_hash": bytes(32)},
        {"next_validators_hash": bytes(32)},
        {"consensus_hash": bytes(32)},
        {"app_hash": bytes(32)},
        {"last_results_hash": bytes(32)},
        {"proposer_address": bytes(20)},
        {"version": ConsensusVersion(11, 1)},
    ],
    ids=lambda changes: "".join(changes),
)
def test_a_block_that_does_not_follow_on_the_chain_is_prevoted_nil(changes: dict[str, Any]) -> None:
    its, proposer = block(B, 3), proposer_of(0, 3)
    wrong = name_block(replace(its.block, header=replace(its.block.header, **changes)))
    node = OneNode(DECISIONS[:2])
    assert said(node.hears((proposer, proposal_of(wrong, height=3)))) == [prevote(ME, 0, NIL, 3)]
    node = OneNode(DECISIONS[:2])
    assert said(node.hears((proposer, proposal(0, B, height=3)))) == [prevote(ME, 0, B, 3)]


def test_what_is_not_a_block_of_this_height_is_blamed() -> None:
    its = block(A)
    for data, why in (
        (b"bytes", "proposed what is not a block"),
        (its.data + b"\x22\x00", "proposed what is not a block"),
        (BLOCK.encode(replace(its.block, data=block(B).block.data)), "proposed what is not a block"),
        (block(A, 2).data, "proposed a block of another height"),
    ):
        assert blames(OneNode().hears((P[0], replace(proposal(0, A), block=data)))) == [(P[0], why)]
    no_parts = replace(prevote(P[0], 0, A), value=its.name[:-4] + bytes(4))
    assert blames(OneNode().hears((P[0], no_parts))) == [(P[0], "sent a vote for a block without parts")]


def early(vote: Prevote) -> Prevote:
    """At the time of its block."""
    return resigned(replace(vote, time_ns=block(A).block.header.time.ns()))


@pytest.mark.parametrize("knows_block", [True, False])
def test_a_vote_that_is_not_later_than_its_block_is_none_for_it(knows_block: bool) -> None:
    """Else no block could follow on a commit with it."""
    node = OneNode()
    its, vote = (P[0], proposal(0, A)), (P[0], early(prevote(P[0], 0, A)))
    turns = [node.hears(its), node.hears(vote)] if knows_block else [node.hears(vote), node.hears(its)]
    assert [blames(turn) for turn in turns] == [[], []]
    assert timers(node.hears((P[1], prevote(P[1], 0, A))))["prevote"] == 1.0, "it counts as one of any kind"
    assert node.core.locks.lock is None
    assert said(node.hears((P[2], prevote(P[2], 0, A)))) == [precommit(ME, 0, A)]
    assert node.core.locks.lock is not None
    assert node.core.locks.lock.proof == proof(PREVOTE, 0, A, (P[1], P[2], ME)), "and is not shown"
    assert early(precommit(P[0], 0, A)) not in told(node.fires("beat"), P[1])


def test_prevotes_and_commits_that_are_not_later_prove_nothing() -> None:
    committee, its = chain_at(1).committee, block(A)
    votes = [as_said(early(prevote(n, 0, A)) if n == P[0] else prevote(n, 0, A)) for n in OTHERS]
    shown = COMMIT.encode(prevotes_of(committee, 1, 0, its.name, votes))
    node = OneNode()
    turn = node.hears((P[1], proposal(1, A, 0, shown)))
    assert [why for _, why in blames(turn)] == ["proposed something again without a proof that a quorum prevoted it"]
    votes = [as_said(early(precommit(P[0], 0, A))), *[as_said(precommit(n, 0, A)) for n in (P[1], P[2])]]
    commit = COMMIT.encode(prevotes_of(committee, 1, 0, its.name, votes))
    turn = node.hears((P[1], Decision(1, its.data, commit)))
    assert blames(turn) == [(P[1], "sent a decision without a proof")], "its median would be the liar's time"


def test_votes_for_nil_are_in_the_commit_unless_a_block_could_not_follow() -> None:
    node = OneNode()
    node.hears((P[0], proposal(0, A)), *[(n, prevote(n, 0, A)) for n in OTHERS])
    node.hears((P[0], precommit(P[0], 0, NIL)), (P[1], precommit(P[1], 0, A)), (P[2], precommit(P[2], 0, A)))
    (written_last,) = node.core.log.decisions
    flags = [sig.block_id_flag for sig in COMMIT.decode(written_last.commit).signatures]
    assert sorted(flags) == [FOR_BLOCK, FOR_BLOCK, FOR_BLOCK, FOR_NIL]
    powers = {P[0]: 5, P[1]: 6, P[2]: 3, ME: 3}
    committee = Committee(range(4), [powers[n] for n in range(4)], KEYRING)
    votes = [as_said(precommit(n, 0, A)) for n in (P[1], P[2], ME)]
    old_nil = as_said(resigned(replace(precommit(P[0], 0, NIL), time_ns=0)))
    older = [replace(vote, time_ns=0) for vote in votes[:1]]
    made = commit_of(committee, 1, 0, block(A), [*older, *votes[1:], old_nil])
    assert [sig.block_id_flag for sig in made.signatures].count(FOR_NIL) == 0


def test_requests_that_are_proposed_are_checked_off_the_loop() -> None:
    node = OneNode(checks=False)
    turn = node.hears((P[0], proposal(0, A)))
    (job,) = turn.jobs
    assert said(turn) == []
    assert said(node.checked(job)) == [prevote(ME, 0, A)]


def test_requests_that_wait_here_already_need_no_check() -> None:
    node = OneNode()
    node.submits(ONE)
    node.checks = False
    turn = node.hears((P[0], proposal(0, A)))
    assert (said(turn), turn.jobs) == ([prevote(ME, 0, A)], [])


@pytest.mark.parametrize("values", [(b"no request",), (ONE, ONE[:-1] + bytes([ONE[-1] ^ 1]))])
def test_what_no_client_signed_is_prevoted_nil(values: tuple[bytes, ...]) -> None:
    assert said(OneNode().hears((P[0], proposal(0, values)))) == [prevote(ME, 0, NIL)]


def test_a_check_that_failed_is_made_again_at_the_next_beat() -> None:
    node = OneNode(checks=False)
    (job,) = node.hears((P[0], proposal(0, A))).jobs
    turn = node.step(Done(job.key, Failed("too many jobs"), job.path))
    assert said(turn) == []
    (job,) = node.fires("beat").jobs
    assert said(node.checked(job)) == [prevote(ME, 0, A)]


def test_a_check_of_an_earlier_height_judges_nothing() -> None:
    node = OneNode(checks=False)
    (job,) = node.hears((P[0], proposal(0, B))).jobs
    node.hears((P[0], decision()))
    assert said(node.checked(job)) == []
    (again,) = node.hears((proposer_of(0, 2), proposal(0, B, height=2))).jobs
    assert again.key != job.key
    assert said(node.checked(job)) == []
    assert said(node.checked(again)) == [prevote(ME, 0, B, 2)]


def test_what_others_proposed_this_node_proposes_too() -> None:
    """Or those who were told of a request would wait for the one who told some of them alone."""
    node = OneNode()
    node.hears((P[0], proposal(0, A)))
    turn = node.votes(precommit, 3, NIL, P[0], P[1])
    assert said(turn)[0] == proposal(3, A, by=ME)


# --- requests ---


def test_requests_are_checked_and_refused_by_reason() -> None:
    node = OneNode(config=CONFIG.but(pending_max=2))
    forged = TWO[:-1] + bytes([TWO[-1] ^ 1])
    turn = node.submits(ONE, b"no request", forged)
    assert outputs(turn, Dropped) == [
        Dropped((b"no request",), "not signed by a client"),
        Dropped((forged,), "not signed by a client"),
    ]
    node.submits(ONE)
    assert outputs(node.submits(TWO, THREE), Busy) == [Busy((THREE,), "too many requests wait")]
    assert list(node.core.app.pending.waiting.values()) == [ONE, TWO]


def test_bytes_that_wait_are_bounded() -> None:
    node = OneNode(config=CONFIG.but(pending_bytes_max=len(ONE) + 1))
    assert outputs(node.submits(ONE, TWO), Busy) == [Busy((TWO,), "too many requests wait")]


def test_a_batch_has_limits() -> None:
    node = OneNode(node=P[0], config=CONFIG.but(batch_count_max=2))
    assert txs(said(node.submits(ONE, TWO, THREE))[0]) == (ONE, TWO)
    node = OneNode(node=P[0], config=CONFIG.but(batch_bytes_max=len(ONE) + 1))
    assert txs(said(node.submits(ONE, TWO))[0]) == (ONE,)
    node = OneNode(node=P[0], config=CONFIG.but(batch_bytes_max=1))
    assert txs(said(node.submits(ONE, TWO))[0]) == (ONE,), "one at least"


def test_a_request_that_comes_late_is_not_decided_again_at_once() -> None:
    node = OneNode()
    node.hears((P[0], decision()))
    node.submits(ONE)
    assert not node.core.app.pending.waiting
    node.now += CONFIG.propose_s
    node.fires("beat")
    node.submits(ONE)
    assert list(node.core.app.pending.waiting.values()) == [ONE], "its client has no answer, and asks again"


def test_reads_wait_while_a_write_may_have_been_answered_elsewhere() -> None:
    node = OneNode()
    assert outputs(node.step(Asked((1, 2))), ReadReady) == [ReadReady((1, 2))]
    assert outputs(locked().step(Asked((3,))), ReadFailed) == [ReadFailed((3,), "a write is under way")]


# --- what is lost, and who is behind ---


def test_a_beat_repeats_nothing_while_there_is_progress() -> None:
    node = OneNode()
    node.hears((P[0], proposal(0, A)))
    assert [send.message for send in node.fires("beat").sends] == [Here(1)]
    node.hears((P[0], prevote(P[0], 0, A)), (P[1], prevote(P[1], 0, A)))
    assert [send.message for send in node.fires("beat").sends] == [Here(1)]


def test_a_node_that_waits_passes_on_all_votes_of_two_rounds() -> None:
    node = OneNode()
    node.votes(precommit, 2, NIL, P[0], P[1])
    node.hears((P[2], prevote(P[2], 1, A)), (P[2], prevote(P[2], 0, A)))
    node.fires("beat")
    turn = node.fires("beat")
    assert told(turn, P[0]) == [
        Here(1),
        Votes((prevote(P[2], 1, A), precommit(P[0], 2, NIL), precommit(P[1], 2, NIL))),
    ]


def test_a_proposer_that_waits_repeats_its_proposal() -> None:
    node = OneNode(node=P[0])
    node.submits(ONE)
    node.fires("beat")
    assert told(node.fires("beat"), P[1]) == [Here(1), proposal(0, A), Votes((prevote(P[0], 0, A),))]


def test_a_node_that_has_nothing_to_decide_repeats_nothing() -> None:
    node = OneNode()
    node.hears((P[1], prevote(P[1], 0, NIL)))
    for _ in range(3):
        assert [send.message for send in node.fires("beat").sends] == [Here(1)]


DECISIONS = [decision(height) for height in range(1, 21)]


def test_who_is_behind_is_sent_decisions_once_a_beat() -> None:
    node = OneNode(DECISIONS)
    assert told(node.hears((P[0], Here(3))), P[0]) == DECISIONS[2:18]
    assert told(node.hears((P[0], Here(3))), P[0]) == []
    node.fires("beat")
    assert told(node.hears((P[0], Here(19))), P[0]) == DECISIONS[18:]
    assert told(node.hears((P[1], Here(21)), (P[2], Here(0))), P[1]) == []


def test_help_is_bounded_in_bytes() -> None:
    node = OneNode(DECISIONS, config=CONFIG.but(batch_bytes_max=len(DECISIONS[1].block)))
    assert told(node.hears((P[0], Here(1))), P[0]) == DECISIONS[:2]
    node = OneNode(DECISIONS, config=CONFIG.but(batch_bytes_max=1))
    assert told(node.hears((P[0], Here(1))), P[0]) == DECISIONS[:1], "one at least"


def test_a_decision_is_taken_of_anyone_who_can_prove_it() -> None:
    node = OneNode()
    turn = node.hears((P[2], DECISIONS[0]), (P[1], DECISIONS[1]))
    assert [decided.first_index for decided in outputs(turn, Decided)] == [1, 2]
    for wrong in (
        replace(DECISIONS[2], block=block(B, 3).data),
        replace(DECISIONS[2], block=b"no block"),
        replace(DECISIONS[2], block=DECISIONS[3].block, commit=DECISIONS[3].commit),
        replace(DECISIONS[2], commit=DECISIONS[3].commit),
        replace(DECISIONS[2], commit=proof(PREVOTE, 0, A, height=3)),
        decision(3, nodes=OTHERS[:2]),
    ):
        assert blames(node.hears((P[2], wrong))) == [(P[2], "sent a decision without a proof")]
    assert node.place[0] == 3
    assert blames(node.hears((P[2], DECISIONS[7]))) == [], "not its turn yet"


def test_what_comes_early_is_kept_for_the_next_height() -> None:
    node = OneNode()
    proposer = proposer_of(0, 2)
    node.hears((proposer, proposal(0, B, height=2)), (proposer, prevote(proposer, 0, B, 2)))
    node.hears((P[0], prevote(P[0], 7, B, 3)), (P[0], prevote(P[0], 7, B, 2)), (P[0], prevote(P[0], 8, B, 2)))
    assert len(node.core.hearing.early[P[0]]) <= 3, "one of each kind"
    turn = node.hears((P[0], DECISIONS[0]))
    assert said(turn) == [prevote(ME, 0, B, 2)]
    assert node.core.hearing.early == {}
    heard = node.core.current.open.rules.heard
    assert [len(heard.votes(round, PREVOTE)) for round in (0, 7, 8)] == [2, 0, 1]


def test_what_comes_early_is_checked_when_its_time_comes() -> None:
    node = OneNode()
    assert blames(node.hears((P[1], replace(prevote(P[1], 0, B, 2), signature=bytes(64))))) == []
    assert blames(node.hears((P[0], DECISIONS[0]))) == [(P[1], "sent a vote that its node did not sign")]


# --- a disk that is full ---


def test_while_the_disk_is_full_a_node_signs_nothing() -> None:
    node = OneNode()
    turn = node.step(Stalled("the disk is full"))
    assert outputs(node.submits(TWO), Dropped) == [Dropped((TWO,), "the disk takes nothing")]
    turn = node.hears((P[0], proposal(0, A)), (P[0], DECISIONS[0]))
    assert (said(turn), written(turn)) == ([], [])
    assert said(node.step(Stalled(None))) == [prevote(ME, 0, A)]


# --- a restart ---


def test_a_node_signs_the_same_again_after_a_restart() -> None:
    own = proposal(0, A, node=P[0])
    node = OneNode([own], node=P[0])
    assert said(node.first) == [own, prevote(P[0], 0, A)]
    node = OneNode([own], node=P[0])
    assert said(node.submits(TWO)) == []
    node = OneNode([prevote(ME, 0, A)])
    assert said(node.first) == []
    turn = node.hears((P[0], proposal(0, B)), (P[0], prevote(P[0], 0, B)), (P[1], prevote(P[1], 0, B)))
    assert not [m for m in said(turn) if type(m) is Prevote]


def test_the_lock_holds_after_a_restart() -> None:
    node = OneNode(list(locked().core.checkpoint()))
    assert node.place == (1, 0, PRECOMMIT)
    node.votes(precommit, 2, NIL, P[0], P[1])
    assert said(node.hears((P[2], proposal(2, B)))) == [prevote(ME, 2, NIL)]
    assert txs(said(node.votes(precommit, 3, NIL, P[0], P[1]))[0]) == A


def test_what_was_decided_is_delivered_again() -> None:
    node = OneNode([*DECISIONS[:3], prevote(ME, 0, A, 4)])
    assert [decided.first_index for decided in outputs(node.first, Decided)] == [1, 2, 3]
    assert node.place == (4, 0, PREVOTE)
    assert node.core.standing().term == 4


def test_a_checkpoint_has_all_that_was_durable() -> None:
    records = [*DECISIONS[:2], proposal(0, A, height=3, node=ME), prevote(ME, 0, A, 3)]
    assert list(OneNode(records).core.checkpoint()) == records
    lock = Locked(1, 0, block(A).data, proof(PREVOTE, 0, A))
    later = Valid(1, 2, block(B).data, proof(PREVOTE, 2, B))
    for kept in ([lock], [later], [lock, later]):
        node = OneNode([prevote(ME, 3, NIL), *kept])
        assert list(OneNode(list(node.core.checkpoint())).core.checkpoint()) == [prevote(ME, 3, NIL), *kept]


def test_a_decision_ends_what_was_signed_before() -> None:
    node = OneNode([prevote(ME, 4, B), Locked(1, 0, block(B).data, proof(PREVOTE, 0, B)), DECISIONS[0]])
    assert list(node.core.checkpoint()) == [DECISIONS[0]]
    assert node.place == (2, 0, PROPOSE)


# --- who votes ---


def test_power_is_by_node() -> None:
    config = CONFIG.but(powers=tuple(10 if node == ME else 1 for node in range(4)))
    node = OneNode(config=config)
    turn = node.submits(ONE)
    assert [type(m) for m in said(turn)] == [type(proposal(0, A)), Prevote, Precommit], "10 of 13 are a quorum"
    assert len(outputs(turn, Decided)) == 1


def test_whose_turn_it_is_does_not_hang_on_what_was_asked_before() -> None:
    """In steps from the latest round, or from the first."""
    powers = (5, 1, 3, 2)
    committee = Committee(range(4), powers, KEYRING)
    for height in (1, 2):
        forth = [committee.proposer(round) for round in range(12)]
        assert forth == [proposer_of(round, height, powers) for round in range(12)]
        assert Counter(forth[:11]) == {0: 5, 1: 1, 2: 3, 3: 2}
        assert committee.proposer(40) == proposer_of(40, height, powers)
        assert committee.proposer(20) == proposer_of(20, height, powers)
        committee.advance()


@pytest.mark.parametrize("powers", [(1, 1, 1), (1, 1, 1, 1, 1)])
def test_every_node_has_a_power_or_none_has(powers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="powers for 4 nodes"):
        OneNode(config=CONFIG.but(powers=powers))


def test_keys_of_another_node_are_refused() -> None:
    node = OneNode()
    with pytest.raises(ValueError, match="was given the keys of node"):
        Tendermint(node.core.env, CONFIG, keys=SCHEME.keys(P[0]))


def test_where_it_stands() -> None:
    node = OneNode(DECISIONS[:2])
    standing = node.core.standing()
    leader = proposer_of(0, 3)
    assert (standing.role, standing.leader) == ("proposer" if leader == ME else "voter", leader)
    assert (standing.term, standing.commit_index) == (3, 2)
