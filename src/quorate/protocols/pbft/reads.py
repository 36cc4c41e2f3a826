"""WaitingReads (§5.1.3): reads that are answered from the state, when all that had prepared here is executed.

A write that a client has its answer to had prepared at f + 1 correct nodes; 2f + 1 equal answers hold that of one of
them.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.kernel import Env
from quorate.parts.log.replicated import ReadFailed, ReadReady
from quorate.protocols.pbft.history import History
from quorate.protocols.pbft.message_log import MessageLog
from quorate.protocols.pbft.view import CurrentView

READS_MAX = 65_536


class WaitingReads:
    """Tokens, and up to which number each must see the order."""

    def __init__(self, env: Env, view: CurrentView, log: MessageLog, history: History) -> None:
        self._env = env
        self._view = view
        self._log = log
        self._history = history
        self._waiting: list[tuple[int, tuple[int, ...]]] = []

    def read(self, tokens: Sequence[int]) -> None:
        """Answered once what a client may know of is executed here."""
        waiting = sum(len(some) for _, some in self._waiting)
        if not self._view.is_member or self._history.is_switching:
            self._env.deliver(ReadFailed(tuple(tokens), "this node does not vote, so it may lack what is decided"))
            return
        if waiting + len(tokens) > READS_MAX:
            self._env.deliver(ReadFailed(tuple(tokens), "too many reads wait"))
            return
        self._waiting.append((self._read_point(), tuple(tokens)))

    def _read_point(self) -> int:
        """The highest number that a client may have an answer to. What the new view left out was committed nowhere."""
        slots, reach, is_changing = self._log.slots, self._view.reach, self._view.is_changing
        return max(
            (
                sequence
                for sequence in self._log.prepared
                if sequence <= reach or is_changing or (sequence in slots and slots[sequence].prepared is not None)
            ),
            default=0,
        )

    def answer(self) -> None:
        """Those that need wait no longer."""
        if not self._waiting:
            return
        executed = self._history.executed
        if ready := [token for point, tokens in self._waiting if point <= executed for token in tokens]:
            self._waiting = [read for read in self._waiting if read[0] > executed]
            self._env.deliver(ReadReady(tuple(ready)))

    def fail(self) -> None:
        """Others vote now."""
        waiting, self._waiting = self._waiting, []
        for _, tokens in waiting:
            self._env.deliver(ReadFailed(tokens, "the members have changed"))

    def lower(self, highest: int) -> None:
        """A new view decided what of the prepared is kept: beyond ``highest`` nothing was committed."""
        self._waiting = [(min(point, highest), tokens) for point, tokens in self._waiting]
