"""The engine's end of one ABCI connection, without a socket: requests in order, an answer for each, and a clock.

How it works. ``ask`` takes a request with whoever waits for its answer; ``take`` gives the bytes of all requests since
the last time, and a flush after them, without which apps in Go answer nothing. ``receive`` gives each who waits the
answer. Two clocks run: one for the oldest request without an answer, one for an answer that has begun and is not whole.
``due_at`` says when ``on_time`` must be called. So an app that is silent, or sends its answer byte by byte, fails as
surely as one that answers wrongly.

A connection that has failed stays failed: ``failure`` says what was wrong and what to do. The node must stop then, as
it cannot know what the app did (CometBFT 0.38 does so too, ``proxy/multi_app_conn.go``). CometBFT has no clocks here.

Source: CometBFT 0.38, ``spec/abci/abci++_client_server.md``, ``abci/client/socket_client.go``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import ClassVar, Final, Generic, NamedTuple, TypeVar

from quorate.ledger.comet.abci import request_messages as requests
from quorate.ledger.comet.abci.answer_checks import check_answer
from quorate.ledger.comet.abci.contents import ABCI_BYTES_MAX
from quorate.ledger.comet.abci.frames import FrameBuffer
from quorate.ledger.comet.abci.request_messages import REQUEST, Request, RequestFlush
from quorate.ledger.comet.abci.response_messages import ANSWERS, RESPONSE, Response, ResponseException
from quorate.ledger.comet.wire_reader import delimited
from quorate.parts.bounds import COUNTS, SIZES, TIMES, BoundedConfig, Bounds

W = TypeVar("W")

SHOWN_CHARACTERS_MAX: Final = 1000
"""Of what an app says, in an error."""
LONG_CALLS: Final = frozenset(
    {
        requests.RequestInitChain,
        requests.RequestFinalizeBlock,
        requests.RequestCommit,
        requests.RequestOfferSnapshot,
        requests.RequestApplySnapshotChunk,
    }
)
"""In which an app does work of its own: reads a genesis of gigabytes, migrates its store, restores a snapshot."""

ORDER: Final = "the app must answer the requests of a connection in order, in ABCI 0.38: mend the app"
LOG: Final = "look into the app's log, start the app again, then the node"
ADDRESS: Final = "see whether the address is that of an app that speaks ABCI 0.38 over a socket, not gRPC or HTTP"


class AskLimits(BoundedConfig, frozen=True):
    """Bounds of one connection to an app."""

    bounds: ClassVar[Mapping[str, Bounds]] = {
        "message_bytes_max": SIZES,
        "unanswered_max": COUNTS,
        "unanswered_bytes_max": SIZES,
        "answer_timeout_s": TIMES,
        "long_timeout_s": TIMES,
        "whole_timeout_s": TIMES,
    }

    message_bytes_max: int = ABCI_BYTES_MAX
    """Of one answer."""
    unanswered_max: int = 1 << 16
    unanswered_bytes_max: int = 2 * ABCI_BYTES_MAX
    """Of requests that have no answer yet, sent or not."""
    answer_timeout_s: float = 60.0
    """From when a request is the oldest one without an answer."""
    long_timeout_s: float = 3600.0
    """The same for ``LONG_CALLS``."""
    whole_timeout_s: float = 60.0
    """From the first byte of an answer to its last."""


class AppFailed(Exception):
    """An app that cannot be asked any more: it is gone, broke the rules, or does not answer. The node must stop."""

    def again(self) -> AppFailed:
        """The same for another who asks: an exception that is raised twice keeps all that it was raised through."""
        return AppFailed(*self.args)


class AppBusy(Exception):
    """Too many requests, or bytes of them, wait for the app: ask again when some are answered. Nothing was asked."""


class _Broken(Exception):
    """What an app did that it must not, and what to do about it."""

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(what)
        self.what = what
        self.cure = cure


class _Asked(NamedTuple, Generic[W]):
    request: Request
    waiter: W | None
    """None: a flush of our own."""
    size_bytes: int


class EngineEnd(Generic[W]):
    """One connection; ``W`` is who waits for an answer. Times are seconds of any clock that only goes forward."""

    def __init__(self, name: str, limits: AskLimits | None = None) -> None:
        self.name = name
        """How errors call it."""
        self.limits = limits or AskLimits()
        self.failure: AppFailed | None = None
        self._frames = FrameBuffer(self.limits.message_bytes_max)
        self._asked: deque[_Asked[W]] = deque()
        self._unanswered_bytes = 0
        self._unsent: list[bytes] = []
        self._oldest_since = 0.0
        """When the first of ``_asked`` became that."""
        self._begun_at = 0.0
        """When the answer that is not whole began."""

    def ask(self, request: Request, waiter: W, now: float) -> None:
        """Put a request behind the others. Raises AppFailed, AppBusy, and ValueError for one that cannot be encoded."""
        if self.failure is not None:
            raise self.failure.again()
        encoded = delimited(REQUEST.encode(request))
        if len(self._asked) + 2 > self.limits.unanswered_max:
            raise AppBusy(f"{self.name}: {len(self._asked)} requests wait for an answer, which is as many as may")
        if self._asked and self._unanswered_bytes + len(encoded) > self.limits.unanswered_bytes_max:
            raise AppBusy(f"{self.name}: requests of {self._unanswered_bytes} bytes wait for an answer")
        self._put(request, waiter, encoded, now)

    def take(self, now: float) -> bytes:
        """What to send now; empty if there is nothing. What is asked later goes with the next."""
        if not self._unsent:
            return b""
        self._put(RequestFlush(), None, _FLUSH, now)
        taken = b"".join(self._unsent)
        self._unsent.clear()
        return taken

    def receive(self, data: bytes, now: float) -> list[tuple[W, Response]]:
        """Who waited, each with the answer, in order. Look at ``failure`` after it."""
        answered: list[tuple[W, Response]] = []
        if self.failure is not None:
            return answered
        held_before = self._frames.held_bytes
        try:
            frames = self._frames.feed(data)
        except ValueError as error:
            self._fail(str(error), ADDRESS)
            return answered
        if frames or not held_before:
            self._begun_at = now
        for frame in frames:
            try:
                waiter, response = self._answer(frame, now)
            except _Broken as broken:
                self._fail(broken.what, broken.cure)
                break
            if waiter is not None:
                answered.append((waiter, response))
        return answered

    def due_at(self) -> float | None:
        """When to call ``on_time``, if nothing comes before; None: there is nothing to wait for."""
        if self.failure is not None:
            return None
        clocks = [self._oldest_since + self._patience_s()] if self._asked else []
        if self._frames.held_bytes:
            clocks.append(self._begun_at + self.limits.whole_timeout_s)
        return min(clocks, default=None)

    def on_time(self, now: float) -> None:
        """It is so late. Look at ``failure`` after it."""
        due_at = self.due_at()
        if due_at is None or now < due_at:
            return
        if self._frames.held_bytes and now >= self._begun_at + self.limits.whole_timeout_s:
            held = self._frames.held_bytes
            self._fail(f"an answer began {now - self._begun_at:.1f} s ago and has {held} bytes so far", LOG)
        else:
            name = _name(self._asked[0].request)
            self._fail(f"no answer to {name} for {now - self._oldest_since:.1f} s", f"the app hangs: {LOG}")

    def lost(self, why: str) -> None:
        """The connection is gone. It has failed then, if it had not before."""
        self._fail(f"{why}, with {self.waiting} requests unanswered", LOG)

    @property
    def waiting(self) -> int:
        """How many requests have no answer; our flushes do not count."""
        return sum(asked.waiter is not None for asked in self._asked)

    def abandon(self) -> list[W]:
        """Who still waits, oldest first; they get no answer from here any more."""
        waiters = [asked.waiter for asked in self._asked if asked.waiter is not None]
        self._asked.clear()
        self._unsent.clear()
        self._unanswered_bytes = 0
        return waiters

    def _put(self, request: Request, waiter: W | None, encoded: bytes, now: float) -> None:
        if not self._asked:
            self._oldest_since = now
        self._asked.append(_Asked(request, waiter, len(encoded)))
        self._unanswered_bytes += len(encoded)
        self._unsent.append(encoded)

    def _answer(self, frame: bytes, now: float) -> tuple[W | None, Response]:
        """What a whole message is: the answer to the oldest request. Raises _Broken for anything else."""
        try:
            response = RESPONSE.decode(frame)
        except ValueError as error:
            raise _Broken(f"what came is not an answer of ABCI: {error}", ADDRESS) from None
        if isinstance(response, ResponseException):
            raise _Broken(f"the app says that it cannot go on: {_shown(response.error)!r}", LOG)
        kind = type(response).__name__
        if not self._asked:
            raise _Broken(f"a {kind} came, and nothing was asked", ORDER)
        request, waiter, size_bytes = self._asked[0]
        if type(response) is not ANSWERS[type(request)]:
            raise _Broken(f"a {kind} came as the answer to {_name(request)}", ORDER)
        try:
            check_answer(request, response)
        except ValueError as error:
            raise _Broken(f"the answer to {_name(request)} breaks a rule: {error}", "mend the app") from None
        self._asked.popleft()
        self._unanswered_bytes -= size_bytes
        self._oldest_since = now
        return waiter, response

    def _patience_s(self) -> float:
        is_long = type(self._asked[0].request) in LONG_CALLS
        return self.limits.long_timeout_s if is_long else self.limits.answer_timeout_s

    def _fail(self, what: str, cure: str) -> None:
        if self.failure is None:
            self.failure = AppFailed(f"{self.name}: {what}. What to do: {cure}.")


_FLUSH: Final = delimited(REQUEST.encode(RequestFlush()))


def _name(request: Request) -> str:
    return type(request).__name__.removeprefix("Request")


def _shown(text: str) -> str:
    """What an app says, fit for a log: a line, and not a long one."""
    cut = text[:SHOWN_CHARACTERS_MAX]
    return "".join(char if char.isprintable() else "?" for char in cut) + ("..." if len(text) > len(cut) else "")
