"""Each part of Tendermint alone: its inputs as a test makes them, one call, and the exact effects."""

from msgspec.structs import replace

from quorate.kernel import Timer
from quorate.ledger.comet.headers import ConsensusVersion
from quorate.ledger.validators import PowerChange
from quorate.parts.log.replicated import Leads
from quorate.protocols.tendermint.chain_app import Prepared, Processed
from quorate.protocols.tendermint.effects import (
    NO_ROUND,
    Decide,
    EnterRound,
    Equivocation,
    GetValue,
    Judge,
    KeepValid,
    Lock,
    SendProposal,
    SendVote,
    SetTimeout,
    Step,
)
from quorate.protocols.tendermint.messages import VOTES_A_NODE_MAX, Decision, Here, Locked, Valid, Votes
from quorate.protocols.tendermint.named_blocks import name_block

from tests.protocols.effects import to, written
from tests.protocols.tendermint.alone import Alone
from tests.protocols.tendermint.jobs_app import FinalizeBlock, PrepareBlock, ProcessBlock
from tests.protocols.tendermint.one_node import (
    ALL,
    ME,
    NIL,
    ONE,
    OTHERS,
    A,
    B,
    P,
    as_said,
    block,
    decision,
    precommit,
    prevote,
    proof,
    proof_for,
    proposal,
    proposal_of,
)

PROPOSE, PREVOTE, PRECOMMIT = Step
NAME = block(A).name
PEERS = tuple(node for node in ALL if node != ME)


# --- lock and valid value ---


def test_a_lock_is_a_valid_value_and_a_later_valid_value_is_no_lock() -> None:
    alone = Alone()
    lock, later = Locked(1, 0, b"a", b"proof"), Valid(1, 2, b"b", b"proof")
    assert alone.do(alone.locks.lock_on, lock).records == written(lock)
    assert (alone.locks.lock, alone.locks.valid) == (lock, lock)
    assert list(alone.locks.records()) == [lock]
    assert alone.do(alone.locks.keep, later).records == written(later)
    assert (alone.locks.lock, alone.locks.valid) == (lock, later)
    again = Alone().locks
    for record in alone.locks.records():
        again.restore(record)
    assert (again.lock, again.valid) == (lock, later)
    alone.locks.clear()
    assert list(alone.locks.records()) == []


# --- the current height ---


def test_a_height_that_is_left_stays_open_until_the_next_one_is_opened() -> None:
    alone = Alone()
    alone.signed.restore(prevote(ME, 2, NIL))
    alone.locks.restore(Locked(1, 0, block(A).data, b"proof"))
    alone.current.leave(4)
    assert (alone.current.next, alone.current.open.number) == (5, 1)
    assert (alone.signed.last, alone.locks.lock) == (None, None)
    alone.current.open_next()
    assert alone.current.open.number == 5
    assert not alone.rules.is_started


def test_a_node_goes_on_where_it_signed_last_with_its_lock() -> None:
    alone = Alone()
    alone.signed.restore(precommit(ME, 2, A))
    alone.locks.restore(Locked(1, 2, block(A).data, b"proof"))
    alone.current.resume()
    rules = alone.rules
    assert (rules.is_started, rules.round, rules.step) == (True, 2, PRECOMMIT)
    assert (rules.locked_round, rules.locked_value) == (rules.valid_round, rules.valid_value) == (2, NAME)
    assert rules.heard.votes(2, PRECOMMIT) == (as_said(precommit(ME, 2, A)),)


# --- timeouts ---


def test_a_timeout_runs_out_once_and_of_a_height_that_is_over_never() -> None:
    alone = Alone()
    alone.rules.start()
    turn = alone.do(alone.timeouts.on_set_timeout, SetTimeout(PROPOSE, 0))
    assert turn.timers == [Timer((), "propose", alone.now + 3.0)]
    alone.rules.take()
    alone.do(alone.timeouts.ran_out, "propose")
    assert alone.rules.take() == [SendVote(PREVOTE, 0, NIL)]
    alone.do(alone.timeouts.on_set_timeout, SetTimeout(PREVOTE, 0))
    assert alone.do(alone.timeouts.cancel).timers == [Timer((), "prevote", None)]
    alone.do(alone.timeouts.ran_out, "prevote")
    assert alone.rules.take() == []


