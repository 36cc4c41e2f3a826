"""An app that answers by jobs, whenever it likes: heights wait for it, and what it changes holds two heights later."""

from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import Asked, Done, Failed, Job, Turn
from quorate.ledger.comet.blocks import BLOCK
from quorate.ledger.comet.results import ExecTxResult, last_results_hash
from quorate.ledger.comet.validators import key_address
from quorate.ledger.validators import PowerChange
from quorate.parts.log.replicated import Busy, ReadFailed
from quorate.protocols.tendermint.chain_app import Finalized
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.messages import Decision, Precommit, Prevote, Proposal
from quorate.protocols.tendermint.named_blocks import NamedBlock, decode_block, name_block

from tests.protocols.tendermint.jobs_app import CommitBlock, FinalizeBlock, JobsApp, PrepareBlock, ProcessBlock
from tests.protocols.tendermint.one_node import (
    CONFIG,
    KEYRING,
    ME,
    NIL,
    OTHERS,
    OneNode,
    P,
    block,
    precommit,
    prevote,
    proof_for,
    proposal,
    proposal_of,
    said,
    vote_for,
)


class Asking(Tendermint):
    app_class = JobsApp


ALONE = CONFIG.but(powers=tuple(10 if node == ME else 1 for node in range(4)))
"""One node decides by itself."""
TX = (b"any bytes",)
OK = ExecTxResult(data=b"done", gas_used=7)


def node_of(records: Any = (), config: Any = CONFIG, node: int = ME) -> OneNode:
    return OneNode(records, config=config, core=Asking, node=node)


def answered(node: OneNode, job: Job, result: Any) -> Turn:
    return node.step(Done(job.key, result, job.path))


def the_job(turn: Turn, kind: type) -> Job:
    (job,) = [job for job in turn.jobs if isinstance(job.work, kind)]
    return job


def works(turn: Turn) -> list[type]:
    return [type(job.work) for job in turn.jobs]


def to_decision(node: OneNode, turn: Turn) -> Turn:
    """From the question what to propose to the one what comes of the decided block."""
    turn = answered(node, the_job(turn, PrepareBlock), TX)
    return answered(node, the_job(turn, ProcessBlock), True)


def test_a_block_goes_through_four_questions() -> None:
    node = node_of(config=ALONE)
    turn = node.submits(*TX)
    job = the_job(turn, PrepareBlock)
    assert (job.work.txs, job.work.draft.height, job.work.draft.round) == (TX, 1, 0)
    turn = answered(node, job, (b"another", *TX))
    (own,) = [m for m in said(turn) if isinstance(m, Proposal)]
    assert BLOCK.decode(own.block).data.txs == (b"another", *TX), "what the app says"
    job = the_job(turn, ProcessBlock)
    assert job.work.block == decode_block(own.block)
    turn = answered(node, job, True)
    assert [type(m) for m in said(turn)] == [Prevote, Precommit]
    job = the_job(turn, FinalizeBlock)
    assert job.work.block == decode_block(own.block)
    assert node.core.app.pool == {}
    turn = answered(node, job, Finalized((OK, OK), b"the hash"))
    turn = answered(node, the_job(turn, CommitBlock), None)
    assert (node.place, turn.jobs) == ((2, 0, Step.PROPOSE), [])
    state = node.core.chain.state
    assert (state.app_hash, state.last_results_hash) == (b"the hash", last_results_hash([OK, OK]))


def test_no_height_begins_before_the_app_has_the_one_before() -> None:
    node = node_of(config=ALONE)
    finalize = the_job(to_decision(node, node.submits(*TX)), FinalizeBlock)
    turn = node.submits(b"more")
    turn = node.hears((P[0], prevote(P[0], 0, NIL, 2)), (P[1], prevote(P[1], 0, NIL, 2)))
    assert (turn.jobs, said(turn), node.place[0]) == ([], [], 1)
    assert [type(output) for output in node.step(Asked((1,))).outputs] == [ReadFailed]
    commit = the_job(answered(node, finalize, Finalized((OK,), b"")), CommitBlock)
    assert node.place[0] == 1, "nor before it has kept that"
    assert works(answered(node, commit, None)) == [PrepareBlock]
    assert node.place[0] == 2
    assert len(node.core.current.open.rules.heard.votes(0, Step.PREVOTE)) == 2, "what came early is not lost"


def test_what_the_app_does_not_accept_is_prevoted_nil() -> None:
    node = node_of()
    job = the_job(node.hears((P[0], proposal(0, TX))), ProcessBlock)
    assert said(answered(node, job, False)) == [prevote(ME, 0, NIL)]


def test_the_app_is_asked_only_about_blocks_that_follow() -> None:
    node = node_of()
    its = block(TX)
    wrong = name_block(replace(its.block, header=replace(its.block.header, app_hash=bytes(32))))
    turn = node.hears((P[0], proposal_of(wrong)))
    assert (turn.jobs, said(turn)) == ([], [prevote(ME, 0, NIL)])


def test_an_answer_that_comes_too_late_proposes_nothing() -> None:
    node = node_of(node=P[0])
    job = the_job(node.submits(*TX), PrepareBlock)
    node.votes(precommit, 1, NIL, P[1], P[2])
    assert node.place == (1, 1, Step.PROPOSE)
    assert said(answered(node, job, TX)) == []


def test_an_answer_for_an_earlier_round_is_not_taken_for_this_one() -> None:
    node = node_of(node=P[0])
    late = the_job(node.submits(*TX), PrepareBlock)
    job = the_job(node.votes(prevote, 4, NIL, P[1], P[2]), PrepareBlock)
    assert node.place == (1, 4, Step.PROPOSE)
    assert said(answered(node, late, TX)) == []
    assert [type(m) for m in said(answered(node, job, TX))] == [Proposal]


