"""AppDoers: how a node has its app do what the core asks for: each request over the connection that it belongs to.

Jobs begin in the order in which the core asked, and a connection keeps the order, so the app hears of them in it. While
the app commits, nothing is checked for the mempool (``spec/abci/abci++_app_requirements.md``, Mempool Connection): one
waits for the other at a gate.

An app that is lost, or that answers what no app may, ends the node: what it did last is not known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from quorate.kernel import AppEnded, Failed, Job
from quorate.ledger.comet.abci.engine_end import AppBusy, AppFailed
from quorate.ledger.comet.abci.grammar import GrammarChecker
from quorate.ledger.comet.abci.request_messages import CheckTxType, Request, RequestCheckTx, RequestCommit
from quorate.ledger.comet.abci.response_messages import ANSWERS, Response, ResponseCheckTx
from quorate.protocols.tendermint.app_messages import AskApp, CheckTxs
from quorate.runtime.jobs import Doer, Jobs
from quorate.service.abci.app_calls import AppCalls

log = logging.getLogger("quorate.comet")

TELL_EVERY_S: Final = 10.0
CHECKS_AT_ONCE: Final = 128
"""Transactions that are with the app at a time, so that neither it nor the loop is held up for long."""


class AppDoers:
    """Of one life of a node. ``calls`` must be set before the first job."""

    calls: AppCalls

    def __init__(self) -> None:
        self._gate = asyncio.Lock()
        self._grammar = GrammarChecker()

    @property
    def doers(self) -> Mapping[type, Doer]:
        """By the type of the job."""
        return {AskApp: self._ask, CheckTxs: self._check}

    async def _ask(self, _: Jobs, job: Job) -> Response | Failed:
        request: Request = job.work.request
        if isinstance(request, RequestCommit):
            async with self._gate:
                return await self._put(request)
        return await self._put(request)

    async def _put(self, request: Request) -> Response | Failed:
        try:
            response = await self._answer_to(request)
        except AppBusy as error:
            return Failed(str(error))
        except AppFailed as error:
            raise AppEnded(str(error)) from None
        self._grammar.observe(request, response)
        return response

    async def _answer_to(self, request: Request) -> Response:
        """It may take long, and then the log says what is waited for. The connection's clock ends it."""
        asked: asyncio.Future[Response] = asyncio.ensure_future(self.calls.ask(request, ANSWERS[type(request)]))
        waited_s = 0.0
        try:
            while not (await asyncio.wait((asked,), timeout=TELL_EVERY_S))[0]:
                waited_s += TELL_EVERY_S
                log.warning("the app has not answered %s for %g s", type(request).__name__, waited_s)
            return asked.result()
        finally:
            asked.cancel()

    async def _check(self, _: Jobs, job: Job) -> Any:
        work: CheckTxs = job.work
        kind = CheckTxType.RECHECK if work.is_recheck else CheckTxType.NEW
        answers: list[ResponseCheckTx] = []
        async with self._gate:
            try:
                for first in range(0, len(work.txs), CHECKS_AT_ONCE):
                    some = work.txs[first : first + CHECKS_AT_ONCE]
                    answers += await self.calls.ask_all([RequestCheckTx(tx, kind) for tx in some], ResponseCheckTx)
                    await asyncio.sleep(0)
            except AppBusy as error:
                return Failed(str(error))
            except AppFailed as error:
                raise AppEnded(str(error)) from None
        return tuple(answers)
