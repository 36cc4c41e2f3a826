"""An app whose bytes are wrong in any way stops its node with words, and is never believed; nor is an engine by an app.

From a stream of right answers, each of the request that was asked: bits are flipped, parts cut, repeated and exchanged,
lengths made to lie, and it comes in pieces. Whoever asked gets an answer of the right kind that keeps the rules, or the
connection has failed, and says what was wrong and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.ledger.comet.abci import request_messages as requests
from quorate.ledger.comet.abci import response_messages as responses
from quorate.ledger.comet.abci.answer_checks import check_answer
from quorate.ledger.comet.abci.app_end import AppEnd
from quorate.ledger.comet.abci.contents import ValidatorUpdate
from quorate.ledger.comet.abci.engine_end import AskLimits, EngineEnd
from quorate.ledger.comet.abci.request_messages import REQUEST, Request
from quorate.ledger.comet.abci.response_messages import ANSWERS, RESPONSE, Response
from quorate.ledger.comet.results import ExecTxResult
from quorate.ledger.comet.validators import ValidatorKey
from quorate.ledger.comet.wire_reader import delimited, uvarint

FAST, SLOW = 60, 2000
UPDATE = ValidatorUpdate(ValidatorKey(bytes(range(32))), 7)
RIGHT: Sequence[tuple[Request, Response]] = (
    (requests.RequestEcho("hello"), responses.ResponseEcho("hello")),
    (requests.RequestFlush(), responses.ResponseFlush()),
    (requests.RequestInfo("0.38.26"), responses.ResponseInfo("kv", "1", 1, 7, bytes(32))),
    (requests.RequestInitChain(), responses.ResponseInitChain(validators=(UPDATE,), app_hash=bytes(8))),
    (requests.RequestQuery(b"k"), responses.ResponseQuery(key=b"k", value=b"v", height=7)),
    (requests.RequestCheckTx(b"a=1"), responses.ResponseCheckTx(code=3, data=b"no", gas_wanted=5)),
    (requests.RequestListSnapshots(), responses.ResponseListSnapshots()),
    (requests.RequestOfferSnapshot(), responses.ResponseOfferSnapshot()),
    (requests.RequestLoadSnapshotChunk(), responses.ResponseLoadSnapshotChunk(b"chunk")),
    (requests.RequestApplySnapshotChunk(), responses.ResponseApplySnapshotChunk()),
    (requests.RequestPrepareProposal(100, (b"a",)), responses.ResponsePrepareProposal((b"a", b"b"))),
    (requests.RequestProcessProposal((b"a",)), responses.ResponseProcessProposal(responses.ProposalStatus.ACCEPT)),
    (requests.RequestExtendVote(), responses.ResponseExtendVote(b"more")),
    (requests.RequestVerifyVoteExtension(), responses.ResponseVerifyVoteExtension(responses.VerifyStatus.ACCEPT)),
    (
        requests.RequestFinalizeBlock((b"a=1", b"b")),
        responses.ResponseFinalizeBlock(
            tx_results=(ExecTxResult(), ExecTxResult(code=2, log="no")), validator_updates=(UPDATE,), app_hash=bytes(8)
        ),
    ),
    (requests.RequestCommit(), responses.ResponseCommit(5)),
)
ASKED = [request for request, _ in RIGHT]
ANSWERED = [delimited(RESPONSE.encode(response)) for _, response in RIGHT]
BYTES_MAX = 4096


def ways(parts: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """The stream of these messages with up to three things wrong."""
    return st.lists(
        st.tuples(st.sampled_from(WRONGS), st.integers(0, 1 << 16), st.integers(0, 1 << 16)), max_size=3
    ).map(lambda wrongs: _spoilt(list(parts), wrongs))


def _spoilt(parts: list[bytes], wrongs: Sequence[tuple[str, int, int]]) -> bytes:
    for wrong, which, where in wrongs:
        at = which % len(parts)
        one = parts[at]
        place = where % max(1, len(one))
        if wrong == "flip":
            one = one[:place] + bytes([one[place] ^ 1 << which % 8]) + one[place + 1 :] if one else one
        elif wrong == "cut":
            one = one[:place]
        elif wrong == "more":
            one = one[:place] + bytes([which % 256]) * (1 + where % 9) + one[place:]
        elif wrong == "long":  # its length says more than comes, or less
            one = uvarint(where % (2 * BYTES_MAX)) + one[1:]
        elif wrong == "endless":
            one = one[:place] + b"\xff" * 12 + one[place:]
        elif wrong == "again":
            one = one + one
        elif wrong == "exchange":
            other = where % len(parts)
            one, parts[other] = parts[other], one
        parts[at] = one
    return b"".join(parts)


WRONGS = ("flip", "cut", "more", "long", "endless", "again", "exchange")


def in_pieces(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Of these sizes, and the rest."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


def check_engine(data: bytes, sizes: Sequence[int]) -> bool:
    """Whether it failed. Nobody is told what the app did not say rightly."""
    end = EngineEnd[int]("app", AskLimits().but(message_bytes_max=BYTES_MAX))
    for number, request in enumerate(ASKED):
        end.ask(request, number, 0.0)
    answered: list[tuple[int, Response]] = []
    for piece in in_pieces(data, sizes):
        had_failed = end.failure is not None
        found = end.receive(piece, 1.0)
        assert not (had_failed and found), "after it failed"
        answered += found
    assert [number for number, _ in answered] == list(range(len(answered))), "in order, and each once"
    for number, response in answered:
        assert type(response) is ANSWERS[type(ASKED[number])]
        check_answer(ASKED[number], response)
    if end.failure is not None:
        text = str(end.failure)
        assert text.startswith("app: ")
        assert "What to do: " in text
        assert len(text) < 2000
        assert text.isprintable()
    assert end.abandon() == list(range(len(answered), len(ASKED)))
    return end.failure is not None


def check_app(data: bytes, sizes: Sequence[int]) -> bool:
    """Whether the app hangs up. What it takes is a request that it could have been sent."""
    end = AppEnd()
    for piece in in_pieces(data, sizes):
        try:
            asked = end.receive(piece, 1.0)
        except ValueError:
            return True
        for request in asked:
            assert REQUEST.decode(REQUEST.encode(request)) == request
    return False


SIZES = st.lists(st.integers(0, 40), max_size=8)


@settings(max_examples=FAST, deadline=None)
@given(ways(ANSWERED), SIZES)
def test_answers(data: bytes, sizes: list[int]) -> None:
    check_engine(data, sizes)


@settings(max_examples=FAST, deadline=None)
@given(ways([delimited(REQUEST.encode(request)) for request in ASKED]), SIZES)
def test_requests(data: bytes, sizes: list[int]) -> None:
    check_app(data, sizes)


@pytest.mark.slow
@settings(max_examples=SLOW, deadline=None)
@given(ways(ANSWERED), SIZES)
def test_many_answers(data: bytes, sizes: list[int]) -> None:
    check_engine(data, sizes)


@pytest.mark.slow
@settings(max_examples=SLOW, deadline=None)
@given(ways([delimited(REQUEST.encode(request)) for request in ASKED]), SIZES)
def test_many_requests(data: bytes, sizes: list[int]) -> None:
    check_app(data, sizes)


def test_what_is_right_is_taken_in_whatever_pieces() -> None:
    """Or all of the above could be refusals."""
    for size in (1, 7, 1 << 16):
        data = b"".join(ANSWERED)
        assert not check_engine(data, [size] * (len(data) // size))
    end = EngineEnd[int]("app")
    for number, request in enumerate(ASKED):
        end.ask(request, number, 0.0)
    assert end.receive(b"".join(ANSWERED), 1.0) == [(number, right) for number, (_, right) in enumerate(RIGHT)]


@pytest.mark.parametrize("kind", [type(response) for _, response in RIGHT])
def test_each_kind_of_answer_to_each_request(kind: type[Response]) -> None:
    """The wrong kind fails the connection, whichever it is."""
    (answer,) = [right for _, right in RIGHT if type(right) is kind]
    for request in ASKED:
        end = EngineEnd[int]("app")
        end.ask(request, 0, 0.0)
        end.receive(delimited(RESPONSE.encode(answer)), 1.0)
        is_right = ANSWERS[type(request)] is kind
        assert (end.failure is None) == is_right
        assert is_right or f"a {kind.__name__} came as the answer" in str(end.failure)