# --- proposing ---


def wanting(alone: Alone) -> None:
    """A new value for round 0."""
    alone.rules.start()
    alone.rules.take()
    alone.do(alone.proposing.on_get_value, GetValue(0))


def test_the_app_fills_a_new_value_once_there_is_something() -> None:
    alone = Alone(P[0])
    wanting(alone)
    assert alone.do(alone.proposing.build).jobs == ()
    assert alone.returned is False
    alone.app.submit([ONE])
    (asked,) = alone.jobs(alone.do(alone.proposing.build))
    assert alone.returned is True
    assert isinstance(asked, PrepareBlock)
    assert (asked.draft.round, asked.draft.height, asked.txs) == (0, 1, A)
    assert alone.do(alone.proposing.build).jobs == (), "it was asked"
    alone.do(alone.proposing.prepared, Prepared(1, 1, A))
    assert alone.rules.take() == [], "an answer for another round"
    alone.do(alone.proposing.prepared, Prepared(1, 0, A))
    assert alone.rules.take() == [SendProposal(0, NAME, NO_ROUND)]
    (sent,) = alone.do(alone.proposing.on_send_proposal, SendProposal(0, NAME, NO_ROUND)).sends
    assert (sent.to, sent.message) == (ALL, alone.signed.proposal)
    assert sent.message.block == block(A).data


def test_nothing_is_proposed_for_a_round_that_is_over() -> None:
    alone = Alone(P[0])
    wanting(alone)
    alone.app.submit([ONE])
    alone.do(alone.proposing.build)
    turn = alone.do(alone.proposing.on_enter_round, EnterRound(1))
    assert turn.outputs == [Leads(1, P[1])]
    alone.do(alone.proposing.prepared, Prepared(1, 0, A))
    assert alone.rules.take() == []
    assert alone.do(alone.proposing.build).jobs == ()


def test_what_was_signed_for_a_round_is_proposed_again_without_the_app() -> None:
    alone = Alone(P[0])
    own = proposal(0, A)
    alone.signed.restore(own)
    wanting(alone)
    assert alone.do(alone.proposing.build).jobs == ()
    assert alone.rules.take() == [SendProposal(0, NAME, NO_ROUND)]
    turn = alone.do(alone.proposing.on_send_proposal, SendProposal(0, NAME, NO_ROUND))
    assert (turn.sends, turn.records) == ([to(ALL, own)], ())


def test_a_valid_value_is_proposed_with_its_proof() -> None:
    alone = Alone()
    alone.locks.restore(Valid(1, 1, block(A).data, b"proof"))
    (sent,) = alone.do(alone.proposing.on_send_proposal, SendProposal(3, NAME, 1)).sends
    assert (sent.message.valid_round, sent.message.proof, sent.message.block) == (1, b"proof", block(A).data)


def test_a_height_begins_when_there_is_something_to_decide() -> None:
    alone = Alone()
    alone.do(alone.proposing.wake)
    assert not alone.rules.is_started
    alone.app.submit([ONE])
    alone.do(alone.proposing.wake)
    assert alone.rules.is_started


# --- judging ---


def test_the_app_is_asked_about_a_block_that_follows_on_the_chain_alone() -> None:
    alone = Alone()
    alone.hears(P[0], proposal(0, A))
    alone.rules.validity[NAME] = None
    assert alone.jobs(alone.do(alone.judging.on_judge, Judge(NAME))) == [ProcessBlock(block(A))]
    assert alone.rules.validity[NAME] is None
    alone.do(alone.judging.processed, Processed(NAME, True))
    alone.do(alone.judging.processed, Processed(block(B).name, True))
    assert alone.rules.validity == {NAME: True}, "of the other one nobody asked"


