"""Link: a client's connection to one node, with its handshake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from quorate.runtime.address import parse_address
from quorate.runtime.framing import FrameLimits
from quorate.runtime.greeting import Dialled
from quorate.runtime.handshake import Greeted, client_hello
from quorate.runtime.names import NAMES
from quorate.service.client.errors import Unreachable

FRAME_BYTES_MAX: Final = 16 << 20
DIAL_TIMEOUT_S: Final = 2.0
LIMITS: Final = FrameLimits(FRAME_BYTES_MAX, 64 << 20, 65536)


class Link(Dialled):
    """``on_reply(frames)`` gets the replies of one read; ``lost`` is done when the link is."""

    def __init__(self, on_reply: Callable[[list[bytes]], None], timeout_s: float, cluster: str = "") -> None:
        super().__init__(client_hello(cluster), LIMITS, timeout_s)
        self._on_reply = on_reply
        self.welcomed: asyncio.Future[int] = self.loop.create_future()

    @property
    def greeted(self) -> Greeted:
        """What this node says of its cluster."""
        assert self.welcome is not None
        return Greeted(self.welcome.cluster, self.welcome.bears)

    def on_open(self) -> None:
        self.keep_alive(30.0)
        super().on_open()

    def on_welcome(self) -> None:
        assert self.welcome is not None
        if not self.welcomed.done():
            self.welcomed.set_result(self.welcome.node)

    def on_message_frames(self, frames: list[bytes]) -> None:
        self._on_reply(frames)

    def on_lost(self, why: str) -> None:
        super().on_lost(why)
        if not self.welcomed.done():
            self.welcomed.set_exception(Unreachable(why))
            self.welcomed.exception()  # whoever dialled may have given up: then nobody asks for it


async def dial(
    address: str, on_reply: Callable[[list[bytes]], None], timeout_s: float, cluster: str = ""
) -> tuple[Link, int]:
    """Connect and greet; the link, and which node is there. ``cluster``: whose node it must be. Raises Unreachable."""
    host, port = parse_address(address)
    link: Link | None = None
    try:
        async with asyncio.timeout(timeout_s):
            link, reached = await NAMES.connect(lambda: Link(on_reply, timeout_s, cluster), host, port, timeout_s)
            try:
                return link, await asyncio.shield(link.welcomed)
            finally:
                NAMES.learn(host, port, reached, link.is_welcome)
    except TimeoutError:
        raise Unreachable(f"{address} did not answer within {timeout_s:g} s") from None
    except ConnectionRefusedError:
        raise Unreachable(f"{address}: connection refused, nothing listens there") from None
    except (OSError, ValueError) as error:  # a name that is none is a ValueError
        raise Unreachable(f"{address}: {(error.strerror if isinstance(error, OSError) else None) or error}") from None
    except Unreachable as error:
        raise Unreachable(f"{address}: {error}") from None
    finally:
        if link is not None and not link.is_welcome:
            link.cut("not welcome in time")
