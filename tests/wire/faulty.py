"""A transport whose ``writelines`` has the faults of asyncio's in Python 3.12.0 to 3.12.8, 3.13.0 and 3.13.1."""

import asyncio
import sys
from collections.abc import Iterable
from typing import Any

from tests.wire.harness import Collector


class FaultyTransport:
    """The loop's own, but ``writelines`` never pauses the protocol, and fails once either side has hung up."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def writelines(self, parts: Iterable[bytes]) -> None:
        if self._transport.is_closing():
            raise TypeError("'NoneType' object is not callable")
        self._transport.set_write_buffer_limits(high=sys.maxsize)
        self._transport.write(b"".join(parts))


class FaultyCollector(Collector):
    """A Collector above one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(FaultyTransport(transport))  # type: ignore[arg-type]
