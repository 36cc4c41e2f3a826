"""ABCI on a stream: a conversation with a real app, whole and in pieces; hostile bytes; what the messages refuse."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.ledger.comet.abci.app_end import AppEnd
from quorate.ledger.comet.abci.contents import VALIDATOR_UPDATE, MisbehaviorType, VotingValidator, misbehaviors
from quorate.ledger.comet.abci.engine_end import EngineEnd
from quorate.ledger.comet.abci.frames import FrameBuffer
from quorate.ledger.comet.abci.request_messages import REQUEST, Request, RequestFlush
from quorate.ledger.comet.abci.response_messages import ANSWERS, RESPONSE, ResponseFinalizeBlock, ResponseFlush
from quorate.ledger.comet.results import APP_EVENT
from quorate.ledger.comet.wire_reader import delimited

from tests.ledger.comet import chain
from tests.ledger.comet.test_evidence import GOOD, LUNATIC, SET

TALK = [json.loads(line) for line in (Path(__file__).with_name("recorded") / "abci.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("pieces", [1, 7, 10_000])
def test_a_conversation_with_abci_cli(pieces: int) -> None:
    """`abci-cli kvstore` of CometBFT 0.38.26 answered these requests with these bytes: read so many at a time."""
    engine, app = EngineEnd[Request]("kvstore"), AppEnd()
    for line in TALK:
        sent, received = bytes.fromhex(line["sent"]), bytes.fromhex(line["received"])
        *requests, flush = app.receive(sent, 0.0)
        assert [type(request).__name__ for request in requests] == line["calls"]
        assert flush == RequestFlush()
        for request in requests:
            engine.ask(request, request, 0.0)
        assert engine.take(0.0) == sent
        answered = []
        for at in range(0, len(received), pieces):
            answered += engine.receive(received[at : at + pieces], 0.0)
        assert engine.failure is None
        assert engine.due_at() is None
        assert [type(request).__name__ for request, _ in answered] == line["calls"]
        assert app.answer([*[response for _, response in answered], ResponseFlush()]) == received


def test_what_abci_cli_said() -> None:
    found = [RESPONSE.decode(frame) for line in TALK for frame in FrameBuffer().feed(bytes.fromhex(line["received"]))]
    blocks = [response for response in found if isinstance(response, ResponseFinalizeBlock)]
    assert [len(block.tx_results) for block in blocks] == [3, 1]
    assert [update.power for update in blocks[0].validator_updates] == [7]
    event = APP_EVENT.decode_exact(blocks[0].tx_results[0].events[0])
    assert (event.type, event.attributes[1].key, event.attributes[1].value) == ("app", "key", "a")
    assert {type(response) for response in found} == set(ANSWERS.values())


def test_frames_are_bounded_before_their_bytes_come() -> None:
    buffer = FrameBuffer(300)
    assert buffer.feed(b"\xac\x02" + bytes(299)) == []
    assert buffer.held_bytes == 301
    assert buffer.feed(b"\0\0") == [bytes(300), b""]
    assert buffer.held_bytes == 0
    with pytest.raises(ValueError, match="a message of 301 bytes or more, at most 300"):
        buffer.feed(b"\xad\x02")
    with pytest.raises(ValueError, match="a length of more than 5 bytes"):
        FrameBuffer().feed(b"\x80" * 5)


@given(st.lists(st.binary(max_size=300), max_size=6), st.data())
def test_frames_come_whole_however_they_are_cut(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(delimited, messages))
    buffer, found = FrameBuffer(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += buffer.feed(stream[:size])
        stream = stream[size:]
    assert found == messages


@given(st.binary(max_size=80))
def test_hostile_bytes(data: bytes) -> None:
    with contextlib.suppress(ValueError):  # and nothing else
        AppEnd().receive(data, 0.0)
    engine = EngineEnd[int]("app")
    assert engine.receive(data, 0.0) == []
    assert engine.failure is not None or engine.due_at() is not None or not data


@given(st.integers(0, len(TALK) - 1), st.data())
def test_one_flipped_bit_is_an_answer_or_a_value_error(index: int, data: st.DataObject) -> None:
    for key, form in (("sent", REQUEST), ("received", RESPONSE)):
        stream = bytearray.fromhex(TALK[index][key])
        stream[data.draw(st.integers(0, len(stream) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        try:
            found = [form.decode(frame) for frame in FrameBuffer().feed(bytes(stream))]
        except ValueError:
            continue
        assert [form.decode_exact(form.encode(value)) for value in found] == found


@given(st.integers(0, len(TALK) - 1), st.data())
def test_an_app_that_flips_a_bit_is_answered_waited_for_or_failed_in_words(index: int, data: st.DataObject) -> None:
    engine = EngineEnd[int]("app")
    for number, request in enumerate(AppEnd().receive(bytes.fromhex(TALK[index]["sent"]), 0.0)[:-1]):
        engine.ask(request, number, 0.0)
    engine.take(0.0)
    stream = bytearray.fromhex(TALK[index]["received"])
    stream[data.draw(st.integers(0, len(stream) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    answered = engine.receive(bytes(stream), 0.0)
    if engine.failure is not None:
        assert str(engine.failure).startswith("app: ")
        assert "What to do: " in str(engine.failure)
    else:
        assert engine.due_at() is not None or len(answered) == len(TALK[index]["calls"])


@pytest.mark.parametrize(
    ("encoded", "says"),
    [
        ("", "Response: none of the kinds"),
        ("0a00 1200", "Response: more than one"),
        ("2a00", "Response: none of the kinds"),  # SetOption, which is gone
        ("9201 02 0803", "3 is not a valid ProposalStatus"),
        ("aa01 04 1a 02 1002", "an Ed25519 key of 0 bytes"),
        ("aa01 06 12 04 12 03 6162", "ends 1 bytes before"),
        ("7a 02 0805", "wire type 0, not 2"),
    ],
)
def test_responses_that_are_none(encoded: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RESPONSE.decode(bytes.fromhex(encoded))


def test_an_update_of_another_kind_of_key() -> None:
    with pytest.raises(ValueError, match="a key of secp256k1: only Ed25519 is supported"):
        VALIDATOR_UPDATE.decode(bytes.fromhex("0a04 1202 0203 1001"))
    with pytest.raises(ValueError, match="validator update: power -1"):
        VALIDATOR_UPDATE.decode(bytes.fromhex("0a22 0a20" + "01" * 32 + "10" + "ff" * 9 + "01"))


def test_what_the_app_hears_of_evidence() -> None:
    (double,) = misbehaviors(GOOD)
    assert double.type == MisbehaviorType.DUPLICATE_VOTE
    assert double.validator == VotingValidator(SET.validators[1].address, 5)
    assert (double.height, double.time, double.total_voting_power) == (7, GOOD.timestamp, 19)
    liars = misbehaviors(LUNATIC)
    assert [liar.validator.power for liar in liars] == [10, 5, 3]
    assert {(liar.type, liar.height) for liar in liars} == {(MisbehaviorType.LIGHT_CLIENT_ATTACK, 5)}
    recorded = [piece for height in chain.heights() for piece in height.block.evidence.evidence]
    assert [misbehaviors(piece)[0].height for piece in recorded] == [piece.height for piece in recorded]
