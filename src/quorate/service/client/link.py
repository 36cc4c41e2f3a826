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
ANSWER_LIMITS: Final = FrameLimits(1 << 20, 1 << 20, 16)
"""Of a link for a single question about the cluster."""


class Link(Dialled):
    """``on_reply(frames)`` gets the replies of one read; ``lost`` is done when the link is."""

    def __init__(
        self,
        on_reply: Callable[[list[bytes]], None],
        timeout_s: float,
        cluster: str = "",
        limits: FrameLimits | None = None,
    ) -> None:
        super().__init__(client_hello(cluster), limits or LIMITS, timeout_s)
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
    address: str,
    on_reply: Callable[[list[bytes]], None],
    timeout_s: float,
    cluster: str = "",
    limits: FrameLimits | None = None,
) -> tuple[Link, int]:
    """Connect and greet; the link, and which node is there. ``cluster``: whose node it must be. Raises Unreachable."""
    host, port = parse_address(address)
    link: Link | None = None
    try:
        async with asyncio.timeout(timeout_s):
            link, reached = await NAMES.connect(
                lambda: Link(on_reply, timeout_s, cluster, limits), host, port, timeout_s
            )
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


async def ask_node(address: str, request: bytes, timeout_s: float, cluster: str = "") -> bytes:
    """One answer to one request, on a link of its own: at most 1 MiB, in twice the time at most. Raises Unreachable."""
    answer: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()

    def on_reply(frames: list[bytes]) -> None:
        if not answer.done():
            answer.set_result(frames)

    link, _ = await dial(address, on_reply, timeout_s, cluster, ANSWER_LIMITS)
    link.lost.add_done_callback(lambda _: answer.done() or answer.cancel())
    try:
        link.send(request)
        async with asyncio.timeout(timeout_s):
            await asyncio.wait((answer,))
        if answer.cancelled():
            raise Unreachable(f"{address} hung up without an answer: {link.why}")
        return answer.result()[0]
    except TimeoutError:
        raise Unreachable(f"{address} accepts connections but gives no answer") from None
    finally:
        link.close("done")