def test_a_block_that_does_not_follow_is_refused_without_the_app() -> None:
    alone = Alone()
    header = replace(block(A).block.header, version=ConsensusVersion(11, 7))
    wrong = name_block(replace(block(A).block, header=header))
    alone.hears(P[0], proposal_of(wrong))
    alone.rules.validity[wrong.name] = None
    assert alone.do(alone.judging.on_judge, Judge(wrong.name)).jobs == ()
    assert alone.rules.validity == {wrong.name: False}


# --- casting ---


def test_a_vote_is_durable_in_the_turn_that_sends_it() -> None:
    alone = Alone()
    alone.hears(P[0], proposal(0, A))
    turn = alone.do(alone.casting.on_send_vote, SendVote(PREVOTE, 0, NAME))
    own = alone.signed.votes[0, PREVOTE]
    assert (turn.sends, turn.records, turn.early) == ([to(ALL, own)], written(own), ())
    assert own.time_ns > block(A).block.header.time.ns(), "later than its block"
    assert alone.do(alone.casting.on_send_vote, SendVote(PREVOTE, 0, NIL)).sends == (), "which would contradict it"


def test_who_has_no_power_casts_no_vote() -> None:
    alone = Alone()
    committee = alone.chain.committee
    committee.advance([PowerChange(committee.address(ME), 0)])
    committee.advance()
    turn = alone.do(alone.casting.on_send_vote, SendVote(PREVOTE, 0, NIL))
    assert (turn.sends, turn.records) == ((), ())


def test_a_lock_has_the_prevotes_of_a_quorum_and_is_kept_once() -> None:
    alone = Alone()
    alone.hears(P[0], proposal(0, A))
    for node in OTHERS:
        alone.current.open.on_vote(prevote(node, 0, A))
    lock = Locked(1, 0, block(A).data, proof(PREVOTE, 0, A))
    assert alone.do(alone.casting.on_lock, Lock(0, NAME)).records == written(lock)
    assert alone.do(alone.casting.on_keep_valid, KeepValid(0, NAME)).records == (), "it is the lock"
    assert (alone.locks.lock, alone.locks.valid) == (lock, lock)


# --- deciding ---


def test_a_decision_with_its_proof_ends_the_height() -> None:
    alone = Alone()
    alone.do(alone.timeouts.on_set_timeout, SetTimeout(PROPOSE, 0))
    alone.locks.restore(Locked(1, 0, block(B).data, b"proof"))
    turn = alone.do(alone.deciding.on_decision, P[2], decision())
    assert alone.returned is True
    assert turn.records == written(decision())
    assert turn.timers == [Timer((), "propose", None)]
    (asked,) = alone.jobs(turn)
    assert isinstance(asked, FinalizeBlock)
    assert asked.block == block(A)
    assert (alone.current.next, alone.locks.lock, alone.applying.is_busy) == (2, None, True)
    assert alone.do(alone.deciding.on_decision, P[2], decision()).records == (), "while the app works on it"


def test_a_decision_is_not_believed_without_its_proof_nor_taken_while_the_disk_is_full() -> None:
    alone = Alone()
    turn = alone.do(alone.deciding.on_decision, P[2], decision(nodes=OTHERS[:2]))
    assert [(blame.node, blame.why) for blame in turn.blames] == [(P[2], "sent a decision without a proof")]
    assert (alone.returned, turn.records, alone.current.next) == (False, (), 1)
    alone.current.is_stalled = True
    turn = alone.do(alone.deciding.on_decision, P[2], decision())
    assert (alone.returned, turn.records, turn.blames) == (False, (), ())


def test_a_block_that_does_not_follow_is_not_decided_whoever_signed() -> None:
    alone = Alone()
    header = replace(block(A).block.header, version=ConsensusVersion(11, 7))
    wrong = name_block(replace(block(A).block, header=header))
    made = Decision(1, wrong.data, proof_for(PRECOMMIT, 0, wrong))
    turn = alone.do(alone.deciding.on_decision, P[2], made)
    assert ([blame.node for blame in turn.blames], turn.records) == ([P[2]], ())


