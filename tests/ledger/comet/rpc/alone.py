"""The RPC without a socket or an event loop, before the recorded chain."""

from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from quorate.ledger.comet.rpc.jsonrpc import RPCCore
from quorate.ledger.comet.rpc.view import RPCRefusal

from tests.ledger.comet.rpc.recorded_view import Nobody, RecordedView

T = TypeVar("T")

VIEW = RecordedView(3)
CORE = RPCCore(VIEW, None)


class Alone(Nobody):
    """A caller whose transactions are not decided."""

    async def until_decided(self, tx: bytes, submit: Any) -> Any:
        checked = await submit()
        if not checked.code:
            raise RPCRefusal("timed out")
        return checked, None


def done(call: Coroutine[Any, Any, T]) -> T:
    """What a call comes to that waits for nothing: there is no event loop here."""
    with pytest.raises(StopIteration) as ended:
        call.send(None)
    found: T = ended.value.value
    return found


def caller(_: object) -> Alone:
    return Alone(VIEW)
