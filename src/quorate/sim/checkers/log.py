"""Agreement on a log: no two nodes ever commit different entries at one index, and none skips or repeats one.

What any node commits first becomes the agreed entry; every later commit of that index, by any node in any life, is
compared with it once. A node's outputs of one life start at index 1 or after the snapshot that it restored, and have no
gaps.
"""

from __future__ import annotations

from typing import Any

from quorate.kernel import Core
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Decided, Restored
from quorate.sim.checkers.base import Checker, Violation

AGREEMENT = "state machine safety"
ORDER = "order of commits"


class LogAgreement(Checker):
    """``agreed[index - 1]`` is what was committed at ``index``."""

    def __init__(self) -> None:
        self.agreed: list[Entry] = []
        self.reached: dict[int, int] = {}
        """By node, the last index that its App was given in this life."""
        self._first: list[int] = []

    def started(self, node: int, core: Core) -> None:
        self.reached[node] = 0

    def output(self, node: int, value: Any) -> None:
        kind = type(value)
        if kind is Decided:
            self._committed(node, value)
        elif kind is Restored:
            self._restored(node, value.index)

    def _committed(self, node: int, value: Decided) -> None:
        index = value.first_index
        if index != self.reached[node] + 1:
            raise Violation(
                ORDER,
                f"node {node} commits index {index}, but its last one was {self.reached[node]}: a gap or a repeat",
            )
        agreed = self.agreed
        for entry in value.entries:
            if index > len(agreed):
                agreed.append(entry)
                self._first.append(node)
            else:
                known = agreed[index - 1]
                if known is not entry and known != entry:
                    raise Violation(
                        AGREEMENT,
                        f"at index {index} node {node} commits {entry!r}, but node {self._first[index - 1]} "
                        f"committed {known!r}",
                    )
            index += 1
        self.reached[node] = index - 1

    def _restored(self, node: int, index: int) -> None:
        if index < self.reached[node]:
            raise Violation(ORDER, f"node {node} goes back from index {self.reached[node]} to a snapshot at {index}")
        if index > len(self.agreed):
            raise Violation(
                AGREEMENT,
                f"node {node} restores a snapshot at index {index}, but no node committed beyond {len(self.agreed)}",
            )
        self.reached[node] = index
