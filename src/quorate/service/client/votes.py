"""Votes: which answer to believe where nodes may lie, by counting those that are equal. Pure.

How it works. With at most f liars, what f + 1 nodes say one honest node says. That is enough for a command, and for a
read that went through the log: what an honest node answers follows from the log (Castro and Liskov 1999, §4.2). A read
past the log needs 2f + 1 equal answers of 3f + 1 nodes (§5.1.3), and of other numbers as many as have an honest node in
common with every quorum: any write that was acknowledged is known to that one. A node has one vote, and the newest
counts. People's clients and the simulated ones use this.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from quorate.parts.quorum import Byzantine
from quorate.service.requests import Code, Failure, Result

Outcome: TypeAlias = bytes | Code
"""What a command gave, or why the log gives it nothing."""

FROM_THE_LOG: Final = (Code.NO_SESSION, Code.MALFORMED, Code.TOO_LARGE)
"""Failures that are the same on every honest node. Any other is a node's own trouble, and decides nothing."""


def outcome_of(answer: Result | Failure) -> Outcome | None:
    """What an answer says that honest nodes agree on; None where it says nothing of that kind."""
    if isinstance(answer, Result):
        return answer.data
    return answer.code if answer.code in FROM_THE_LOG else None


def for_command(faults: int) -> int:
    """How many equal answers make a command's result, or that of a read in the log."""
    return faults + 1


def for_read(nodes: int, liars: int, faults: int) -> int:
    """How many equal answers make the result of a read past the log.

    The cluster has so many nodes and decides so that it bears ``liars``; the client expects ``faults``.
    """
    return max(nodes + faults + 1 - Byzantine(range(nodes), liars).size, 2 * faults + 1)


class Votes:
    """The answers to one question. ``needed`` equal ones of ``nodes`` decide."""

    __slots__ = ("_answers", "needed", "nodes")

    def __init__(self, needed: int, nodes: int) -> None:
        self.needed = needed
        self.nodes = nodes
        self._answers: dict[int, Outcome | None] = {}

    def add(self, node: int, outcome: Outcome | None) -> bool:
        """A node's vote, in place of the one it had; whether that many nodes now say the same as it does.

        None: it cannot say now. That decides nothing, but nobody need wait for it.
        """
        self._answers[node] = outcome
        return outcome is not None and self._count(outcome) >= self.needed

    def has(self, node: int) -> bool:
        """Whether a node has said what it holds for the result."""
        return self._answers.get(node) is not None

    @property
    def is_split(self) -> bool:
        """Whether no answer can get enough votes any more, unless a node changes its mind."""
        silent = self.nodes - len(self._answers)
        most = max((self._count(outcome) for outcome in self._answers.values() if outcome is not None), default=0)
        return most + silent < self.needed

    def _count(self, outcome: Outcome) -> int:
        # A Code is text and a result is bytes, so that neither is ever taken for the other.
        return sum(other == outcome for other in self._answers.values())
