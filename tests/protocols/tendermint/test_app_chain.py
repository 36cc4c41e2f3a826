"""A chain that drives an ABCI app: its calls in order, what is durable before which, and what ends the node."""

from base64 import b64encode
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import AppEnded, Failed, Job
from quorate.ledger.comet.abci import request_messages as requests
from quorate.ledger.comet.abci import response_messages as responses
from quorate.ledger.comet.abci.contents import MisbehaviorType, ValidatorUpdate, VotingValidator
from quorate.ledger.comet.params import ABCIParams, BlockParams, ConsensusParams, VersionParams, consensus_hash
from quorate.ledger.comet.results import ExecTxResult
from quorate.ledger.comet.validators import ValidatorKey, key_address
from quorate.machines.abci.kvstore import KVStoreApp, kv_app_hash
from quorate.protocols.tendermint.app_messages import AskApp, Begun, CheckTxs, Outcome, Transactions
from quorate.protocols.tendermint.mempool import BEATS_OF_OTHERS

from tests.protocols.tendermint.one_app_node import ALONE, OneAppNode
from tests.protocols.tendermint.one_node import KEYRING, ME, OTHERS, A, B, prevote, said, told, written

BLOCK_CALLS = ["PrepareProposal", "ProcessProposal", "FinalizeBlock", "Commit"]


def is_for(kind: type) -> Any:
    def holds(job: Job) -> bool:
        return isinstance(job.work, AskApp) and isinstance(job.work.request, kind)

    return holds


def test_a_chain_begins_with_a_block_for_the_hash_of_the_genesis() -> None:
    node = OneAppNode()
    assert node.names() == ["Info", "InitChain", *BLOCK_CALLS]
    begin = node.calls[1]
    assert isinstance(begin, requests.RequestInitChain)
    assert sorted(update.power for update in begin.validators) == [1, 1, 1, 1000]
    (first,) = node.blocks
    assert (first.header.app_hash, first.header.version.app, first.data.txs) == (kv_app_hash(0), 1, ())


def test_a_transaction_is_decided_and_then_its_hash_is() -> None:
    node = OneAppNode()
    node.submits(b"a=1")
    assert [checked.why for checked in node.checked] == [""]
    assert [block.data.txs for block in node.blocks] == [(), (b"a=1",), ()]
    assert [block.header.app_hash for block in node.blocks] == [kv_app_hash(0), kv_app_hash(0), kv_app_hash(1)]
    assert node.names()[2:] == BLOCK_CALLS * 3
    assert [applied.height for applied in node.applied] == [1, 2, 3]
    assert isinstance(node.app, KVStoreApp)
    assert node.app.pairs == {b"a": b"1"}
    finalize = [call for call in node.calls if isinstance(call, requests.RequestFinalizeBlock)][1]
    assert sum(vote.validator.power for vote in finalize.decided_last_commit.votes) == 1003, "who voted for height 1"
    assert (finalize.height, finalize.proposer_address) == (2, node.blocks[1].header.proposer_address)


def test_an_app_whose_hash_changes_with_every_block_has_one_empty_block_a_beat() -> None:
    class HashesHeights(KVStoreApp):
        def finalize_block(self, request: requests.RequestFinalizeBlock) -> responses.ResponseFinalizeBlock:
            return replace(super().finalize_block(request), app_hash=b"%d" % request.height)

    node = OneAppNode(HashesHeights())
    assert len(node.blocks) == 1, "and no more before a beat"
    for beat in range(2, 5):
        node.beats()
        assert len(node.blocks) == beat
    node.submits(b"a=1")
    assert [block.data.txs for block in node.blocks[4:]] == [(b"a=1",), ()], "transactions wait for none"


def test_an_outcome_is_durable_before_the_app_keeps_it() -> None:
    node = OneAppNode(hold=is_for(requests.RequestCommit))
    (turn,) = [turn for turn in node.turns if any(is_for(requests.RequestCommit)(job) for job in turn.jobs)]
    (outcome,) = [record for record in written(turn) if isinstance(record, Outcome)]
    assert outcome.height == 1
    assert node.applied == []


def test_what_the_app_says_of_the_genesis_is_durable() -> None:
    (begun,) = [record for turn in OneAppNode().turns for record in written(turn) if isinstance(record, Begun)]
    assert begun.app_version == 1


# --- restarts ---


def three_blocks() -> OneAppNode:
    node = OneAppNode()
    node.submits(b"a=1")
    assert len(node.blocks) == 3
    return node


def test_an_app_that_is_level_hears_of_nothing_again() -> None:
    node = three_blocks().again()
    assert node.names() == ["Info"]
    assert [applied.height for applied in node.applied] == [1, 2, 3]
    node.submits(b"b=2")
    assert len(node.blocks) == 5


