"""A state as it was at one moment, for a writer in another thread while commands go on.

Nothing is copied when the capture is made, save the attributes. A container is copied, shallowly, when it is first
changed after that: `save` is called before the change. The writer copies each container when it comes to it, unless
such a copy is there. Both look and copy under one lock, so whichever is first has what stood there at the capture, and
the loop thread waits for one shallow copy at most. Objects are never read by the writer: their images are.
"""

from __future__ import annotations

import threading
from typing import Any


class Capture:
    """The attributes at the capture, and copies of containers that changed since."""

    def __init__(self, attributes: dict[str, Any], holds: dict[int, Any]) -> None:
        self.attributes = attributes
        self.holds = holds
        self.dropped: dict[int, tuple[Any, Any]] = {}
        """Objects that left the state since, with their Holds."""
        self.is_done = False
        self._lock = threading.Lock()
        self._saved: dict[int, tuple[Any, Any]] = {}

    def save(self, node: Any) -> None:
        """A container or Hold is about to change."""
        if id(node) not in self._saved:
            with self._lock:
                self._saved[id(node)] = node, node.plain()

    def read(self, node: Any) -> Any:
        """A shallow copy of a container, or the image of a Hold, as of the capture."""
        with self._lock:
            saved = self._saved.get(id(node))
            return node.plain() if saved is None else saved[1]

    def hold_of(self, value: Any) -> Any:
        """The Hold of an object that was in the state at the capture; None for a leaf."""
        hold = self.holds.get(id(value))
        if hold is not None:
            return hold
        dropped = self.dropped.get(id(value))
        return dropped[1] if dropped is not None and dropped[0] is value else None
