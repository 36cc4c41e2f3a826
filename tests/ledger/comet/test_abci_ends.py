"""The engine's end of an ABCI connection: order, flushes, limits, clocks; each way for an app to fail, in words."""

import pytest

from quorate.ledger.comet.abci.app_end import AppEnd, ServeLimits
from quorate.ledger.comet.abci.contents import ValidatorUpdate
from quorate.ledger.comet.abci.engine_end import AppBusy, AppFailed, AskLimits, EngineEnd
from quorate.ledger.comet.abci.request_messages import (
    REQUEST,
    Request,
    RequestCheckTx,
    RequestCommit,
    RequestEcho,
    RequestFinalizeBlock,
    RequestFlush,
    RequestInfo,
    RequestInitChain,
    RequestPrepareProposal,
    RequestProcessProposal,
    RequestVerifyVoteExtension,
)
from quorate.ledger.comet.abci.response_messages import (
    Response,
    ResponseCheckTx,
    ResponseCommit,
    ResponseEcho,
    ResponseException,
    ResponseFinalizeBlock,
    ResponseFlush,
    ResponseInfo,
    ResponseInitChain,
    ResponsePrepareProposal,
    ResponseProcessProposal,
    ResponseVerifyVoteExtension,
)
from quorate.ledger.comet.results import ExecTxResult
from quorate.ledger.comet.validators import TOTAL_POWER_MAX, ValidatorKey
from quorate.ledger.comet.wire_reader import delimited

KEY = ValidatorKey(bytes(range(32)))


def said(*responses: Response) -> bytes:
    return AppEnd().answer(responses)


def sent(*requests: Request) -> bytes:
    return b"".join(delimited(REQUEST.encode(request)) for request in requests)


def asked(*requests: Request, now: float = 0.0, **limits: float) -> EngineEnd[int]:
    """An end that has sent these; who waits is their number."""
    end = EngineEnd[int]("app", AskLimits().but(**limits))
    for number, request in enumerate(requests):
        end.ask(request, number, now)
    end.take(now)
    return end


def words(end: EngineEnd[int]) -> str:
    assert end.failure is not None
    return str(end.failure)


def test_a_flush_goes_after_what_was_asked_and_is_answered_to_nobody() -> None:
    end = EngineEnd[str]("app")
    assert end.take(0.0) == b""
    end.ask(RequestEcho("a"), "first", 0.0)
    end.ask(RequestCheckTx(b"t"), "second", 0.0)
    assert end.take(0.0) == sent(RequestEcho("a"), RequestCheckTx(b"t"), RequestFlush())
    assert end.take(0.0) == b""
    end.ask(RequestCommit(), "third", 0.0)
    assert end.take(0.0) == sent(RequestCommit(), RequestFlush())
    assert end.waiting == 3
    assert end.receive(said(ResponseEcho("a")), 1.0) == [("first", ResponseEcho("a"))]
    rest = said(ResponseCheckTx(), ResponseFlush(), ResponseCommit(7))
    assert end.receive(rest, 1.0) == [("second", ResponseCheckTx()), ("third", ResponseCommit(7))]
    assert end.waiting == 0
    assert end.due_at() is not None  # the last flush
    assert end.receive(said(ResponseFlush()), 1.0) == []
    assert end.due_at() is None


@pytest.mark.parametrize(
    ("request_", "received", "says"),
    [
        (RequestCommit(), said(ResponseEcho("x")), "a ResponseEcho came as the answer to Commit"),
        (RequestCommit(), said(ResponseFlush()), "a ResponseFlush came as the answer to Commit"),
        (RequestCommit(), said(ResponseException("disk\nfull")), "says that it cannot go on: 'disk.full'"),
        (RequestCommit(), b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(60), "not an answer of ABCI"),
        (RequestCommit(), b"\xff\xff\xff\xff\x7f", "a message of .* bytes or more, at most 134217728"),
        (RequestCommit(), b"\x00", "not an answer of ABCI: Response: none of the kinds"),
        (RequestEcho("a"), said(ResponseEcho("b")), "answer to Echo breaks a rule: another message"),
        (RequestInfo(), said(ResponseInfo(last_block_height=-1)), "last_block_height is -1"),
        (RequestFinalizeBlock((b"a",)), said(ResponseFinalizeBlock()), "0 tx_results for 1 txs"),
        (RequestPrepareProposal(3), said(ResponsePrepareProposal((b"ab",))), "4 bytes in a block, at most 3"),
        (RequestProcessProposal(), said(ResponseProcessProposal()), "status UNKNOWN"),
        (RequestVerifyVoteExtension(), said(ResponseVerifyVoteExtension()), "status UNKNOWN"),
        (RequestInitChain(), said(ResponseInitChain(validators=(ValidatorUpdate(KEY, 1),) * 2)), "two for one key"),
        (
            RequestFinalizeBlock(),
            said(ResponseFinalizeBlock(validator_updates=(ValidatorUpdate(KEY, TOTAL_POWER_MAX + 1),))),
            "more power than",
        ),
    ],
)
def test_an_app_that_breaks_a_rule(request_: Request, received: bytes, says: str) -> None:
    end = asked(request_)
    assert end.receive(received, 1.0) == []
    with pytest.raises(AppFailed, match=rf"^app: .*{says}.*What to do: "):
        end.ask(RequestCommit(), 9, 1.0)
    assert end.due_at() is None
    assert end.abandon() == [0]


def test_an_answer_to_nothing() -> None:
    end = EngineEnd[int]("app")
    end.receive(said(ResponseCommit()), 0.0)
    assert "a ResponseCommit came, and nothing was asked" in words(end)