def test_an_app_that_begins_anew_runs_every_block_again() -> None:
    node = three_blocks().again(KVStoreApp())
    assert node.names() == ["Info", "InitChain", *["FinalizeBlock", "Commit"] * 3]
    assert isinstance(node.app, KVStoreApp)
    assert (node.app.height, node.app.pairs) == (3, {b"a": b"1"})
    assert [record for turn in node.turns for record in written(turn) if isinstance(record, Outcome | Begun)] == []


def test_an_app_that_crashed_before_commit_runs_the_last_block_again() -> None:
    node = three_blocks()
    before = KVStoreApp()
    before.height, before.size, before.pairs = 2, 1, {b"a": b"1"}
    again = node.again(before)
    assert again.names() == ["Info", "FinalizeBlock", "Commit"]


def test_a_node_that_crashed_before_the_outcome_was_durable() -> None:
    node = OneAppNode(hold=is_for(requests.RequestFinalizeBlock))
    records = list(node.core.checkpoint())
    assert not any(isinstance(record, Outcome) for record in records)
    again = OneAppNode(KVStoreApp(), records)
    assert again.names()[:4] == ["Info", "InitChain", "FinalizeBlock", "Commit"]
    assert again.applied[0].height == 1


def test_no_height_begins_before_the_app_is_there() -> None:
    node = OneAppNode(hold=lambda job: True)
    node.submits(b"a=1")
    assert [checked.why for checked in node.checked] == ["the app is not ready yet"]
    node.hears(OTHERS[0], Transactions((b"b=1",)))
    assert [type(job.work.request) for job in node.held] == [requests.RequestInfo]
    assert [message for turn in node.turns for message in said(turn)] == []
    node.release()
    assert len(node.blocks) == 1


def test_an_app_that_is_ahead_ends_the_node() -> None:
    ahead = KVStoreApp()
    ahead.height = 4
    with pytest.raises(
        AppEnded, match=r"the app is at height 4, and the engine's blocks end at 3\. What to do: if one"
    ):
        three_blocks().again(ahead)


def test_an_app_with_another_hash_ends_the_node() -> None:
    other = KVStoreApp()
    other.height, other.size = 3, 7
    with pytest.raises(AppEnded, match="height 3 with the hash 0e"):
        three_blocks().again(other)


class Forgetful(KVStoreApp):
    """Answers otherwise each time."""

    def finalize_block(self, request: requests.RequestFinalizeBlock) -> responses.ResponseFinalizeBlock:
        return replace(super().finalize_block(request), app_hash=b"other")


def test_an_app_that_answers_otherwise_the_second_time_ends_the_node() -> None:
    with pytest.raises(AppEnded, match=r"the app ran block 1 again and answers otherwise than at first: app_hash"):
        three_blocks().again(Forgetful())


class Talkative(KVStoreApp):
    """Its texts differ each time, which they may."""

    said = 0

    def finalize_block(self, request: requests.RequestFinalizeBlock) -> responses.ResponseFinalizeBlock:
        answer = super().finalize_block(request)
        self.said += 1
        results = tuple([replace(result, log=f"call {self.said}") for result in answer.tx_results])
        return replace(answer, tx_results=results)


def test_texts_may_differ_and_the_first_ones_stay() -> None:
    first = OneAppNode(Talkative())
    first.submits(b"a=1")
    app = Talkative()
    app.said = 50
    again = first.again(app)
    assert again.core.app.outcomes == first.core.app.outcomes
    assert [applied.answer for applied in again.applied] == [applied.answer for applied in first.applied]


# --- what an app may change ---


class Says(KVStoreApp):
    """A kvstore whose answers to InitChain and FinalizeBlock are changed."""

    def __init__(self, begin: dict[str, Any] | None = None, **finalize: Any) -> None:
        super().__init__()
        self.begin, self.finalize = begin or {}, finalize

    def init_chain(self, request: requests.RequestInitChain) -> responses.ResponseInitChain:
        return replace(super().init_chain(request), **self.begin)

    def finalize_block(self, request: requests.RequestFinalizeBlock) -> responses.ResponseFinalizeBlock:
        return replace(super().finalize_block(request), **self.finalize)


def gone(node: int) -> ValidatorUpdate:
    return ValidatorUpdate(ValidatorKey(KEYRING.public(node)), 0)


def params(**some: Any) -> dict[str, Any]:
    return {"consensus_param_updates": ConsensusParams(**some)}


