"""Bytes that CometBFT's own code made (recorded/vectors.go): ours of the same values are the same, both ways."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from quorate.ledger.comet.abci.contents import (
    AppSnapshot,
    CommitInfo,
    ExtendedCommitInfo,
    ExtendedVoteInfo,
    Misbehavior,
    MisbehaviorType,
    ProofOp,
    ProofOps,
    ValidatorUpdate,
    VoteInfo,
    VotingValidator,
)
from quorate.ledger.comet.abci.request_messages import (
    REQUEST,
    CheckTxType,
    Request,
    RequestApplySnapshotChunk,
    RequestCheckTx,
    RequestCommit,
    RequestEcho,
    RequestExtendVote,
    RequestFinalizeBlock,
    RequestFlush,
    RequestInfo,
    RequestInitChain,
    RequestListSnapshots,
    RequestLoadSnapshotChunk,
    RequestOfferSnapshot,
    RequestPrepareProposal,
    RequestProcessProposal,
    RequestQuery,
    RequestVerifyVoteExtension,
)
from quorate.ledger.comet.abci.response_messages import (
    RESPONSE,
    ApplyResult,
    OfferResult,
    ProposalStatus,
    Response,
    ResponseApplySnapshotChunk,
    ResponseCheckTx,
    ResponseCommit,
    ResponseEcho,
    ResponseException,
    ResponseExtendVote,
    ResponseFinalizeBlock,
    ResponseFlush,
    ResponseInfo,
    ResponseInitChain,
    ResponseListSnapshots,
    ResponseLoadSnapshotChunk,
    ResponseOfferSnapshot,
    ResponsePrepareProposal,
    ResponseProcessProposal,
    ResponseQuery,
    ResponseVerifyVoteExtension,
    VerifyStatus,
)
from quorate.ledger.comet.block_ids import NIL, BlockID, PartSetHeader
from quorate.ledger.comet.commits import (
    EXTENDED_COMMIT,
    BlockIDFlag,
    Commit,
    CommitSig,
    ExtendedCommit,
    ExtendedCommitSig,
)
from quorate.ledger.comet.evidence import LIGHT_CLIENT_ATTACK, EvidenceList, evidence_id
from quorate.ledger.comet.headers import ConsensusVersion, Header
from quorate.ledger.comet.params import CONSENSUS_PARAMS, ConsensusParams, Duration, consensus_hash
from quorate.ledger.comet.proto import WireForm
from quorate.ledger.comet.results import APP_EVENT, AppEvent, EventAttribute, ExecTxResult
from quorate.ledger.comet.times import Timestamp
from quorate.ledger.comet.validators import VALIDATOR_SET, ValidatorKey
from quorate.ledger.comet.votes import (
    PRECOMMIT,
    PREVOTE,
    PROPOSAL,
    VOTE,
    Proposal,
    SignedMessageType,
    Vote,
    extension_sign_bytes,
    proposal_sign_bytes,
    vote_sign_bytes,
)

VECTORS = {
    name: bytes.fromhex(data)
    for name, data in json.loads((Path(__file__).with_name("recorded") / "vectors.json").read_text()).items()
}


def ramp(first: int, size: int) -> bytes:
    return bytes((first + i) % 256 for i in range(size))


AT = Timestamp(1_700_000_000, 123_456_789)
HASH, OTHER, ADDRESS, SIGNATURE = ramp(1, 32), ramp(2, 32), ramp(3, 20), ramp(4, 64)
BLOCK_ID = BlockID(HASH, PartSetHeader(300, OTHER))
NEW = Proposal(SignedMessageType.PROPOSAL, 1 << 40, 0, -1, BLOCK_ID, AT, SIGNATURE)
AGAIN = replace(NEW, round=5, pol_round=3)
EXTENDED = Vote(PRECOMMIT, 7, 2, BLOCK_ID, AT, ADDRESS, 9, SIGNATURE, b"more", ramp(5, 64))
PLAIN = replace(EXTENDED, extension=b"", extension_signature=b"", round=0)
NIL_VOTE = replace(PLAIN, block_id=NIL, type=PREVOTE)
COMMIT = ExtendedCommit(
    7,
    2,
    BLOCK_ID,
    (
        ExtendedCommitSig(BlockIDFlag.COMMIT, ADDRESS, AT, SIGNATURE, b"more", ramp(5, 64)),
        ExtendedCommitSig(BlockIDFlag.ABSENT),
    ),
)


def test_votes_and_proposals() -> None:
    for name, form, value in (
        ("proposal", PROPOSAL, AGAIN),
        ("new proposal", PROPOSAL, NEW),
        ("vote", VOTE, EXTENDED),
        ("nil vote", VOTE, NIL_VOTE),
        ("extended commit", EXTENDED_COMMIT, COMMIT),
    ):
        wire: WireForm[Any] = form
        assert wire.encode(value) == VECTORS[name]
        assert wire.decode_exact(VECTORS[name]) == value


def test_sign_bytes() -> None:
    assert proposal_sign_bytes("a-chain", AGAIN) == VECTORS["proposal sign bytes"]
    assert proposal_sign_bytes("a-chain", NEW) == VECTORS["new proposal sign bytes"]
    assert vote_sign_bytes("a-chain", EXTENDED) == VECTORS["vote sign bytes"]
    assert vote_sign_bytes("a-chain", NIL_VOTE) == VECTORS["nil vote sign bytes"]
    assert extension_sign_bytes("a-chain", EXTENDED) == VECTORS["extension sign bytes"]
    assert extension_sign_bytes("a-chain", PLAIN) == VECTORS["no extension sign bytes"]


def test_hashes_and_an_attack_on_a_light_client() -> None:
    members = VALIDATOR_SET.decode_exact(VECTORS["validator set"])
    assert (members.validators[0].voting_power, members.validators[0].proposer_priority) == (77, -12)
    assert members.hash() == VECTORS["validators hash"]
    header = Header(
        version=ConsensusVersion(11, 1 << 50),
        chain_id="a-chain",
        height=9,
        time=AT,
        validators_hash=members.hash(),
        next_validators_hash=OTHER,
        app_hash=b"odd",
        proposer_address=ADDRESS,
    )
    assert header.hash() == VECTORS["header hash"]
    attack = LIGHT_CLIENT_ATTACK.decode_exact(VECTORS["attack"])
    block_id = BlockID(header.hash(), PartSetHeader(1, OTHER))
    signature = CommitSig(BlockIDFlag.COMMIT, members.validators[0].address, AT, SIGNATURE)
    assert attack.conflicting_block.header == header
    assert attack.conflicting_block.commit == Commit(9, 1, block_id, (signature,))
    assert attack.conflicting_block.validator_set == members
    assert (attack.common_height, attack.byzantine_validators) == (8, members.validators)
    assert (attack.total_voting_power, attack.timestamp) == (77, AT)
    assert evidence_id(attack) == VECTORS["attack id"]
    assert EvidenceList((attack, attack)).hash() == VECTORS["evidence hash"]


def test_parameters() -> None:
    assert PARAMS.evidence is not None
    assert PARAMS.evidence.max_age_duration == Duration(90, 5)
    assert PARAMS.abci is not None
    assert PARAMS.abci.vote_extensions_enable_height == 12
    assert PARAMS.block is not None
    assert consensus_hash(PARAMS.block) == VECTORS["consensus hash"]
    assert CONSENSUS_PARAMS.encode(PARAMS) == VECTORS["params"]


PARAMS: ConsensusParams = CONSENSUS_PARAMS.decode_exact(VECTORS["params"])
LIAR = VotingValidator(ADDRESS, 5)
UPDATES = (ValidatorUpdate(ValidatorKey(ramp(6, 32)), 5), ValidatorUpdate(ValidatorKey(ramp(6, 32))))
LAST = CommitInfo(3, (VoteInfo(LIAR, BlockIDFlag.COMMIT), VoteInfo(VotingValidator(), BlockIDFlag.ABSENT)))
WITH_EXTENSIONS = ExtendedCommitInfo(3, (ExtendedVoteInfo(LIAR, b"more", ramp(5, 64), BlockIDFlag.COMMIT),))
BAD = (Misbehavior(MisbehaviorType.DUPLICATE_VOTE, LIAR, 4, AT, 19),)
TXS = (b"a=1", b"", b"b=2")
SNAPSHOT = AppSnapshot(10, 2, 3, HASH, b"meta")
EVENTS = (
    APP_EVENT.encode(AppEvent("moved", (EventAttribute("k", "v", True), EventAttribute("empty")))),
    APP_EVENT.encode(AppEvent()),
)
OPS = ProofOps((ProofOp("simple", b"k", b"d"),))
RESULTS = (ExecTxResult(3, b"d", "l", "i", 9, -1, EVENTS, "c"), ExecTxResult())

REQUESTS: dict[str, Request] = {
    "echo": RequestEcho("hällo"),
    "flush": RequestFlush(),
    "info": RequestInfo("0.38.26", 11, 8, "2.0.0"),
    "init chain": RequestInitChain(AT, "a-chain", PARAMS, UPDATES, b"{}", 1),
    "query": RequestQuery(b"k", "/store", 5, True),
    "check tx": RequestCheckTx(b"a=1", CheckTxType.RECHECK),
    "commit": RequestCommit(),
    "list snapshots": RequestListSnapshots(),
    "offer snapshot": RequestOfferSnapshot(SNAPSHOT, b"app"),
    "load snapshot chunk": RequestLoadSnapshotChunk(10, 2, 1),
    "apply snapshot chunk": RequestApplySnapshotChunk(1, b"chunk", "me"),
    "prepare proposal": RequestPrepareProposal(1 << 20, TXS, WITH_EXTENSIONS, BAD, 7, AT, HASH, ADDRESS),
    "process proposal": RequestProcessProposal(TXS, LAST, BAD, HASH, 7, AT, HASH, ADDRESS),
    "extend vote": RequestExtendVote(HASH, 7, AT, TXS, LAST, BAD, HASH, ADDRESS),
    "verify vote extension": RequestVerifyVoteExtension(HASH, ADDRESS, 7, b"more"),
    "finalize block": RequestFinalizeBlock(TXS, LAST, BAD, HASH, 7, AT, HASH, ADDRESS),
}
RESPONSES: dict[str, Response] = {
    "exception": ResponseException("no"),
    "echo": ResponseEcho("hällo"),
    "flush": ResponseFlush(),
    "info": ResponseInfo("{}", "1", 2, 6, b"app"),
    "init chain": ResponseInitChain(PARAMS, UPDATES, b"app"),
    "query": ResponseQuery(1, "l", "i", -1, b"k", b"v", OPS, 5, "c"),
    "check tx": ResponseCheckTx(1, b"d", "l", "i", 9, 8, EVENTS, "c"),
    "commit": ResponseCommit(4),
    "list snapshots": ResponseListSnapshots((SNAPSHOT, AppSnapshot())),
    "offer snapshot": ResponseOfferSnapshot(OfferResult.REJECT_SENDER),
    "load snapshot chunk": ResponseLoadSnapshotChunk(b"chunk"),
    "apply snapshot chunk": ResponseApplySnapshotChunk(ApplyResult.RETRY, (1, 300), ("you", "")),
    "prepare proposal": ResponsePrepareProposal(TXS),
    "process proposal": ResponseProcessProposal(ProposalStatus.REJECT),
    "extend vote": ResponseExtendVote(b"more"),
    "verify vote extension": ResponseVerifyVoteExtension(VerifyStatus.ACCEPT),
    "finalize block": ResponseFinalizeBlock(EVENTS, RESULTS, UPDATES, PARAMS, b"app"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(name: str) -> None:
    assert REQUEST.encode(REQUESTS[name]) == VECTORS[f"request {name}"]
    assert REQUEST.decode_exact(VECTORS[f"request {name}"]) == REQUESTS[name]


@pytest.mark.parametrize("name", RESPONSES)
def test_responses(name: str) -> None:
    assert RESPONSE.encode(RESPONSES[name]) == VECTORS[f"response {name}"]
    assert RESPONSE.decode_exact(VECTORS[f"response {name}"]) == RESPONSES[name]


def test_every_kind_of_message_has_a_vector() -> None:
    assert {option.of for option in REQUEST.options.values()} == {type(request) for request in REQUESTS.values()}
    assert {option.of for option in RESPONSE.options.values()} == {type(response) for response in RESPONSES.values()}
    tested = {f"request {name}" for name in REQUESTS} | {f"response {name}" for name in RESPONSES}
    assert {name for name in VECTORS if name.startswith(("request", "response"))} == tested
