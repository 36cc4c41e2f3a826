"""Greeting: connections that begin with the handshake, one class for each side.

How it works. Until the handshake is done a connection takes one small frame at a time and has a deadline. The called
side judges the Hello and answers; a caller that sends more before it has its Welcome is cut off. From then on the
connection has its full limits, and frames go to ``on_message_frames``. If both sides have proved keys, frames are
sealed.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from quorate.runtime.framing import SEALED_BYTES, FrameConnection, FrameLimits
from quorate.runtime.handshake import (
    HELLO_SIZE_BYTES_MAX,
    Hello,
    LocalNode,
    Refused,
    Role,
    Welcome,
    answer_in,
    encode,
    judge,
)

if TYPE_CHECKING:
    from quorate.runtime.sealing import SealedChannel, Unseal  # most clusters seal nothing, and do not load it

REPEAT_AFTER_S = 60.0
TOLD_COUNT_MAX = 256


class Told:
    """Warnings in the log, each text at most once a minute: a caller that knocks all day fills no disk."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._told: OrderedDict[str, float] = OrderedDict()

    def __call__(self, text: str) -> None:
        text = "".join(char if char.isprintable() else "?" for char in text)  # parts of it came from outside
        now = time.monotonic()
        if now - self._told.get(text, -REPEAT_AFTER_S) < REPEAT_AFTER_S:
            return
        self._logger.warning("%s", text)
        self._told[text] = now
        self._told.move_to_end(text)
        if len(self._told) > TOLD_COUNT_MAX:
            self._told.popitem(last=False)


class GreetedConnection(FrameConnection):
    """What both sides share: the deadline, and full limits after the handshake."""

    def __init__(self, limits: FrameLimits, timeout_s: float) -> None:
        super().__init__(limits)
        self.frame_size_bytes_max = min(HELLO_SIZE_BYTES_MAX, limits.frame_size_bytes_max)
        self.is_welcome = False
        self._unseal: Unseal | None = None
        self._deadline = self.loop.call_later(timeout_s, self._overdue, timeout_s)

    def on_welcome(self) -> None:
        """The handshake is done."""

    def on_message_frames(self, frames: list[bytes]) -> None:
        """Frames after the handshake; never empty."""
        raise NotImplementedError

    def on_greeting(self, frame: bytes) -> None:
        """The first frame."""
        raise NotImplementedError

    def on_frames(self, frames: list[bytes]) -> None:
        if self.is_welcome:
            self._take(frames)
            return
        self.on_greeting(frames[0])
        if len(frames) > 1 and self.is_open:
            if self._may_follow_greeting():
                self._take(frames[1:])
            else:
                self.cut("sent more before it was welcome")

    def on_lost(self, why: str) -> None:
        self._deadline.cancel()

    def _may_follow_greeting(self) -> bool:
        """Whether the other side may send on at once after its first frame: the called may, the caller must wait."""
        raise NotImplementedError

    def _take(self, frames: list[bytes]) -> None:
        """Of frames that are sealed, those before the first that does not open are as good as any."""
        if self._unseal is None:
            self.on_message_frames(frames)
            return
        payloads: list[bytes] = []
        why = ""
        try:
            for frame in frames:
                payloads.append(self._unseal(frame))
        except ValueError as error:
            why = str(error)
        if payloads:
            self.on_message_frames(payloads)
        if why and self.is_open:
            self.on_violation(why)

    def _welcomed(self, channel: SealedChannel | None = None) -> None:
        """From now on frames are sealed, if there is a channel. The last one of the handshake is sent."""
        self._deadline.cancel()
        self.frame_size_bytes_max = self.limits.frame_size_bytes_max
        if channel is not None:
            self.seal, self._unseal = channel
            self.frame_size_bytes_max += SEALED_BYTES
        self.is_welcome = True
        self.on_welcome()

    def _overdue(self, timeout_s: float) -> None:
        """Also ends a connection that was refused and does not take its refusal."""
        self.cut(f"did not finish the handshake within {timeout_s:g} s")


class Accepted(GreetedConnection):
    """The called side of a connection."""

    def __init__(self, me: LocalNode, role: Role, limits: FrameLimits, timeout_s: float, tell: Told) -> None:
        super().__init__(limits, timeout_s)
        self._tell = tell
        self.me = me
        self.role = role
        self.hello: Hello | None = None

    def admit(self, hello: Hello) -> Refused | None:
        """A last reason to refuse a caller whose Hello is right."""

    def on_greeting(self, frame: bytes) -> None:
        judged = judge(frame, self.me, self.role)
        refusal = judged if isinstance(judged, Refused) else self.admit(judged)
        if refusal is not None:
            self.refuse(refusal)
        elif isinstance(judged, Hello):
            self.hello = judged
            self.send(encode(self.me.welcome()))
            self._welcomed()

    def refuse(self, refusal: Refused) -> None:
        """Say why, and hang up."""
        self._tell(f"refused {self.remote.rpartition(':')[0]} on the {self.role} port: {refusal.why}")
        self.send(encode(refusal))
        self.close(f"refused ({refusal.code}): {refusal.why}")

    def _may_follow_greeting(self) -> bool:
        return False


class Dialled(GreetedConnection):
    """The calling side. ``welcome`` is the answer once it is there."""

    def __init__(self, hello: Hello, limits: FrameLimits, timeout_s: float) -> None:
        super().__init__(limits, timeout_s)
        self.welcome: Welcome | None = None
        self._hello = hello

    def on_refused(self, refusal: Refused) -> None:
        """The called hangs up."""

    def on_open(self) -> None:
        self.send(encode(self._hello))

    def on_greeting(self, frame: bytes) -> None:
        try:
            answer = answer_in(frame)
        except ValueError as error:
            self.cut(str(error))
            return
        if isinstance(answer, Refused):
            self.on_refused(answer)
            self.cut(f"refused us: {answer.why!r}")
        elif self._hello.target not in (None, answer.node):
            self.cut(f"is node {answer.node}, not {self._hello.target}: check the addresses of the nodes")
        elif self._hello.cluster not in ("", answer.cluster):
            self.cut(f"is of cluster {answer.cluster!r}, not {self._hello.cluster!r}: check the addresses of the nodes")
        else:
            self.welcome = answer
            self._welcomed()

    def _may_follow_greeting(self) -> bool:
        return True