def test_the_app_changes_the_parameters_of_the_next_block() -> None:
    node = OneAppNode(Says(**params(block=BlockParams(1 << 20, 77), version=VersionParams(9))))
    node.submits(b"a=1")
    first, second = node.blocks[:2]
    assert second.header.consensus_hash == consensus_hash(BlockParams(1 << 20, 77)) != first.header.consensus_hash
    assert (first.header.version.app, second.header.version.app) == (1, 9)
    assert [applied.params.block.max_gas for applied in node.applied][:2] == [-1, 77]
    again = node.again()
    assert again.core.chain.params == node.core.chain.params


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (params(block=BlockParams(0, -1)), "block.max_bytes is 0"),
        (params(abci=ABCIParams(1)), "vote extensions can only begin later: write 2 or more"),
        ({"validator_updates": (ValidatorUpdate(ValidatorKey(bytes(32)), 3),)}, "its key must be that of a node"),
        ({"validator_updates": (gone(0), gone(1), gone(2), gone(3))}, "would leave no validator"),
    ],
)
def test_what_an_app_must_not_change_ends_the_node_before_it_is_kept(change: dict[str, Any], why: str) -> None:
    node = OneAppNode(Says(**change), hold=is_for(requests.RequestFinalizeBlock))
    (job,) = node.held
    with pytest.raises(AppEnded, match=rf"FinalizeBlock of height 1 cannot be: .*{why}.* What to do: mend the app"):
        node.answers(job, node.answer(job))
    assert not any(isinstance(record, Outcome) for turn in node.turns for record in written(turn))


def test_the_app_names_the_validators_of_the_genesis() -> None:
    updates = tuple(
        [ValidatorUpdate(ValidatorKey(KEYRING.public(node)), power) for node, power in ((ME, 7), (OTHERS[0], 1))]
    )
    node = OneAppNode(Says({"validators": updates}))
    assert [v.voting_power for v in node.core.committee.validators.validators] == [7, 1]
    assert len(node.blocks) == 1
    assert node.again().core.chain.state.validators == node.core.chain.state.validators


def test_a_genesis_that_cannot_be_ends_the_node() -> None:
    with pytest.raises(AppEnded, match=r"InitChain cannot be: block\.max_gas is -2"):
        OneAppNode(Says({"consensus_params": ConsensusParams(block=BlockParams(1, -2))}))


def test_an_app_that_says_another_genesis_later_ends_the_node() -> None:
    with pytest.raises(AppEnded, match="says of its genesis what it did not say at first"):
        three_blocks().again(Says({"app_hash": b"another"}))


def test_validators_change_two_heights_later() -> None:
    node = OneAppNode()
    key = b64encode(KEYRING.public(OTHERS[0]))
    node.submits(b"val=ed25519!" + key + b"!3")
    node.submits(b"a=1")
    powers = [sum(v.voting_power for v in applied.validators.validators) for applied in node.applied]
    at = next(i for i, block in enumerate(node.blocks) if block.data.txs)
    assert powers[: at + 4] == [1003] * (at + 2) + [1005] * 2


# --- transactions ---


def test_transactions_are_told_to_the_others_once_the_app_took_them() -> None:
    node = OneAppNode(hold=is_for(requests.RequestPrepareProposal))
    node.submits(b"a=1", b"nonsense", b"b=2")
    assert [(checked.tx, bool(checked.why)) for checked in node.checked] == [
        (b"a=1", False),
        (b"nonsense", True),
        (b"b=2", False),
    ]
    sent = [m for turn in node.turns for m in told(turn, OTHERS[0]) if isinstance(m, Transactions)]
    assert sent == [Transactions((b"a=1", b"b=2"))]


def test_what_another_node_tells_is_checked_and_not_passed_on_at_once() -> None:
    node = OneAppNode(hold=is_for(requests.RequestProcessProposal))
    node.hears(OTHERS[0], Transactions((b"a=1", b"nonsense")))
    assert (node.core.app.mempool.txs, node.checked) == ((b"a=1",), [])
    assert not [m for turn in node.turns for m in told(turn, OTHERS[1]) if isinstance(m, Transactions)]
    beats = [node.beats() for _ in range(BEATS_OF_OTHERS)]
    again = [[m for m in told(turn, OTHERS[1]) if isinstance(m, Transactions)] for turn in beats]
    assert again == [[]] * (BEATS_OF_OTHERS - 1) + [[Transactions((b"a=1",))]], "what has waited for long is told again"


def test_a_transaction_that_was_decided_is_not_taken_again() -> None:
    node = OneAppNode()
    node.submits(b"a=1")
    node.submits(b"a=1")
    assert [checked.why for checked in node.checked] == ["", "tx already exists in cache"]


