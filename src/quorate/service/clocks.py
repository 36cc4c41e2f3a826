"""Clocks: the log says now and then what time it is, so that all nodes' states know it alike.

How it works. ``EVERY_S`` after a change, the node that leads has its clock decided, once. Where nothing changes nothing
is said. A node's clock may be wrong, and another one leads later: the state machine sees to it that time does not run
backwards. Nobody relies on it for what consensus promises.
"""

from __future__ import annotations

from typing import Final

from quorate.kernel import Port
from quorate.service.requests import Clock, encode

CLOCK: Final = "clock"
"""The key of the App's timer."""
EVERY_S: Final = 1.0


class Clocks:
    """Of one node, by its number."""

    def __init__(self, node: int) -> None:
        self.node = node
        self._is_changed = False
        self._is_waiting = False

    def changed(self) -> None:
        """A command was applied."""
        self._is_changed = True

    def told(self) -> None:
        """The log has said what time it is."""
        self._is_changed = False

    def settle(self, port: Port) -> None:
        """See to it that it will be said."""
        if self._is_changed and not self._is_waiting:
            self._is_waiting = True
            port.set_timer(CLOCK, EVERY_S)

    def on_timer(self, port: Port, leader: int | None) -> None:
        """Time has passed."""
        self._is_waiting = False
        if self._is_changed and leader == self.node:
            port.submit((encode(Clock(port.wall_ns)),))
