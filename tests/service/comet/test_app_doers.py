"""What a node has its app do: an answer that is long in coming is spoken of."""

import asyncio
import logging
from typing import Any

import pytest

from quorate.kernel import Job
from quorate.ledger.comet.abci.request_messages import Request, RequestInfo
from quorate.ledger.comet.abci.response_messages import ResponseInfo
from quorate.machines.abci.kvstore import KVStoreApp
from quorate.protocols.tendermint.app_messages import AskApp
from quorate.service.abci.app_calls import LocalApp
from quorate.service.comet import app_doers
from quorate.service.comet.app_doers import AppDoers

from tests.runtime.servers import until


class LateApp(LocalApp):
    """Answers when it is let go."""

    def __init__(self) -> None:
        super().__init__(KVStoreApp())
        self.let_go = asyncio.Event()

    async def ask(self, request: Request, kind: Any) -> Any:
        await self.let_go.wait()
        return await super().ask(request, kind)


def test_an_app_that_says_nothing_is_spoken_of_and_may_answer_yet(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_doers, "TELL_EVERY_S", 0.01)

    async def main() -> Any:
        doers = AppDoers()
        doers.calls = late = LateApp()
        asked = asyncio.ensure_future(doers.doers[AskApp](None, Job((), "key", AskApp(RequestInfo()))))  # type: ignore[arg-type]
        await until(lambda: len(caplog.records) >= 2)
        late.let_go.set()
        return await asked

    with caplog.at_level(logging.WARNING, "quorate.comet"):
        answer = asyncio.run(asyncio.wait_for(main(), 20))
    assert isinstance(answer, ResponseInfo)
    assert caplog.records[1].message == "the app has not answered RequestInfo for 0.02 s"