def test_a_job_that_failed_is_asked_again_at_the_next_beat() -> None:
    node = node_of(config=ALONE)
    job = the_job(node.submits(*TX), PrepareBlock)
    assert works(answered(node, job, Failed("the app is away"))) == []
    again = the_job(node.fires("beat"), PrepareBlock)
    assert (again.work, again.key != job.key) == (job.work, True)
    job = the_job(answered(node, the_job(answered(node, again, TX), ProcessBlock), True), FinalizeBlock)
    answered(node, job, Failed("the app is away"))
    assert the_job(node.fires("beat"), FinalizeBlock).work == job.work
    assert works(node.fires("beat")) == [], "once"


def test_questions_about_an_earlier_height_are_not_asked_again() -> None:
    node = node_of()
    job = the_job(node.hears((P[0], proposal(0, TX))), ProcessBlock)
    answered(node, job, Failed("the app is away"))
    its = block((b"other",))
    node.hears((P[0], Decision(1, its.data, proof_for(Step.PRECOMMIT, 0, its))))
    assert works(node.fires("beat")) == []


def test_the_pool_is_bounded() -> None:
    node = node_of(config=CONFIG.but(pending_max=2))
    (busy,) = [output for output in node.submits(b"a", b"b", b"a", b"c").outputs if isinstance(output, Busy)]
    assert (busy.values, list(node.core.app.pool.values())) == ((b"c",), [b"a", b"b"])
    node = node_of(config=CONFIG.but(pending_bytes_max=3))
    assert [o.values for o in node.submits(b"aa", b"bb", b"c").outputs if isinstance(o, Busy)] == [(b"bb",)]


def blocks_of(node: OneNode, heights: int) -> list[NamedBlock]:
    """Decided by others, each the next of this node's chain; the app answers each time that nothing changes."""
    made = []
    for _ in range(heights):
        its, height = next_block(node)
        made.append(its)
        turn = node.hears((P[0], Decision(height, its.data, proof_for(Step.PRECOMMIT, 0, its, OTHERS, height))))
        keep(node, turn, ())
    return made


def next_block(node: OneNode) -> tuple[NamedBlock, int]:
    chain = node.core.chain
    by = next(node for node in OTHERS if chain.committee.has(node))
    return name_block(chain.draft(by, TX)), chain.state.next_height


def keep(node: OneNode, turn: Turn, changes: tuple[PowerChange, ...]) -> None:
    """The app's part after a decision."""
    turn = answered(node, the_job(turn, FinalizeBlock), Finalized((OK,), b"a hash", changes))
    answered(node, the_job(turn, CommitBlock), None)


def test_after_a_restart_the_app_is_told_of_every_block_again() -> None:
    node = node_of()
    made = blocks_of(node, 3)
    again = node_of(list(node.core.checkpoint()))
    turn = again.first
    for its in made:
        assert again.place[0] == 0, "none is open"
        job = the_job(turn, FinalizeBlock)
        assert job.work.block == its
        turn = answered(again, job, Finalized((OK,), b"a hash"))
        turn = answered(again, the_job(turn, CommitBlock), None)
    assert again.place[0] == 4
    assert again.core.chain.state == node.core.chain.state


def test_changes_of_power_hold_two_heights_later() -> None:
    node = node_of()
    its, _ = next_block(node)
    gone = P[2]
    changes = (
        PowerChange(key_address(KEYRING.public(P[0])), 5),
        PowerChange(key_address(KEYRING.public(gone)), 0),
    )
    turn = node.hears((P[0], Decision(1, its.data, proof_for(Step.PRECOMMIT, 0, its))))
    keep(node, turn, changes)
    committee, header = node.core.committee, next_block(node)[0].block.header
    assert (node.place[0], committee.quorum.weights) == (2, dict.fromkeys(range(4), 1))
    assert header.validators_hash == its.block.header.validators_hash != header.next_validators_hash
    blocks_of(node, 1)
    powers = {node: 5 if node == P[0] else 1 for node in range(4) if node != gone}
    assert (node.place[0], committee.quorum.weights) == (3, powers)
    assert committee.validators.validators[0].voting_power == 5
    after = next_block(node)[0].block.header
    assert after.validators_hash == header.next_validators_hash


def test_who_is_no_validator_any_more_follows_and_does_not_vote() -> None:
    node = node_of()
    its, _ = next_block(node)
    turn = node.hears((P[0], Decision(1, its.data, proof_for(Step.PRECOMMIT, 0, its))))
    keep(node, turn, (PowerChange(key_address(KEYRING.public(ME)), 0),))
    blocks_of(node, 1)
    committee = node.core.committee
    assert not committee.has(ME)
    assert node.core.standing().role == "learner"
    its, height = next_block(node)
    proposer = committee.proposer(0)
    turn = node.hears((proposer, proposal_of(its, height=height, node=proposer)))
    turn = answered(node, the_job(turn, ProcessBlock), True)
    assert said(turn) == []
    assert node.core.signed.last is None
    turn = node.hears(*[(n, vote_for(Prevote, n, 0, its, height)) for n in OTHERS])
    assert said(turn) == []
    turn = node.hears(*[(n, vote_for(Precommit, n, 0, its, height)) for n in OTHERS])
    assert works(turn) == [FinalizeBlock], "it decides with the others"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ([PowerChange(bytes(20), 1)], "none of the nodes"),
        ([PowerChange(key_address(KEYRING.public(node)), 0) for node in range(4)], "no validator"),
    ],
)
def test_a_change_that_cannot_be_changes_nothing(changes: list[PowerChange], why: str) -> None:
    committee = node_of().core.committee
    before = committee.validators
    with pytest.raises(ValueError, match=why):
        committee.advance(changes)
    assert committee.validators == before
