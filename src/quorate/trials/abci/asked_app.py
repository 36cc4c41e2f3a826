"""What stands above a core that drives an ABCI app: it does the core's jobs in virtual time, and every call is checked
against ABCI's grammar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, ClassVar

from quorate.kernel import ROOT, App, Path, Requester
from quorate.kernel.app import Steps
from quorate.ledger.comet.abci.grammar import GrammarChecker
from quorate.ledger.comet.abci.request_messages import (
    CheckTxType,
    Request,
    RequestApplySnapshotChunk,
    RequestCheckTx,
    RequestCommit,
)
from quorate.ledger.comet.abci.response_messages import Response
from quorate.machines.abci.application import ABCIApp
from quorate.protocols.tendermint.app_messages import APP_JOBS, AskApp, CheckTxs


def answer_of(app: ABCIApp, grammar: GrammarChecker, job: AskApp | CheckTxs) -> Any:
    """What comes of a job."""
    if isinstance(job, CheckTxs):
        kind = CheckTxType.RECHECK if job.is_recheck else CheckTxType.NEW
        return tuple([app.answer(RequestCheckTx(tx, kind)) for tx in job.txs])
    response = app.answer(job.request)
    grammar.observe(job.request, response)
    return response


class AskedApp(App):
    """One life of a node's upper half. ``calls`` has the requests that were answered, but for CheckTx.

    ``committed`` is called when the app has kept something.
    """

    works: ClassVar[tuple[type, ...]] = APP_JOBS

    def __init__(self, app: ABCIApp, committed: Callable[[], None]) -> None:
        self.abci = app
        self.grammar = GrammarChecker()
        self.calls: list[Request] = []
        self.outputs: list[Callable[[Any], None]] = []
        """Who hears what the core says."""
        self._committed = committed

    def work(self, job: Any) -> Steps:
        """A node may crash before the app is asked, and after it has answered."""
        yield
        response: Response | tuple[Response, ...] = answer_of(self.abci, self.grammar, job)
        if isinstance(job, AskApp):
            self.calls.append(job.request)
            if isinstance(job.request, RequestCommit | RequestApplySnapshotChunk):
                self._committed()
        yield
        return response

    def output(self, value: Any, path: Path = ROOT) -> None:
        """As the base says."""
        for hear in self.outputs:
            hear(value)

    def request(self, client: Requester, request: Any) -> None:
        """There are no sessions."""
        raise AssertionError("clients submit")

    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        """Snapshots are the ABCI app's."""
        raise AssertionError("the log is kept whole")

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        """Snapshots are the ABCI app's."""
        raise AssertionError("the log is kept whole")
