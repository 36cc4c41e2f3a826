"""Structures by themselves: what is none is refused in words, in bytes and in JSON; times; part sets."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from quorate.ledger.comet.block_ids import BLOCK_ID, NIL, BlockID, PartSetHeader
from quorate.ledger.comet.blocks import BLOCK, Block
from quorate.ledger.comet.commits import (
    ABSENT,
    COMMIT,
    COMMIT_SIG,
    EXTENDED_COMMIT,
    EXTENDED_COMMIT_SIG,
    FOR_BLOCK,
    FOR_NIL,
    BlockIDFlag,
    Commit,
    CommitSig,
    ExtendedCommitSig,
    block_time,
)
from quorate.ledger.comet.headers import HEADER, ConsensusVersion, Header
from quorate.ledger.comet.json_shapes import of_json, to_json
from quorate.ledger.comet.light_blocks import SIGNED_HEADER
from quorate.ledger.comet.params import CONSENSUS_PARAMS, DURATION, Duration
from quorate.ledger.comet.part_sets import PART, PART_BYTES, PartSet, parts_of, split
from quorate.ledger.comet.proto import WireForm
from quorate.ledger.comet.results import EXEC_TX_RESULT, ExecTxResult, last_results_hash
from quorate.ledger.comet.times import SECONDS_MAX, SECONDS_MIN, TIMESTAMP, ZERO_TIME, Timestamp, weighted_median
from quorate.ledger.comet.validators import VALIDATOR, VALIDATOR_SET, CometValidatorSet, ValidatorKey
from quorate.ledger.comet.votes import PRECOMMIT, PREVOTE, PROPOSAL, VOTE, Proposal, SignedMessageType, Vote

from tests.ledger.comet import chain, making

SET = making.validators({1: 10, 2: 5})
BLOCK_OF_TEST = BlockID(making.HASH, PartSetHeader(1, making.HASH))
ADDRESS, SIGNATURE = SET.validators[0].address, bytes(64)
PRECOMMITTED = Vote(PRECOMMIT, 7, 0, BLOCK_OF_TEST, making.START, ADDRESS, 0, SIGNATURE)
PROPOSED = Proposal(SignedMessageType.PROPOSAL, 7, 2, 1, BLOCK_OF_TEST, making.START, SIGNATURE)
SIGNED = CommitSig(FOR_BLOCK, ADDRESS, making.START, SIGNATURE)
EXTENDED = ExtendedCommitSig(FOR_BLOCK, ADDRESS, making.START, SIGNATURE, b"x", SIGNATURE)
COMMITTED = Commit(7, 0, BLOCK_OF_TEST, (SIGNED,))
HEAD = making.header(7, SET, SET)
VALIDATOR_1 = SET.validators[0]

Case = tuple[Any, Any, str]
NONE: list[Case] = [
    (VOTE, replace(PRECOMMITTED, type=SignedMessageType.PROPOSAL), "neither prevote nor precommit"),
    (VOTE, replace(PRECOMMITTED, height=0), "height 0"),
    (VOTE, replace(PRECOMMITTED, round=-1), "round -1"),
    (VOTE, replace(PRECOMMITTED, validator_index=-1), "validator -1"),
    (VOTE, replace(PRECOMMITTED, block_id=BlockID(making.HASH)), "neither nil nor complete"),
    (VOTE, replace(PRECOMMITTED, validator_address=b"x"), "an address of 1 bytes, not 20"),
    (VOTE, replace(PRECOMMITTED, signature=b""), "a signature of 0 bytes, not 64"),
    (VOTE, replace(PRECOMMITTED, extension=b"x"), "an extension without a signature"),
    (VOTE, replace(PRECOMMITTED, extension_signature=b"x"), "extension: a signature of 1 bytes"),
    (VOTE, replace(PRECOMMITTED, type=PREVOTE, extension=b"x"), "only a precommit for a block has an extension"),
    (VOTE, replace(PRECOMMITTED, block_id=NIL, extension_signature=SIGNATURE), "only a precommit for a block"),
    (VOTE, replace(PRECOMMITTED, timestamp=Timestamp(SECONDS_MAX + 1)), "Vote.timestamp: .* are not a time"),
    (PROPOSAL, replace(PROPOSED, type=PREVOTE), "proposal: type 1"),
    (PROPOSAL, replace(PROPOSED, height=0), "height 0"),
    (PROPOSAL, replace(PROPOSED, pol_round=2), "of round 2"),
    (PROPOSAL, replace(PROPOSED, pol_round=-2), "of round -2"),
    (PROPOSAL, replace(PROPOSED, round=0, pol_round=0), "of round 0"),
    (PROPOSAL, replace(PROPOSED, block_id=NIL), "not complete"),
    (PROPOSAL, replace(PROPOSED, signature=bytes(63)), "a signature of 63 bytes"),
    (COMMIT_SIG, replace(SIGNED, block_id_flag=BlockIDFlag.UNKNOWN), "without a flag"),
    (COMMIT_SIG, replace(SIGNED, block_id_flag=ABSENT), "an absent validator has"),
    (COMMIT_SIG, CommitSig(ABSENT, timestamp=making.START), "an absent validator has"),
    (COMMIT_SIG, replace(SIGNED, validator_address=b""), "an address of 0 bytes"),
    (COMMIT_SIG, replace(SIGNED, signature=b"x"), "a signature of 1 bytes"),
    (EXTENDED_COMMIT_SIG, replace(EXTENDED, block_id_flag=FOR_NIL), "only a precommit for the block"),
    (EXTENDED_COMMIT_SIG, replace(EXTENDED, extension_signature=b""), "an extension without a signature"),
    (EXTENDED_COMMIT_SIG, replace(EXTENDED, extension_signature=b"x"), "extension: a signature of 1 bytes"),
    (COMMIT, replace(COMMITTED, height=-1), "commit: height -1"),
    (COMMIT, replace(COMMITTED, round=-1), "round -1"),
    (COMMIT, replace(COMMITTED, block_id=NIL), "commit: no block"),
    (COMMIT, replace(COMMITTED, signatures=()), "commit: no signatures"),
    (
        COMMIT,
        replace(COMMITTED, signatures=(replace(SIGNED, signature=b""),)),
        "Commit.signatures: commit: a signature",
    ),
    (HEADER, replace(HEAD, version=ConsensusVersion(12)), "block protocol 12, not 11"),
    (HEADER, replace(HEAD, height=0), "height 0"),
    (HEADER, replace(HEAD, chain_id="x" * 51), "Header.chain_id: 51 bytes, at most 50"),
    (HEADER, replace(HEAD, data_hash=b"short"), "data_hash: 5 bytes, not 32"),
    (HEADER, replace(HEAD, validators_hash=bytes(31)), "validators_hash: 31 bytes"),
    (HEADER, replace(HEAD, proposer_address=b""), "an address of 0 bytes"),
    (HEADER, replace(HEAD, last_block_id=BlockID(b"x")), "hash of a block: 1 bytes"),
    (BLOCK_ID, BlockID(b"", PartSetHeader(1, b"x")), "hash of parts: 1 bytes"),
    (VALIDATOR, replace(VALIDATOR_1, voting_power=-1), "power -1"),
    (VALIDATOR, replace(VALIDATOR_1, address=bytes(20)), "is not the address of its key"),
    (VALIDATOR, replace(VALIDATOR_1, pub_key=ValidatorKey(b"x")), "an Ed25519 key of 1 bytes"),
    (VALIDATOR, replace(VALIDATOR_1, pub_key=ValidatorKey(mldsa65=b"x")), "a key of ML-DSA-65"),
    (VALIDATOR_SET, CometValidatorSet(), "there are none"),
    (VALIDATOR_SET, replace(SET, validators=(VALIDATOR_1,) * 2), "a validator is in it twice"),
    (VALIDATOR_SET, replace(SET, proposer=None), "its proposer is not one"),
    (VALIDATOR_SET, replace(SET, proposer=making.validator(9, 1)), "its proposer is not one"),
    (VALIDATOR_SET, making.validators({1: 2**59, 2: 2**60}), "validator set: a power of"),
    (TIMESTAMP, Timestamp(SECONDS_MIN - 1), "are not a time"),
    (TIMESTAMP, Timestamp(0, 1_000_000_000), "are not a time"),
    (TIMESTAMP, Timestamp(0, -1), "are not a time"),
    (DURATION, Duration(1, -1), "are not a duration"),
    (DURATION, Duration(2**34), "are not a duration"),
]


@pytest.mark.parametrize(("form", "value", "says"), NONE)
def test_what_is_none_is_refused_in_words(form: WireForm[Any], value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        form.decode(form.encode(value))


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (VOTE, PRECOMMITTED),
        (VOTE, replace(PRECOMMITTED, block_id=NIL)),
        (PROPOSAL, PROPOSED),
        (PROPOSAL, replace(PROPOSED, round=0, pol_round=-1)),
        (COMMIT_SIG, SIGNED),
        (COMMIT_SIG, CommitSig(ABSENT)),
        (EXTENDED_COMMIT_SIG, EXTENDED),
        (COMMIT, COMMITTED),
        (COMMIT, Commit()),
        (HEADER, HEAD),
        (VALIDATOR, VALIDATOR_1),
        (VALIDATOR_SET, SET),
    ],
)
def test_what_is_one_is_the_same_in_bytes_and_in_json(form: WireForm[Any], value: Any) -> None:
    assert form.decode_exact(form.encode(value)) == value
    assert of_json(form, to_json(form, value)) == value


@given(st.binary(max_size=200))
def test_hostile_bytes(data: bytes) -> None:
    forms: tuple[WireForm[Any], ...] = (BLOCK, HEADER, VOTE, PROPOSAL, EXTENDED_COMMIT, PART, SIGNED_HEADER)
    for form in (*forms, VALIDATOR_SET, CONSENSUS_PARAMS):
        try:
            value = form.decode(data)
        except ValueError:
            continue
        assert form.decode(form.encode(value)) == value


def test_what_is_missing_is_checked_as_what_is_there() -> None:
    with pytest.raises(ValueError, match="a leaf hash of 0 bytes"):
        PART.decode(b"")
    with pytest.raises(ValueError, match="header: block protocol 0"):
        BLOCK.decode(BLOCK.encode(chain.height(1).block)[3 + len(HEADER.encode(chain.height(1).block.header)) :])
    with pytest.raises(ValueError, match="an Ed25519 key of 0 bytes"):
        VALIDATOR.decode(b"")


def test_a_time_that_is_missing_is_the_first_one() -> None:
    assert COMMIT_SIG.decode(b"\x08\x01").timestamp == ZERO_TIME
    assert COMMIT_SIG.encode(CommitSig(ABSENT)).hex() == "08011a0b088092b8c398feffffff01"


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), st.integers(0, 999_999_999))
def test_times_are_those_of_the_calendar(moment: datetime, nanos: int) -> None:
    seconds = (moment.replace(microsecond=0, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    time = Timestamp(seconds, nanos)
    fraction = f".{nanos:09}".rstrip("0") if nanos else ""
    assert time.text() == f"{moment.replace(microsecond=0).isoformat()}{fraction}Z"
    assert Timestamp.of_text(time.text()) == time == Timestamp.of_ns(time.ns())


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:60Z",
        "0000-01-01T00:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00+00:00",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00.0000000001Z",
        "2026-01-01T00:00:0\u0663Z",
        "",
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|calendar"):
        Timestamp.of_text(text)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), min_size=1, max_size=12))
def test_the_median_is_the_middle_of_the_power(said: list[tuple[int, int]]) -> None:
    """By counting: each time as often as its power; the middle one, the lower of two if their number is even."""
    spread = sorted(seconds for seconds, power in said for _ in range(power))
    found = weighted_median((Timestamp(seconds), power) for seconds, power in said)
    assert found.seconds == spread[max(len(spread) // 2 - 1, 0)]


def test_time_of_a_block_is_by_power_and_not_by_heads() -> None:
    def said(*at: int | None) -> Commit:
        entries = zip(members.validators, at, strict=True)
        signatures = [
            CommitSig(ABSENT) if s is None else CommitSig(FOR_BLOCK, v.address, Timestamp(s), SIGNATURE)
            for v, s in entries
        ]
        return replace(COMMITTED, signatures=tuple(signatures))

    members = making.validators({1: 10, 2: 5, 3: 3})
    assert block_time(said(30, 10, 20), members.by_address()).seconds == 30
    assert block_time(said(None, 10, 20), members.by_address()).seconds == 10
    assert block_time(said(None, None, None), members.by_address()) == ZERO_TIME
    with pytest.raises(ValueError, match="is not one of its validators"):
        block_time(said(30, 10, 20), SET.by_address())


def test_results_differ_in_what_nodes_may_see_otherwise() -> None:
    one = ExecTxResult(1, b"d", "log", "info", 5, 6, (b"\x0a\x00",), "space")
    assert last_results_hash([one]) == last_results_hash([ExecTxResult(1, b"d", gas_wanted=5, gas_used=6)])
    for other in (replace(one, code=2), replace(one, data=b""), replace(one, gas_wanted=6), replace(one, gas_used=7)):
        assert last_results_hash([other]) != last_results_hash([one])


# Part sets.
DATA = bytes(range(256)) * 600  # 153,600 bytes: three parts
HEADER_OF_PARTS, PARTS = split(DATA)


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, 5 * PART_BYTES - 1])
def test_the_name_of_the_parts_is_the_same_without_their_proofs(size: int) -> None:
    assert parts_of(bytes(size)) == split(bytes(size))[0]


def test_parts_come_in_any_order_and_more_than_once() -> None:
    gathered = PartSet(HEADER_OF_PARTS)
    assert [gathered.add(PARTS[i]) for i in (2, 0, 2)] == [True, True, False]
    assert (gathered.missing(), gathered.joined()) == ([1], None)
    assert gathered.add(PARTS[1])
    assert (gathered.missing(), gathered.joined()) == ([], DATA)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda part: replace(part, bytes=part.bytes[:-1] + b"x"), "the proof is of another leaf"),
        (lambda part: replace(part, index=0), "the proof is of another set of parts"),
        (lambda part: replace(part, proof=replace(part.proof, total=4)), "another set of parts"),
        (lambda part: replace(part, proof=replace(part.proof, aunts=part.proof.aunts[::-1])), "another root"),
        (lambda part: split(b"x" * 3 * PART_BYTES)[1][1], "another root"),
    ],
)
def test_parts_of_another_block(change: Callable[[Any], Any], says: str) -> None:
    gathered = PartSet(HEADER_OF_PARTS)
    with pytest.raises(ValueError, match=says):
        gathered.add(change(PARTS[1]))
    assert gathered.missing() == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda part: replace(part, index=2), "the proof is of part 1"),
        (lambda part: replace(part, bytes=b"short"), "5 bytes, not 65536"),
        (lambda part: replace(part, bytes=bytes(PART_BYTES + 1)), "65537 bytes, at most 65536"),
    ],
)
def test_parts_that_are_none(change: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PART.decode(PART.encode(change(PARTS[1])))


@pytest.mark.parametrize(("total", "bytes_max"), [(0, 100), (2, PART_BYTES), (3, 2 * PART_BYTES), (1602, 104_857_600)])
def test_a_set_of_too_many_parts(total: int, bytes_max: int) -> None:
    with pytest.raises(ValueError, match=f"a block of {total} parts"):
        PartSet(PartSetHeader(total, making.HASH), bytes_max)


# JSON.
@pytest.mark.parametrize(
    ("form", "change", "says"),
    [
        (HEADER, {"height": 7}, "Header.height: 7 is not text"),
        (HEADER, {"height": "07"}, "is not a number in text"),
        (HEADER, {"height": "-0"}, "is not from|height 0"),
        (HEADER, {"height": "9223372036854775808"}, "is not from"),
        (HEADER, {"height": "1e3"}, "is not a number in text"),
        (HEADER, {"data_hash": "zz"}, "non-hexadecimal"),
        (HEADER, {"data_hash": "00 00"}, "there are blanks in it"),
        (HEADER, {"data_hash": "00" * 40}, "more than 32 bytes"),
        (HEADER, {"data_hash": 5}, "is not text"),
        (HEADER, {"time": "yesterday"}, "is not a time"),
        (HEADER, {"chain_id": "x" * 51}, "more than 50 bytes"),
        (HEADER, {"version": []}, "is not an object"),
        (HEADER, {"last_block_id": {"parts": {"total": "1"}}}, "'1' is not a number"),
        (HEADER, {"last_block_id": {"parts": {"total": True}}}, "True is not a number"),
        (HEADER, {"last_block_id": {"parts": {"total": 2**32}}}, "is not from 0 to"),
        (COMMIT, {"signatures": {}}, "is not a list"),
        (COMMIT, {"signatures": [None]}, "is not an object"),
        (COMMIT, {"signatures": [to_json(COMMIT_SIG, SIGNED)] * 10_001}, "more than 10000 of them"),
        (COMMIT_SIG, {"signature": "@"}, "CommitSig.signature"),
        (COMMIT_SIG, {"block_id_flag": 7}, "7 is not a valid BlockIDFlag"),
        (VALIDATOR, {"pub_key": {"type": "tendermint/PubKeySecp256k1", "value": ""}}, "is not an Ed25519 key"),
        (VALIDATOR, {"pub_key": {"type": "tendermint/PubKeyEd25519", "value": "AAAA"}}, "an Ed25519 key of 3 bytes"),
        (VALIDATOR, {"voting_power": "-1"}, "power -1"),
    ],
)
def test_json_that_is_none(form: WireForm[Any], change: dict[str, Any], says: str) -> None:
    values: dict[int, Any] = {
        id(HEADER): HEAD,
        id(COMMIT): COMMITTED,
        id(COMMIT_SIG): SIGNED,
        id(VALIDATOR): VALIDATOR_1,
    }
    with pytest.raises(ValueError, match=says):
        of_json(form, {**to_json(form, values[id(form)]), **change})


def test_json_of_evidence_and_of_results() -> None:
    block = to_json(BLOCK, chain.height(20).block)
    block["evidence"]["evidence"][0]["type"] = "other"
    with pytest.raises(ValueError, match="evidence of type 'other'"):
        of_json(BLOCK, block)
    result = to_json(EXEC_TX_RESULT, chain.height(4).results[0])
    result["events"][0]["attributes"][0]["index"] = 1
    with pytest.raises(ValueError, match="neither true nor false"):
        of_json(EXEC_TX_RESULT, result)
    with pytest.raises(ValueError, match="block: no commit"):
        of_json(BLOCK, {**to_json(BLOCK, chain.height(4).block), "last_commit": None})


NAMES = sorted(
    {*Header.__struct_fields__, *Commit.__struct_fields__, *Block.__struct_fields__, "parts", "total", "type"}
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=8,
)


@given(json_values)
def test_hostile_json(data: Any) -> None:
    for form in (HEADER, COMMIT, VALIDATOR_SET, BLOCK):
        wire: WireForm[Any] = form
        try:
            value = wire_value = of_json(wire, data)
        except ValueError:
            continue
        assert isinstance(value, Commit | Header | Block)
        assert of_json(wire, to_json(wire, wire_value)) == value