class Picky(KVStoreApp):
    """Takes no transaction any more once it has seen one in a block."""

    def check_tx(self, request: requests.RequestCheckTx) -> responses.ResponseCheckTx:
        return responses.ResponseCheckTx(7) if self.size else super().check_tx(request)


def test_what_waits_is_checked_again_after_a_block() -> None:
    node = OneAppNode(Picky(), config=ALONE.but(batch_count_max=1))
    node.submits(b"a=1", b"b=2")
    assert len(node.core.app.mempool) == 0
    assert [block.data.txs for block in node.blocks if block.data.txs] == [(b"a=1",)]


def test_the_next_block_waits_for_those_that_are_checked_again() -> None:
    node = OneAppNode(
        hold=lambda job: isinstance(job.work, CheckTxs) and job.work.is_recheck, config=ALONE.but(batch_count_max=2)
    )
    node.submits(b"a=1", b"b=2", b"c=3", b"d=4", b"e=5")
    (job,) = node.held
    assert job.work == CheckTxs((b"c=3", b"d=4"), is_recheck=True)
    node.submits(b"f=6")
    assert [block.data.txs for block in node.blocks if block.data.txs] == [(b"a=1", b"b=2")], (
        "the app has checked f=6 for the next block, and c=3 not yet"
    )
    node.release()
    assert [block.data.txs for block in node.blocks if block.data.txs] == [
        (b"a=1", b"b=2"),
        (b"c=3", b"d=4"),
        (b"e=5", b"f=6"),
    ]


def test_one_that_is_checked_while_a_block_is_applied_comes_into_the_next() -> None:
    node = OneAppNode(hold=is_for(requests.RequestCommit))
    node.submits(b"a=1")
    node.hold = lambda job: isinstance(job.work, CheckTxs)
    node.submits(b"b=2")
    commit, check = node.held
    node.hold = lambda job: False
    node.answers(commit, node.answer(commit))
    node.answers(check, node.answer(check))
    assert [block.data.txs for block in node.blocks if block.data.txs] == [(b"a=1",), (b"b=2",)]


def test_a_check_that_could_not_be_done_is_done_at_the_next_beat() -> None:
    node = OneAppNode(hold=lambda job: isinstance(job.work, CheckTxs))
    node.submits(b"a=1")
    (job,) = node.held
    node.held.clear()
    node.answers(job, Failed("the app is busy"))
    node.hold = lambda job: False
    node.beats()
    assert [checked.why for checked in node.checked] == [""]


def test_a_block_that_is_larger_than_the_parameters_say_is_not_asked_about() -> None:
    node = OneAppNode(Says(**params(block=BlockParams(1 << 17, -1))))
    count = node.names().count("ProcessProposal")
    room = node.core.app.pooling.bytes_max
    node.submits(b"k=" + b"v" * room)
    assert "blocks have room for" in node.checked[-1].why
    assert node.names().count("ProcessProposal") == count


def test_misbehaviour_is_told_to_the_app() -> None:
    node = OneAppNode()
    for values in (A, B):
        node.hears(OTHERS[0], prevote(OTHERS[0], 0, values, 2))
    node.submits(b"a=1")
    kinds = requests.RequestPrepareProposal, requests.RequestProcessProposal, requests.RequestFinalizeBlock
    told_of = [call.misbehavior for call in node.calls if isinstance(call, kinds) and call.height == 3]
    assert len(told_of) == 3
    ((piece,),) = {tuple(pieces) for pieces in told_of}
    assert (piece.type, piece.height, piece.total_voting_power) == (MisbehaviorType.DUPLICATE_VOTE, 2, 1003)
    assert piece.validator == VotingValidator(key_address(KEYRING.public(OTHERS[0])), 1)


def test_a_results_code_decides_whether_a_transaction_may_come_again() -> None:
    class Failing(KVStoreApp):
        def finalize_block(self, request: requests.RequestFinalizeBlock) -> responses.ResponseFinalizeBlock:
            answer = super().finalize_block(request)
            return replace(answer, tx_results=tuple([ExecTxResult(code=5) for _ in request.txs]))

    node = OneAppNode(Failing())
    node.submits(b"a=1")
    node.submits(b"a=1")
    assert [checked.why for checked in node.checked] == ["", ""]


def test_a_proposal_is_made_of_what_the_app_chose() -> None:
    node = OneAppNode(hold=lambda job: is_for(requests.RequestFinalizeBlock)(job) and job.work.request.height == 3)
    node.submits(b"a:1")  # the kvstore writes it otherwise, and so it goes on waiting
    assert node.blocks[1].data.txs == (b"a=1",)
