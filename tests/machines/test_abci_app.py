"""The base class of an ABCI app: what each call does if nobody overrides it, and mistakes of whoever does."""

import pytest

from quorate.ledger.comet.abci import request_messages as requests
from quorate.ledger.comet.abci import response_messages as responses
from quorate.ledger.comet.abci.request_messages import REQUEST
from quorate.ledger.comet.abci.response_messages import ANSWERS, ProposalStatus, VerifyStatus
from quorate.ledger.comet.results import ExecTxResult
from quorate.machines.abci.application import CALLS, ABCIApp, AppMistake


def test_the_defaults_are_those_of_base_application() -> None:
    """All empty, save those that accept (CometBFT 0.38, abci/types/application.go)."""
    app = ABCIApp()
    accepting = {
        requests.RequestEcho("hello"): responses.ResponseEcho("hello"),
        requests.RequestProcessProposal(): responses.ResponseProcessProposal(ProposalStatus.ACCEPT),
        requests.RequestVerifyVoteExtension(): responses.ResponseVerifyVoteExtension(VerifyStatus.ACCEPT),
        requests.RequestFinalizeBlock((b"a", b"b")): responses.ResponseFinalizeBlock(tx_results=(ExecTxResult(),) * 2),
        requests.RequestPrepareProposal(7, (b"a", b"b")): responses.ResponsePrepareProposal((b"a", b"b")),
    }
    for request, response in accepting.items():
        assert app.answer(request) == response
    asked = {type(request) for request in accepting}
    for kind, answer in ANSWERS.items():
        if kind not in asked:
            assert app.answer(kind()) == answer()


def test_each_request_has_a_call() -> None:
    assert set(CALLS) == set(ANSWERS) == {option.of for option in REQUEST.options.values()}
    for name in CALLS.values():
        assert callable(getattr(ABCIApp, name))


@pytest.mark.parametrize(("room", "chosen"), [(0, 0), (2, 0), (3, 1), (5, 1), (6, 2), (134, 2), (135, 3), (200, 3)])
def test_a_proposal_has_room_for_lengths_too(room: int, chosen: int) -> None:
    txs = (b"a", b"b", bytes(127))
    assert ABCIApp().prepare_proposal(requests.RequestPrepareProposal(room, txs)).txs == txs[:chosen]


def test_a_call_that_returns_something_else() -> None:
    class Wrong(ABCIApp):
        def commit(self, request: requests.RequestCommit) -> responses.ResponseCommit:
            return None  # type: ignore[return-value]

        def finalize_block(self, request: requests.RequestFinalizeBlock) -> responses.ResponseFinalizeBlock:
            return responses.ResponseFinalizeBlock()

    with pytest.raises(AppMistake, match=r"Wrong.commit returned NoneType, not ResponseCommit"):
        Wrong().answer(requests.RequestCommit())
    with pytest.raises(AppMistake, match=r"Wrong.finalize_block returned breaks a rule: 0 tx_results for 1 txs"):
        Wrong().answer(requests.RequestFinalizeBlock((b"a",)))


def test_what_a_call_raises_comes_through() -> None:
    class Full(ABCIApp):
        def commit(self, request: requests.RequestCommit) -> responses.ResponseCommit:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Full().answer(requests.RequestCommit())
