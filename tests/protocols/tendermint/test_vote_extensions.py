"""Vote extensions of ABCI 0.38 at one node: asked, signed, durable, checked, and given to the next proposer's app."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from quorate.kernel import ROOT, AppEnded, Failed, Record
from quorate.ledger.comet.abci import request_messages as requests
from quorate.ledger.comet.abci import response_messages as responses
from quorate.ledger.comet.commits import ABSENT, COMMIT, FOR_BLOCK
from quorate.ledger.comet.votes import PRECOMMIT, Vote, extension_sign_bytes
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.extensions import EXTENSIONS_BYTES_MAX
from quorate.protocols.tendermint.heard import FAR_ROUNDS
from quorate.protocols.tendermint.messages import (
    EXTENSION_BYTES_MAX,
    NODES_MAX,
    Decision,
    ExtendedDecision,
    ExtendedPrecommit,
    Here,
    Locked,
    Precommit,
    Prevote,
    SignedExtension,
    Votes,
)
from quorate.runtime.codec import Codec, MalformedMessage
from quorate.trials.abci.extending import Attaching

from tests.protocols.tendermint.extended_node import EXTEND, PREPARE, VERIFY, ExtendedNode, asks
from tests.protocols.tendermint.one_app_node import ALONE
from tests.protocols.tendermint.one_node import KEYRING, ME, NIL, OTHERS, A, OneNode, blames, precommit, told, written

MAX = EXTENSIONS_BYTES_MAX // 4


def addresses(node: ExtendedNode) -> dict[int, bytes]:
    return {each: node.core.committee.address(each) for each in range(4)}


# --- its own votes ---


def test_a_precommit_for_a_block_waits_for_the_app_and_is_signed_with_what_it_says() -> None:
    node = ExtendedNode(hold=asks(EXTEND))
    its = node.block(b"a=1")
    node.locks(its)
    assert node.sent() == []
    assert len(node.kept(Locked)) == 1, "the lock does not wait"
    (job,) = node.held
    request = job.work.request
    header = its.block.header
    assert (request.hash, request.height, request.txs) == (header.hash(), 1, (b"a=1",))
    assert (request.time, request.proposer_address) == (header.time, header.proposer_address)
    assert request.next_validators_hash == header.next_validators_hash
    node.release()
    (vote,) = node.sent()
    assert isinstance(vote, ExtendedPrecommit)
    assert (vote.value, vote.extension) == (its.name, b"1/00000001")
    comet = Vote(PRECOMMIT, 1, 0, extension=vote.extension)
    data = extension_sign_bytes(node.core.chain.id, comet)
    assert KEYRING.verify_canonical(KEYRING.public(ME), data, vote.extension_signature)
    (turn,) = [turn for turn in node.turns if any(send.message == vote for send in turn.sends)]
    assert vote in [record.value for record in turn.records], "it leaves when it is durable"
    assert node.asked(VERIFY) == [], "the app is not asked about its own"


def test_a_precommit_for_nil_has_none() -> None:
    node = ExtendedNode()
    its = node.block(b"a=1")
    sender, proposal = node.proposal(its)
    node.hears(sender, proposal)
    for other in OTHERS:
        node.hears(other, node.vote(Prevote, other, NIL))
    assert [type(vote) for vote in node.sent()] == [Precommit]
    assert node.sent()[0].value is None
    assert node.asked(EXTEND) == []


def test_what_was_signed_is_said_again_after_a_crash_and_the_app_is_not_asked() -> None:
    node = ExtendedNode()
    its = node.block(b"a=1")
    node.locks(its)
    (vote,) = node.sent()
    again = node.reborn()
    assert again.core.signed.votes == node.core.signed.votes
    again.beats()
    again.beats()
    told = [m for turn in again.turns for send in turn.sends if isinstance(m := send.message, Votes)]
    assert [one for one in told[0].votes if isinstance(one, Precommit)] == [vote]
    sender, proposal = again.proposal(its)
    again.hears(sender, proposal)
    for other in OTHERS[:2]:
        again.hears(other, again.vote(Prevote, other, its))
    assert again.asked(EXTEND) == []
    assert set(again.sent()) <= {vote}


def test_what_was_not_signed_is_asked_again_after_a_crash() -> None:
    node = ExtendedNode(hold=asks(EXTEND))
    its = node.block(b"a=1")
    node.locks(its)
    again = node.reborn()
    again.locks(its)
    assert len(again.asked(EXTEND)) == 1
    assert len(again.sent()) == 1


def test_a_precommit_that_waited_until_the_round_was_over_is_sent_all_the_same() -> None:
    node = ExtendedNode(hold=asks(EXTEND))
    its = node.block(b"a=1")
    node.locks(its)
    for other in OTHERS:
        node.hears(other, node.vote(Prevote, other, NIL, 1))
    assert node.node.place[1] == 1
    node.release()
    assert [(vote.round, vote.value) for vote in node.sent()] == [(0, its.name)]


def test_but_not_once_something_later_was_signed() -> None:
    node = ExtendedNode(hold=asks(EXTEND))
    its = node.block(b"a=1")
    node.locks(its)
    for other in OTHERS:
        node.hears(other, node.vote(Prevote, other, NIL, 1))
    node._run(node.node.fires("propose"))
    assert [vote.round for vote in node.sent(Prevote) if type(vote) is Prevote] == [0, 1]
    node.release()
    assert [vote.value for vote in node.sent()] == [None], "in round 1"


def test_an_answer_for_a_height_that_is_over_signs_nothing() -> None:
    node = ExtendedNode(hold=asks(EXTEND))
    its = node.block(b"a=1")
    node.locks(its)
    node.hold = lambda job: True
    node.hears(OTHERS[0], node.decision(its))
    assert node.height == 2
    node.release()
    assert node.sent() == []


def test_what_could_not_be_asked_is_asked_again_while_the_height_is_open() -> None:
    node = ExtendedNode(hold=asks(EXTEND))
    its = node.block(b"a=1")
    node.locks(its)
    (job,) = node.held
    node.held.clear()
    node.answers(job, Failed("the app is busy"))
    node.beats()
    (again,) = node.held
    assert again.work == job.work
    node.held.clear()
    node.hold = asks(requests.RequestCommit)
    node.hears(OTHERS[0], node.decision(its))
    node.answers(again, Failed("the app is busy"))
    node.release()
    assert node.height == 2
    node.beats()
    assert node.asked(EXTEND) == []


def test_a_crash_after_each_write() -> None:
    node = ExtendedNode()
    its = node.block(b"a=1")
    node.locks(its)
    for other in OTHERS[:2]:
        node.hears(other, node.extended(other, its))
    (vote,) = node.sent()
    writes = [written(turn) for turn in node.turns if turn.records]
    kinds = [type(record) for records in writes for record in records]
    assert kinds.count(ExtendedPrecommit) == kinds.count(ExtendedDecision) == 1
    for count in range(1, len(writes)):  # the first says that the chain has begun
        records = [record for records in writes[:count] for record in records]
        again = node.reborn(records)
        if again.height == 1:
            again.locks(its)
            was_signed = vote in records
            assert len(again.asked(EXTEND)) == (not was_signed)
            assert [one.value for one in again.sent()] == ([] if was_signed else [its.name])
            again.hears(OTHERS[0], again.decision(its))
        assert again.height == 2
        assert again.core.app.last_extensions.find()


class TooMuch(Attaching):
    """Says more than there is room for."""

    def extend_vote(self, request: requests.RequestExtendVote) -> responses.ResponseExtendVote:
        return responses.ResponseExtendVote(bytes(MAX + 1))


def test_an_app_that_says_too_much_ends_its_node() -> None:
    node = ExtendedNode(TooMuch())
    its = node.block(b"a=1")
    with pytest.raises(AppEnded, match=rf"at height 1 has {MAX + 1} bytes: .* it may have {MAX}\. What to do"):
        node.locks(its)


# --- votes of others ---


def test_another_ones_precommit_counts_when_the_app_has_accepted_its_extension() -> None:
    node = ExtendedNode(hold=asks(VERIFY))
    its = node.block(b"a=1")
    node.locks(its)
    one, two = OTHERS[:2]
    for other in (one, two):
        node.hears(other, node.extended(other, its))
        node.hears(other, node.extended(other, its))  # once more
    assert node.height == 1
    first = node.held[0].work.request
    assert first == VERIFY(its.id.hash, addresses(node)[one], 1, b"1/%08x" % (1000 + one))
    assert len(node.held) == 2
    node.release()
    assert node.height == 2
    (kept,) = node.kept(ExtendedDecision)
    commit = COMMIT.decode(kept.commit)
    assert [said is not None for said in kept.extensions] == [
        entry.block_id_flag == FOR_BLOCK for entry in commit.signatures
    ]
    assert sorted(entry.block_id_flag for entry in commit.signatures) == [ABSENT, *[FOR_BLOCK] * 3]
    assert node.blamed() == []


def test_one_that_the_app_rejects_does_not_count_and_is_not_asked_about_again() -> None:
    node = ExtendedNode()
    its = node.block(b"a=1")
    node.locks(its)
    one, two = OTHERS[:2]
    bad = node.extended(one, its, b"7/00000000")
    node.hears(one, bad)
    node.hears(one, bad)
    node.hears(one, node.extended(one, its))
    assert node.blamed() == [(one, "sent an extension that the app rejects")]
    assert len(node.asked(VERIFY)) == 1
    node.hears(two, node.extended(two, its))
    assert node.height == 1, "two of four are no quorum"
    node.hears(OTHERS[2], node.extended(OTHERS[2], its))
    assert node.height == 2


def test_a_rejected_one_still_shows_that_its_node_contradicts_itself() -> None:
    node = ExtendedNode()
    its, other_block = node.block(b"a=1"), node.block(b"b=1")
    node.locks(its)
    one = OTHERS[0]
    node.hears(one, node.extended(one, its, b"7/00000000"))
    node.hears(one, node.extended(one, other_block))
    node.hears(one, node.extended(one, other_block))
    assert [why for _, why in node.blamed()] == [
        "sent an extension that the app rejects",
        "signed two votes for one round",
    ]
    assert len(node.asked(VERIFY)) == 1


def test_so_does_one_that_waits_and_one_that_counts() -> None:
    node = ExtendedNode(hold=asks(VERIFY))
    its = node.block(b"a=1")
    node.locks(its)
    one, two = OTHERS[:2]
    node.hears(one, node.extended(one, its))
    node.hears(one, node.vote(Precommit, one, NIL))
    node.release()
    assert node.blamed() == [(one, "signed two votes for one round")]
    node.hears(two, node.extended(two, its))
    node.hears(two, node.vote(Precommit, two, NIL))
    assert node.blamed()[1:] == [(two, "signed two votes for one round")]


def test_another_block_after_one_that_counts_is_a_contradiction_and_no_question() -> None:
    node = ExtendedNode()
    its, other_block = node.block(b"a=1"), node.block(b"b=1")
    node.locks(its)
    one = OTHERS[0]
    node.hears(one, node.extended(one, its))
    node.hears(one, node.extended(one, other_block))
    assert node.blamed() == [(one, "signed two votes for one round")]
    assert [call.hash for call in node.asked(VERIFY)] == [its.id.hash]


def test_a_copy_of_one_that_waits_costs_no_signature() -> None:
    node = ExtendedNode(hold=asks(VERIFY))
    its = node.block(b"a=1")
    node.locks(its)
    one = node.extended(OTHERS[0], its)
    node.hears(OTHERS[0], one)
    node.hears(OTHERS[0], replace(one, signature=bytes(64)))
    assert node.blamed() == []


def test_nothing_is_asked_of_votes_that_come_with_the_decision() -> None:
    node = ExtendedNode()
    its = node.block(b"a=1")
    node.locks(its)
    vote, decision = node.extended(OTHERS[0], its), node.decision(its)
    node._run(node.node.hears((OTHERS[0], vote), (OTHERS[1], decision)))
    assert node.height == 2
    assert node.asked(VERIFY) == []


def test_an_answer_about_a_vote_of_a_height_that_is_over_is_for_nobody() -> None:
    node = ExtendedNode(hold=asks(VERIFY))
    its = node.block(b"a=1")
    node.locks(its)
    node.hears(OTHERS[0], node.extended(OTHERS[0], its))
    (job,) = node.held
    node.hears(OTHERS[1], node.decision(its))
    node.answers(job, responses.ResponseVerifyVoteExtension(responses.VerifyStatus.REJECT))
    assert (node.core.current.open.number, node.blamed()) == (2, [])


def test_a_node_without_power_asks_about_votes_and_casts_none() -> None:
    node = ExtendedNode()
    key = b64encode(KEYRING.public(ME))
    node.hears(OTHERS[0], node.decision(node.block(b"val=ed25519!" + key + b"!0")))
    for i in range(2):
        node.hears(OTHERS[0], node.decision(node.block(b"k%d=1" % i)))
    assert not node.core.committee.has(ME)
    its = node.block(b"a=1")
    node.locks(its)
    for other in OTHERS:
        node.hears(other, node.extended(other, its))
    assert (node.height, node.sent(), node.asked(EXTEND)) == (5, [], [])
    assert len(node.asked(VERIFY)) == 3


def test_the_app_is_not_asked_about_a_node_without_power() -> None:
    node = ExtendedNode()
    gone = OTHERS[2]
    key = b64encode(KEYRING.public(gone))
    node.hears(OTHERS[0], node.decision(node.block(b"val=ed25519!" + key + b"!0")))
    node.hears(OTHERS[0], node.decision(node.block(b"a=1")))
    assert not node.core.committee.has(gone)
    node.hears(gone, node.extended(gone, node.block(b"b=1", by=OTHERS[0])))
    assert (node.asked(VERIFY), node.blamed()) == ([], [])


def test_a_node_that_floods_waits_for_its_own_answers() -> None:
    node = ExtendedNode(hold=asks(VERIFY))
    its = node.block(b"a=1")
    node.locks(its)
    liar, other = OTHERS[:2]
    for round in range(100):
        node.hears(liar, node.extended(liar, its, round=round))
    node.hears(other, node.extended(other, its))
    assert [job.work.request.validator_address for job in node.held] == [
        addresses(node)[liar],
        addresses(node)[other],
    ]
    node.release()
    assert len(node.asked(VERIFY)) == FAR_ROUNDS + 2, "one for each round that is near, and one more node"
    assert node.core.current.open.rules.round == 0


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda n, its: n.vote(Precommit, OTHERS[0], its), "sent a precommit without an extension"),
        (lambda n, its: n.extended(OTHERS[0], NIL), "sent an extension of a vote for nothing"),
        (lambda n, its: n.extended(OTHERS[0], its, bytes(MAX + 1)), "sent an extension that is too large"),
        (lambda n, its: n.extended(OTHERS[0], its, signer=OTHERS[1]), "sent an extension that its node did not sign"),
        (
            lambda n, its: replace(n.extended(OTHERS[0], its), extension=b"1/00000007"),
            "sent an extension that its node did not sign",
        ),
        (
            lambda n, its: replace(n.extended(OTHERS[0], its), signature=bytes(64)),
            "sent a vote that its node did not sign",
        ),
    ],
)
def test_what_no_correct_node_sends_is_blamed_before_the_app_hears_of_it(make: Any, why: str) -> None:
    node = ExtendedNode()
    its = node.block(b"a=1")
    node.locks(its)
    bad = make(node, its)
    node.hears(OTHERS[0], bad)
    node.hears(OTHERS[2], Votes((bad,)))
    assert node.blamed() == [(OTHERS[0], why), (OTHERS[2], why)]
    assert node.asked(VERIFY) == []
    assert node.core.current.open.rules.heard.vote_of(OTHERS[0], 0, 3) is None  # type: ignore[arg-type]


def test_an_extension_before_they_are_enabled_is_blamed() -> None:
    node = ExtendedNode(Attaching(enabled=9))
    its = node.block(b"a=1")
    node.locks(its)
    node.hears(OTHERS[0], node.extended(OTHERS[0], its))
    node.hears(OTHERS[1], node.decision(its))
    assert node.blamed() == [
        (OTHERS[0], "sent an extension, and votes of this height have none"),
        (OTHERS[1], "sent a decision without a proof"),
    ]
    assert [type(vote) for vote in node.sent()] == [Precommit]


# --- decisions, and who proposes next ---


def broken(node: ExtendedNode, made: ExtendedDecision, what: str) -> Decision:
    first = next(i for i, said in enumerate(made.extensions) if said is not None)
    said = list(made.extensions)
    one = said[first]
    assert one is not None
    match what:
        case "plain":
            return Decision(made.height, made.block, made.commit)
        case "one is missing":
            said[first] = None
        case "one too many":
            said[said.index(None)] = one
        case "too few":
            said.pop(said.index(None))
        case "not signed":
            said[first] = replace(one, extension=b"1/00000009")
        case "too large":
            plain = bytes(MAX + 1)
            signer = node.core.committee.nodes[first]
            said[first] = SignedExtension(plain, node.extended(signer, NIL, plain).extension_signature)
    return replace(made, extensions=tuple(said))


@pytest.mark.parametrize("what", ["plain", "one is missing", "one too many", "too few", "not signed", "too large"])
def test_a_decision_is_believed_with_the_extensions_of_its_votes_alone(what: str) -> None:
    node = ExtendedNode()
    its = node.block(b"a=1")
    right = node.decision(its)
    node.hears(OTHERS[1], broken(node, right, what))
    assert (node.height, node.blamed()) == (1, [(OTHERS[1], "sent a decision without a proof")])
    node.hears(OTHERS[2], right)
    assert node.height == 2
    assert node.kept(Decision) == [right]
    assert node.asked(VERIFY) == [], "the app is not asked about what is decided"


def until_it_proposes(node: ExtendedNode) -> list[Any]:
    """It is told of decisions until it is the proposer of the next height, and has something to propose."""
    for i in range(8):
        if node.core.committee.proposer(0) == ME:
            break
        node.hears(OTHERS[0], node.decision(node.block(b"k%d=1" % i)))
    node.submits(b"mine=1")
    return node.asked(PREPARE)


def test_a_proposer_that_was_told_of_the_decision_gives_its_extensions_to_the_app() -> None:
    node = ExtendedNode()
    (request,) = until_it_proposes(node)
    decision = node.core.log.decisions[-1]
    assert isinstance(decision, ExtendedDecision)
    its = [(vote.vote_extension, vote.extension_signature) for vote in request.local_last_commit.votes]
    expected = [(b"", b"") if said is None else (said.extension, said.signature) for said in decision.extensions]
    assert its == expected
    assert sorted(vote.block_id_flag for vote in request.local_last_commit.votes) == [ABSENT, *[FOR_BLOCK] * 3]
    (proposal,) = [m for turn in node.turns for send in turn.sends if type(m := send.message).__name__ == "Proposal"]
    assert b"/000" not in proposal.block, "a block has no extensions"


def about_to_propose() -> ExtendedNode:
    """Its app was asked, and has not answered."""
    node = ExtendedNode(hold=asks(PREPARE))
    until_it_proposes(node)
    assert len(node.held) == 1
    return node


def test_so_does_one_that_was_started_again() -> None:
    (request,) = until_it_proposes(about_to_propose().reborn())
    assert sum(bool(vote.vote_extension) for vote in request.local_last_commit.votes) == 3


def test_a_proposer_that_lacks_them_proposes_nothing() -> None:
    node = about_to_propose()
    last = node.core.log.decisions[-1]
    plain = Decision(last.height, last.block, last.commit)  # all that a snapshot from others would bring
    again = node.reborn([plain if record is last else record for record in node.core.checkpoint()])
    assert until_it_proposes(again) == []
    assert len(again.core.app.mempool) == 1
    again.hears(OTHERS[0], again.decision(again.block(b"other=1", by=OTHERS[0])))
    assert again.core.app.has_something, "from the next height on it is as the others"


# --- when they begin ---


def test_they_begin_at_the_height_that_the_app_has_named() -> None:
    node = ExtendedNode(Attaching(enabled=4, told_at=2), config=ALONE)
    for i in range(3):
        node.submits(b"a%d=1" % i)
    kinds = [type(decision) for decision in node.core.log.decisions]
    assert kinds[:5] == [Decision, Decision, Decision, ExtendedDecision, ExtendedDecision]
    by_height = {call.height: call.local_last_commit.votes for call in node.asked(PREPARE)}
    assert [sum(bool(vote.vote_extension) for vote in by_height[height]) for height in (2, 3, 4, 5)] == [0, 0, 0, 1]
    assert [applied.params.abci.vote_extensions_enable_height for applied in node.applied][:4] == [0, 0, 4, 4]


def test_they_cannot_be_turned_off() -> None:
    class Off(Attaching):
        def finalize_block(self, request: requests.RequestFinalizeBlock) -> responses.ResponseFinalizeBlock:
            self.enabled = 0
            return super().finalize_block(request)

    app = Off()
    node = ExtendedNode(app, config=ALONE)
    app.told_at = 2
    with pytest.raises(AppEnded, match=r"FinalizeBlock of height 2 cannot be: .* on since height 1, and stay on"):
        node.submits(b"a=1")


# --- bytes ---


def test_votes_and_decisions_without_extensions_travel_as_before() -> None:
    plain = Precommit(3, 2, bytes(68), 1, 7, bytes(64))
    encode = msgspec.msgpack.encode
    assert encode(Votes((plain,))) == (
        b"\x92\xa5Votes\x91\x97\xa9Precommit\x03\x02\xc4\x44" + bytes(68) + b"\x01\x07\xc4\x40" + bytes(64)
    )
    assert encode(Decision(3, b"b", b"c")) == b"\x94\xa8Decision\x03\xc4\x01b\xc4\x01c"


def test_they_are_decoded_within_bounds() -> None:
    codec, bytes_ = Codec(AppChain), bytes(64)
    vote = ExtendedPrecommit(3, 2, bytes(68), 1, 7, bytes_, b"more", bytes_)
    decision = ExtendedDecision(3, b"b", b"c", (None, SignedExtension(b"more", bytes_)))
    for message in (vote, decision, Votes((vote,))):
        assert codec.decode_message(codec.encode_message(ROOT, message)) == (ROOT, message)
    for record in (vote, decision):
        assert codec.decode_records(codec.encode_records([Record(ROOT, record)])) == [Record(ROOT, record)]
    for wrong in (
        replace(vote, extension=bytes(EXTENSION_BYTES_MAX + 1)),
        replace(vote, extension_signature=b""),
        replace(decision, extensions=(SignedExtension(b"", bytes(63)),)),
        replace(decision, extensions=(None,) * (NODES_MAX + 1)),
    ):
        with pytest.raises(MalformedMessage):
            codec.decode_message(codec.encode_message(ROOT, wrong))


def test_a_chain_without_an_app_knows_them_as_wrong_votes_only() -> None:
    node = OneNode()
    signed = precommit(OTHERS[0], 0, A)
    fields = (signed.height, signed.round, signed.value, signed.node, signed.time_ns, signed.signature)
    turn = node.hears((OTHERS[1], Votes((ExtendedPrecommit(*fields, b"", bytes(64)),))))
    assert blames(turn) == [(OTHERS[1], "sent an extension, and votes of this height have none")]


def test_a_node_that_is_behind_is_not_sent_more_than_fits() -> None:
    node = ExtendedNode(hold=asks(PREPARE))
    large = b"1/" + bytes(MAX - 2)
    for _ in range(3):
        its = node.block(b"a%d=1" % node.height)
        node.hears(OTHERS[0], node.decision(its, extension=large))
    turn = node.hears(OTHERS[1], Here(1))
    assert [m.height for m in told(turn, OTHERS[1])] == [1]
    turn = node.hears(OTHERS[2], Here(3))
    assert [m.height for m in told(turn, OTHERS[2])] == [3]


class Large(Attaching):
    """Its extensions are as large as they may be, and it takes any."""

    def extend_vote(self, request: requests.RequestExtendVote) -> responses.ResponseExtendVote:
        return responses.ResponseExtendVote(bytes(MAX))

    def verify_vote_extension(
        self, request: requests.RequestVerifyVoteExtension
    ) -> responses.ResponseVerifyVoteExtension:
        return responses.ResponseVerifyVoteExtension(responses.VerifyStatus.ACCEPT)


def test_votes_with_large_extensions_are_passed_on_in_portions() -> None:
    node = ExtendedNode(Large())
    its = node.block(b"a=1")
    node.locks(its)
    node.hears(OTHERS[0], node.extended(OTHERS[0], its, bytes(MAX)))
    node.beats()
    node.turns.clear()
    node.beats()
    told = [m for turn in node.turns for send in turn.sends if isinstance(m := send.message, Votes)]
    assert sum(len(votes.votes) for votes in told) == 5
    assert [sum(isinstance(vote, ExtendedPrecommit) for vote in votes.votes) for votes in told] == [1, 1]