def test_what_came_before_the_failure_is_answered_and_nothing_after_it() -> None:
    end = asked(RequestEcho("a"), RequestCommit(), RequestCommit())
    received = said(ResponseEcho("a"), ResponseException("no"), ResponseCommit())
    assert end.receive(received, 1.0) == [(0, ResponseEcho("a"))]
    assert end.receive(said(ResponseCommit()), 1.0) == []
    assert "cannot go on: 'no'" in words(end)
    assert end.abandon() == [1, 2]


def test_good_answers_are_let_through() -> None:
    """As the failures above could come of a check that refuses everything."""
    updates = (ValidatorUpdate(KEY, TOTAL_POWER_MAX), ValidatorUpdate(ValidatorKey(bytes(32)), 0))
    end = asked(RequestFinalizeBlock((b"a",)), RequestPrepareProposal(4), RequestInfo())
    finalized = ResponseFinalizeBlock(tx_results=(ExecTxResult(5),), validator_updates=updates)
    answers = (finalized, ResponsePrepareProposal((b"ab",)), ResponseInfo())
    assert end.receive(said(*answers, ResponseFlush()), 1.0) == list(enumerate(answers))
    assert end.failure is None


def test_silence() -> None:
    end = asked(RequestCommit(), now=10.0, answer_timeout_s=5.0, long_timeout_s=50.0)
    end.ask(RequestInfo(), 1, 11.0)
    end.take(11.0)
    assert end.due_at() == 60.0  # Commit may take long
    end.on_time(59.9)
    assert end.failure is None
    end.receive(said(ResponseCommit()), 30.0)
    assert end.due_at() == 35.0  # the clock of the flush began when it became the oldest
    end.receive(said(ResponseFlush()), 31.0)
    assert end.due_at() == 36.0
    end.on_time(36.0)
    assert "no answer to Info for 5.0 s" in words(end)
    assert end.abandon() == [1]


def test_an_answer_that_drips_does_not_put_its_clock_back() -> None:
    end = asked(RequestInfo(), now=0.0, answer_timeout_s=30.0, whole_timeout_s=10.0)
    answer = said(ResponseInfo("x" * 100))
    for second in range(10):
        end.receive(answer[second : second + 1], 5.0 + second)
        assert end.due_at() == 15.0
    end.on_time(15.0)
    assert "an answer began 10.0 s ago and has 10 bytes so far" in words(end)


def test_each_answer_has_its_own_clock() -> None:
    end = asked(RequestInfo(), RequestInfo(), whole_timeout_s=10.0)
    answer = said(ResponseInfo("x" * 100))
    end.receive(answer[:5], 1.0)
    end.receive(answer[5:] + answer[:5], 9.0)
    assert end.due_at() == 19.0
    end.receive(answer[5:] + said(ResponseFlush()), 18.0)
    assert end.due_at() is None


def test_a_connection_that_is_lost() -> None:
    end = asked(RequestInfo(), RequestInfo())
    end.receive(said(ResponseInfo()), 1.0)
    end.lost("closed by the other side")
    assert "app: closed by the other side, with 1 requests unanswered. What to do: look into the app's log" in words(
        end
    )
    assert end.abandon() == [1]


def test_what_waits_is_bounded() -> None:
    end = EngineEnd[int]("app", AskLimits(unanswered_max=3))
    end.ask(RequestCommit(), 0, 0.0)
    end.ask(RequestCommit(), 1, 0.0)
    with pytest.raises(AppBusy, match="2 requests wait"):
        end.ask(RequestCommit(), 2, 0.0)
    assert end.take(0.0) == sent(RequestCommit(), RequestCommit(), RequestFlush())
    end.receive(said(ResponseCommit(), ResponseCommit(), ResponseFlush()), 0.0)
    end.ask(RequestCommit(), 2, 0.0)

    end = EngineEnd[int]("app", AskLimits(unanswered_bytes_max=100))
    end.ask(RequestCheckTx(bytes(200)), 0, 0.0)  # alone, it may be of any size
    with pytest.raises(AppBusy, match=r"requests of 2.. bytes wait"):
        end.ask(RequestCheckTx(), 1, 0.0)
    end.take(0.0)
    end.receive(said(ResponseCheckTx(), ResponseFlush()), 0.0)
    end.ask(RequestCheckTx(), 1, 0.0)
    end.ask(RequestCheckTx(bytes(50)), 2, 0.0)
    assert end.failure is None


def test_limits_have_limits() -> None:
    with pytest.raises(ValueError, match="answer_timeout_s is 0"):
        AskLimits(answer_timeout_s=0)
    with pytest.raises(ValueError, match="connections_max is 0"):
        ServeLimits(connections_max=0)


def test_the_apps_end_knows_what_has_begun() -> None:
    end = AppEnd(ServeLimits(message_bytes_max=100, whole_timeout_s=10.0))
    stream = sent(RequestEcho("a"), RequestEcho("b"))
    assert end.due_at() is None
    assert end.receive(stream[:-1], 1.0) == [RequestEcho("a")]
    assert end.due_at() == 11.0
    assert end.unfinished_bytes == len(stream) // 2 - 1
    assert end.receive(b"", 5.0) == []
    assert end.due_at() == 11.0  # what drips does not put the clock back
    assert end.receive(stream[-1:], 2.0) == [RequestEcho("b")]
    assert end.due_at() is None
    with pytest.raises(ValueError, match="at most 100"):
        end.receive(sent(RequestEcho("x" * 200)), 3.0)
