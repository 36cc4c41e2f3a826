"""ABCI on a stream of bytes: each message after its length, as a varint.

An engine asks and an app answers, in order. ``Questions`` is the engine's end and ``Answers`` the app's; neither has a
socket. Both raise ValueError for a stream that cannot go on: close it then.

Source: CometBFT 0.38, ``spec/abci/abci++_client_server.md``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from quorate.ledger.comet.abci.contents import ABCI_BYTES_MAX
from quorate.ledger.comet.abci.request_messages import REQUEST, Request, RequestFlush
from quorate.ledger.comet.abci.response_messages import ANSWERS, RESPONSE, Response, ResponseException, ResponseFlush
from quorate.ledger.comet.proto import delimited

LENGTH_BYTES_MAX: Final = 5
UNANSWERED_MAX: Final = 1 << 16
"""Requests in flight."""


class FrameBuffer:
    """The bytes of a stream that are not yet a whole message: at most one message."""

    def __init__(self, bytes_max: int = ABCI_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now. Raises ValueError for a length that is too great, before its bytes come."""
        held = self._held
        held += data
        whole = []
        at = 0
        while (found := self._length(at)) is not None:
            start, size = found
            if len(held) < start + size:
                break
            at = start + size
            whole.append(bytes(held[start:at]))
        del held[:at]
        return whole

    def _length(self, at: int) -> tuple[int, int] | None:
        """Where the message after this place begins, and its length; None: more bytes must come."""
        size = 0
        for i, byte in enumerate(self._held[at : at + LENGTH_BYTES_MAX]):
            size |= (byte & 127) << 7 * i
            if size > self.bytes_max:
                raise ValueError(f"ABCI: a message of {size} bytes or more, at most {self.bytes_max}")
            if byte < 128:
                return at + i + 1, size
        if len(self._held) - at >= LENGTH_BYTES_MAX:
            raise ValueError(f"ABCI: a length of more than {LENGTH_BYTES_MAX} bytes")
        return None


class Questions:
    """The engine's end of one connection. After a ValueError the node must not go on: what the app did is unknown."""

    def __init__(self, bytes_max: int = ABCI_BYTES_MAX) -> None:
        self._frames = FrameBuffer(bytes_max)
        self._open: deque[Request] = deque()

    def ask(self, *requests: Request) -> bytes:
        """What to send. It ends with a flush, so that apps answer; the answer to that is not given out.

        Raises ValueError for too many that wait.
        """
        if len(self._open) + len(requests) >= UNANSWERED_MAX:
            raise ValueError(f"ABCI: more than {UNANSWERED_MAX} requests without an answer")
        asked = (*requests, RequestFlush())
        self._open.extend(asked)
        return b"".join(delimited(REQUEST.encode(request)) for request in asked)

    def receive(self, data: bytes) -> list[tuple[Request, Response]]:
        """Requests, each with its answer, in order. Raises ValueError for anything but the answer that comes next."""
        answered: list[tuple[Request, Response]] = []
        for frame in self._frames.feed(data):
            response = RESPONSE.decode(frame)
            if isinstance(response, ResponseException):
                raise ValueError(f"ABCI: the app cannot go on: {response.error[:1000]}")
            if not self._open:
                raise ValueError(f"ABCI: {type(response).__name__} answers nothing")
            request = self._open.popleft()
            if type(response) is not ANSWERS[type(request)]:
                raise ValueError(f"ABCI: {type(response).__name__} does not answer {type(request).__name__}")
            if not isinstance(response, ResponseFlush):
                answered.append((request, response))
        return answered

    @property
    def waiting(self) -> int:
        """How many requests, flushes too, have no answer."""
        return len(self._open)


class Answers:
    """The app's end of one connection."""

    def __init__(self, bytes_max: int = ABCI_BYTES_MAX) -> None:
        self._frames = FrameBuffer(bytes_max)

    def receive(self, data: bytes) -> list[Request]:
        """What is asked, in order, flushes too. Raises ValueError for what is no request."""
        return [REQUEST.decode(frame) for frame in self._frames.feed(data)]

    def answer(self, responses: Iterable[Response]) -> bytes:
        """What to send."""
        return b"".join(delimited(RESPONSE.encode(response)) for response in responses)
