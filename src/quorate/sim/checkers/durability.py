"""Nothing acknowledged is ever lost: what a client was told is done stands in the agreed log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.checkers.log import LogAgreement

if TYPE_CHECKING:
    from quorate.sim.world import World

DURABILITY = "durability"


class Durability(Checker):
    """Compares the writes that were answered with the log, where the Subject can tell them in its commands."""

    def __init__(self, log: LogAgreement) -> None:
        self._log = log

    def finish(self, world: World) -> None:
        acknowledged = world.clients.acknowledged
        if not acknowledged:
            return
        decided = {identity for entry in self._log.agreed for identity in world.subject.identities(entry.data)}
        for identity, op in acknowledged.items():
            if identity not in decided:
                raise Violation(DURABILITY, f"{op.f} of {op.value!r} at {op.key} was acknowledged, but is in no log")
