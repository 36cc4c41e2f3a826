"""Casting: a Driver without links, for tests of what is not a service: it says one thing until it is answered."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from math import inf
from typing import Any

from quorate.sim.workload import Answer, Driver, Op, Wants


class Casting(Driver):
    """``words`` is said anew every ``patience_s``, until an answer is understood or the deadline is there."""

    is_linked = False

    def __init__(self, nodes: Sequence[int], patience_s: float) -> None:
        self.nodes = nodes
        self.count = 0
        """How many operations began."""
        self.said = 0
        self._patience_s = patience_s
        self._again_at = self._deadline = inf
        self._is_under_way = False
        self._sends: list[tuple[int, Any]] = []
        self._answer: Answer | None = None

    @abstractmethod
    def words(self) -> list[tuple[int, Any]]:
        """What to say, and to which nodes."""

    @abstractmethod
    def understands(self, response: Any) -> bool:
        """Whether this is the answer to the operation."""

    def begin(self, op: Op, now: float, deadline: float) -> None:
        self.count += 1
        self._is_under_way = True
        self._deadline = deadline
        self._say(now)

    def extend(self, deadline: float) -> None:
        self._deadline = deadline

    def receive(self, node: int, response: Any, now: float) -> None:
        if self._is_under_way and self.understands(response):
            self._end(Answer("ok", True))

    def tick(self, now: float) -> None:
        if not self._is_under_way:
            return
        if now >= self._deadline:
            self._end(Answer("info"))
        elif now >= self._again_at:
            self._say(now)

    def take(self) -> Wants | None:
        wants = Wants(self._sends, answer=self._answer)
        self._sends, self._answer = [], None
        return wants

    @property
    def wake_at(self) -> float:
        return min(self._again_at, self._deadline) if self._is_under_way else inf

    def _say(self, now: float) -> None:
        self.said += 1
        self._sends = self.words()
        self._again_at = now + self._patience_s

    def _end(self, answer: Answer) -> None:
        self._is_under_way = False
        self._answer = answer
