"""Paxos with planted bugs, each against one rule of the paper. The simulator must catch every one."""

from typing import Any

from quorate.protocols.paxos.core import Paxos
from quorate.protocols.paxos.messages import Accepted, Begun, Prepare, Promised, Voted
from quorate.protocols.paxos.replicated import PaxosLog
from quorate.protocols.paxos.roles import Learner, Proposer, SingleAcceptor
from quorate.sim.mutant import Mutant


class SingleForgetsBallot(Proposer):
    """Breaks §2.5: a proposer begins with a number above all that it ever used."""

    def restore(self, record: Begun) -> None:
        """Nothing."""


class ForgetsPromise(SingleAcceptor):
    """Breaks P1a and §2.5: an acceptor remembers its promise. This one keeps only what it accepted."""

    def restore(self, record: Promised | Voted) -> None:
        """Only acceptances."""
        if isinstance(record, Voted):
            super().restore(record)

    def on_prepare(self, sender: int, m: Prepare) -> None:
        """Promises, and forgets."""
        super().on_prepare(sender, m)
        self.promised = self.accepted


class SingleLosesPromise(SingleAcceptor):
    """Breaks §2.5 in a restart alone: an acceptor remembers its promise."""

    def restore(self, record: Promised | Voted) -> None:
        """Only acceptances."""
        if isinstance(record, Voted):
            super().restore(record)


class SingleChoosesFreely(Proposer):
    """Breaks P2c: where a value was accepted, that of the highest ballot is proposed."""

    def choose(self) -> bytes:
        """Its own value, always."""
        return self.wanted or b""


class SingleMixesBallots(Learner):
    """Breaks §2.3: chosen means one ballot, accepted by a quorum."""

    def agreeing(self, message: Accepted) -> list[int]:
        """All who ever accepted anything."""
        return list(self._newest)


class PassesByOne(PaxosLog):
    """Breaks ``parts/slots.py``: a slot is passed by once a quorum has its value."""

    def _held(self) -> int:
        """As far as any node says."""
        return self.floor


def _log_of(name: str, roles: dict[str, Any]) -> type[PaxosLog]:
    """A log whose slots have these roles."""
    single = type(name, (Paxos,), roles)
    return type(f"{name}Log", (PaxosLog,), {"single": single, "children": (single,)})


MUTANTS = (
    Mutant(
        "reuses-ballot",
        "a proposer that restarts uses its ballots again",
        core=_log_of("ReusesBallot", {"proposer_class": SingleForgetsBallot}),
    ),
    Mutant(
        "forgets-promise",
        "an acceptor promises and does not keep it, in memory or on disk",
        core=_log_of("BreaksPromise", {"acceptor_class": ForgetsPromise}),
    ),
    Mutant(
        "loses-promise",
        "an acceptor does not find its promise again after a restart",
        core=_log_of("LosesPromiseAtRestart", {"acceptor_class": SingleLosesPromise}),
    ),
    Mutant(
        "chooses-freely",
        "a proposer proposes its own value although one was accepted",
        core=_log_of("Free", {"proposer_class": SingleChoosesFreely}),
    ),
    Mutant(
        "mixes-ballots",
        "a learner counts acceptances of different ballots together",
        core=_log_of("Mixing", {"learner_class": SingleMixesBallots}),
    ),
    Mutant(
        "passes-by-one",
        "a slot is over once one node has its value, though that one may be gone for good",
        core=PassesByOne,
    ),
)
