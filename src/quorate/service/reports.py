"""Reports: what a node itself has decided, beside what clients ask for: audits of its state, marks, announcements.

How it works. They go into the log like a client's command, and a node does not wait for them: what the log lacks after
a while is submitted again, and what comes twice means nothing the second time. A node that starts finds most of its
reports in the log that it replays, so the first are said a moment later.
"""

from __future__ import annotations

from typing import Final

from quorate.kernel import Port
from quorate.machines.state_machine import StateMachine
from quorate.service.audits import Audits
from quorate.service.requests import Announce, Audit, Mark, encode

SAY: Final = "say"
QUIET: Final = "quiet"
SAY_S: Final = 0.05
AGAIN_S: Final = 5.0
QUIET_S: Final = 10.0
"""At least so often there is a point, where there are commands."""


class Reports:
    """Those of one node about its machine."""

    def __init__(self, machine: StateMachine, audits: Audits) -> None:
        self.node = audits.node
        self._machine = machine
        self._audits = audits
        self._is_changed = False
        """Whether there were commands since the last point."""
        self._is_saying = False
        self._is_marking = False
        self._has_begun = False

    def applied(self, index: int, has_changed: bool) -> None:
        """An entry of the log was applied, a client's command if the state may have changed.

        A report changes nothing that is compared: else the audits of one point would call for the next, for ever.
        """
        if index % self._audits.entries == 0:
            self._reach(index)
        elif has_changed:
            self._is_changed = True

    def take(self, index: int, report: Audit | Mark | Announce) -> None:
        """The log has a node's report. Raises StateDiffers."""
        if type(report) is Audit:
            self._audits.hear(report)
        elif type(report) is Announce:
            self._machine.announced(report.node, report.data)
        elif index % self._audits.entries:
            self._reach(index)

    def settle(self, port: Port, is_led: bool) -> None:
        """See to it that what is to be said will be, once there is a leader to say it to."""
        if is_led and not self._is_saying and (not self._has_begun or self._audits.unheard()):
            self._is_saying = self._has_begun = True
            port.set_timer(SAY, SAY_S)
        if self._is_changed and not self._is_marking:
            self._is_marking = True
            port.set_timer(QUIET, QUIET_S)

    def on_timer(self, key: str, port: Port, is_leading: bool) -> None:
        """It is time to say something."""
        if key == QUIET:
            self._is_marking = False
            if self._is_changed and is_leading:
                port.submit((encode(Mark()),))
            return
        said: list[Audit | Announce] = list(self._audits.unheard())
        if data := self._machine.announcement(self.node, self._audits.members()):
            said.append(Announce(self.node, data))
        self._is_saying = bool(said)
        if said:
            port.submit([encode(report) for report in said])
            port.set_timer(SAY, AGAIN_S)

    def _reach(self, index: int) -> None:
        self._is_changed = False
        self._audits.reach(index, self._machine.version, self._machine.digests())
