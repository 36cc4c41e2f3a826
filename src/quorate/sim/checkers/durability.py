"""Nothing acknowledged is ever lost: what a client was told is done stands in the agreed log."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from quorate.sim.checkers.base import Checker, Violation, Watched
from quorate.sim.checkers.log import LogAgreement

DURABILITY = "durability"


class Durability(Checker):
    """Compares the writes that were answered with the log; ``identities`` tells those that an entry's command holds."""

    def __init__(self, log: LogAgreement, identities: Callable[[bytes], Iterable[Hashable]]) -> None:
        self._log = log
        self._identities = identities

    def finish(self, world: Watched) -> None:
        acknowledged = world.workload.acknowledged
        if not acknowledged:
            return
        decided = {identity for entry in self._log.agreed for identity in self._identities(entry.data)}
        for identity, op in acknowledged.items():
            if identity not in decided:
                raise Violation(DURABILITY, f"{op.f} of {op.value!r} at {op.key} was acknowledged, but is in no log")
