"""Turns: requests that have no number yet, in a line for each node that brought them; the lines take turns.

A backup holds the primary to what it passes on: if that is not executed in time, it asks for another view. In one line
for all, a request that is passed on would stand behind a backlog that this backup may never have seen, so that each
primary would be left, and none would come to the end of the backlog. Where the lines take turns, each node's oldest
requests are next, and a node that floods the primary fills its own line alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from quorate.kernel import NodeId


class Turns:
    """Digests of requests. Each may stand in several lines, and leaves all of them at once."""

    def __init__(self) -> None:
        self._lines: OrderedDict[NodeId, OrderedDict[bytes, None]] = OrderedDict()
        """By node, the next one first; none is empty."""

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __contains__(self, digest: bytes) -> bool:
        return any(digest in line for line in self._lines.values())

    def __iter__(self) -> Iterator[bytes]:
        """In line after line; the same one perhaps several times."""
        for line in self._lines.values():
            yield from line

    def add(self, node: NodeId, digest: bytes) -> None:
        """This node brought it."""
        self._lines.setdefault(node, OrderedDict())[digest] = None

    def first(self) -> bytes | None:
        """Which is next."""
        return next(iter(next(iter(self._lines.values())))) if self._lines else None

    def take(self) -> None:
        """The next one has a number now: after it, it is another node's turn."""
        node, line = next(iter(self._lines.items()))
        self._lines.move_to_end(node)
        self.discard(next(iter(line)))

    def discard(self, digest: bytes) -> None:
        """It has a number, or was executed."""
        for node, line in list(self._lines.items()):
            if digest in line:
                del line[digest]
                if not line:
                    del self._lines[node]

    def clear(self) -> None:
        """Begin anew."""
        self._lines.clear()
