"""AppCalls: how a node asks its app, wherever that runs; and an app that runs in the node's own process.

One app has four connections, and each request belongs to one of them: in order on each, and in no order between them.
What has to wait for another connection (nothing is checked for the mempool during Commit) the node sees to.

Source: CometBFT 0.38, ``spec/abci/abci++_basic_concepts.md``, ``proxy/multi_app_conn.go``.
"""

from __future__ import annotations

import abc
import enum
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from traceback import format_exception
from typing import Final, TypeVar

from quorate.ledger.comet.abci import request_messages as requests
from quorate.ledger.comet.abci.engine_end import AppFailed
from quorate.ledger.comet.abci.handshake import CallApp, HandshakeSteps, Ready
from quorate.ledger.comet.abci.request_messages import Request
from quorate.ledger.comet.abci.response_messages import ANSWERS, Response, ResponseFinalizeBlock
from quorate.machines.abci.application import ABCIApp

R = TypeVar("R", bound=Response)
log = logging.getLogger("quorate.abci")


class Room(enum.Enum):
    """Connections, in the order in which CometBFT opens them."""

    QUERY = "query"
    SNAPSHOT = "snapshot"
    MEMPOOL = "mempool"
    CONSENSUS = "consensus"


ROOMS: Final[Mapping[type[Request], Room]] = {
    requests.RequestEcho: Room.QUERY,
    requests.RequestFlush: Room.QUERY,
    requests.RequestInfo: Room.QUERY,
    requests.RequestQuery: Room.QUERY,
    requests.RequestCheckTx: Room.MEMPOOL,
    requests.RequestListSnapshots: Room.SNAPSHOT,
    requests.RequestOfferSnapshot: Room.SNAPSHOT,
    requests.RequestLoadSnapshotChunk: Room.SNAPSHOT,
    requests.RequestApplySnapshotChunk: Room.SNAPSHOT,
    requests.RequestInitChain: Room.CONSENSUS,
    requests.RequestPrepareProposal: Room.CONSENSUS,
    requests.RequestProcessProposal: Room.CONSENSUS,
    requests.RequestExtendVote: Room.CONSENSUS,
    requests.RequestVerifyVoteExtension: Room.CONSENSUS,
    requests.RequestFinalizeBlock: Room.CONSENSUS,
    requests.RequestCommit: Room.CONSENSUS,
}
"""On which connection a request goes."""


class AppCalls(abc.ABC):
    """An app, as a node calls it."""

    @abc.abstractmethod
    async def ask(self, request: Request, kind: type[R]) -> R:
        """The app's answer, of the kind that belongs to the request.

        Raises AppFailed, after which no call succeeds and the node must stop; AppBusy, if too much waits.
        """

    @abc.abstractmethod
    async def ask_all(self, requests: Sequence[Request], kind: type[R]) -> Sequence[R]:
        """The answers to requests of one kind, which are put at once. Raises what ``ask`` raises."""


def log_failure(app: ABCIApp, request: Request, error: Exception) -> str:
    """Log what an app raised, whole; it is returned in short. The text may be any, half of a surrogate pair too."""
    whole = "".join(format_exception(error)).encode(errors="backslashreplace").decode()
    log.error("%s failed in %s\n%s", type(app).__name__, type(request).__name__, whole)
    return f"{type(error).__name__}: {error}".encode(errors="backslashreplace").decode()


class LocalApp(AppCalls):
    """An app in this process. Its calls run on the loop's thread, which waits for them."""

    def __init__(self, app: ABCIApp) -> None:
        self.app = app
        self.failure: AppFailed | None = None

    async def ask(self, request: Request, kind: type[R]) -> R:
        if self.failure is not None:
            raise self.failure.again()
        try:
            response = self.app.answer(request)
        except Exception as error:  # somebody else's code: the node stops with words, whatever it raised
            why = f"{type(self.app).__name__} in this process: {log_failure(self.app, request, error)}"
            self.failure = AppFailed(f"{why}. What to do: mend the app")
            raise self.failure.again() from error
        assert isinstance(response, kind), "the app's answers are checked"
        return response

    async def ask_all(self, requests: Sequence[Request], kind: type[R]) -> Sequence[R]:
        return [await self.ask(request, kind) for request in requests]


async def shake_hands(
    app: AppCalls, steps: HandshakeSteps[Ready], save: Callable[[int, ResponseFinalizeBlock], Awaitable[None]]
) -> Ready:
    """Do the steps of a ``handshake``. ``save`` returns when height and answer are durable.

    Raises HandshakeFailed, AppFailed.
    """
    answer: Response | None = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            ready: Ready = end.value
            return ready
        if isinstance(step, CallApp):
            answer = await app.ask(step.request, ANSWERS[type(step.request)])
        else:
            await save(step.height, step.answer)
            answer = None