def test_the_precommits_that_came_here_decide_too() -> None:
    alone = Alone()
    alone.hears(P[0], proposal(0, A))
    for node in OTHERS:
        alone.current.open.on_vote(precommit(node, 0, A))
    assert alone.do(alone.deciding.on_decide, Decide(0, NAME)).records == written(decision())


def test_nothing_is_installed_where_nothing_was_fetched() -> None:
    alone = Alone()
    alone.do(alone.deciding.install, None)
    assert (alone.returned, alone.current.next) == (False, 1)


# --- hearing ---


def test_a_node_speaks_for_itself() -> None:
    alone = Alone()
    turn = alone.do(alone.hearing.on_vote, P[1], prevote(P[0], 0, A))
    assert [(blame.node, blame.why) for blame in turn.blames] == [(P[1], "sent a vote as that of another node")]
    assert alone.rules.heard.votes(0, PREVOTE) == ()


def test_what_is_early_waits_for_its_height_one_of_each_kind() -> None:
    alone = Alone()
    for round in (0, 1):
        alone.do(alone.hearing.on_vote, P[0], prevote(P[0], round, NIL, 2))
    assert alone.hearing.early == {P[0]: {type(prevote(P[0], 1, NIL, 2)): prevote(P[0], 1, NIL, 2)}}
    alone.current.leave(1)
    alone.current.open_next()
    alone.do(alone.hearing.take_early)
    assert alone.rules.heard.votes(1, PREVOTE) == (as_said(prevote(P[0], 1, NIL, 2)),)
    assert alone.hearing.early == {}


def test_no_more_votes_are_passed_on_than_two_rounds_have() -> None:
    alone = Alone()
    votes = (prevote(P[1], 0, NIL),) * (VOTES_A_NODE_MAX * len(ALL) + 1)
    turn = alone.do(alone.hearing.on_votes, P[0], Votes(votes))
    assert [blame.why for blame in turn.blames] == ["passed on more votes than two rounds have"]
    assert alone.rules.heard.votes(0, PREVOTE) == ()
    alone.do(alone.hearing.on_votes, P[0], Votes(votes[1:]))
    assert alone.rules.heard.votes(0, PREVOTE) == (as_said(votes[0]),)


def test_two_votes_of_one_node_are_kept_as_evidence() -> None:
    alone = Alone()
    one, other = (as_said(prevote(P[1], 0, values)) for values in (A, B))
    (blame,) = alone.do(alone.hearing.on_equivocation, Equivocation(one, other)).blames
    assert (blame.node, blame.why) == (P[1], "signed two votes for one round")
    alone.evidence.decided(block(A).block, alone.chain.committee.validators)
    (piece,) = alone.evidence.waiting.values()
    assert piece.vote_a.validator_address == alone.chain.committee.address(P[1])


# --- at each beat ---


def test_a_node_that_waits_says_again_what_it_has() -> None:
    alone = Alone()
    alone.rules.start()
    alone.current.open.on_vote(prevote(P[1], 0, NIL))
    for is_waiting in (False, True, True):
        sends = alone.do(alone.repeating.beat).sends
        votes = [to(PEERS, Votes((prevote(P[1], 0, NIL),)))]
        assert sends == [to(PEERS, Here(1)), *(votes if is_waiting else [])]
    alone.rules.on_timeout(PROPOSE, 0)
    assert alone.do(alone.repeating.beat).sends == [to(PEERS, Here(1))], "it has come further"


def test_a_proposer_that_waits_proposes_again() -> None:
    alone = Alone(P[0])
    alone.signed.restore(proposal(0, A))
    alone.rules.start()
    alone.do(alone.repeating.beat)
    peers = tuple(node for node in ALL if node != P[0])
    assert alone.do(alone.repeating.beat).sends == [to(peers, Here(1)), to(peers, proposal(0, A))]
