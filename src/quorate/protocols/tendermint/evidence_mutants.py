"""Bugs that are planted in how evidence waits for a block, each of which the simulator must catch."""

from __future__ import annotations

from quorate.ledger.comet.evidence import MISCONDUCT
from quorate.protocols.tendermint.accusing import Accusing
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.messages import Accusation, PendingEvidence
from quorate.sim.mutant import Mutant


class ForgetfulAccusing(Accusing):
    """Does not know after a restart what waited."""

    def restore(self, record: PendingEvidence) -> None:
        """Forgotten."""


class QuietAccusing(Accusing):
    """Keeps what it knows to itself."""

    def _tell(self, record: PendingEvidence) -> None:
        """Nobody."""


class BelievingAccusing(Accusing):
    """Takes any accuser's word."""

    def hear(self, sender: int, m: Accusation) -> None:
        """Unseen, as far as it is a piece of evidence."""
        try:
            piece = MISCONDUCT.decode(m.piece)
        except ValueError:
            return
        if not self._pool.is_known(piece):
            self._pool.add(piece)
            self._keep(piece, sender)


class ForgetsAccusations(Tendermint):
    accusing_class = ForgetfulAccusing


class AccusesInSilence(Tendermint):
    accusing_class = QuietAccusing


class BelievesAccusations(Tendermint):
    accusing_class = BelievingAccusing


EVIDENCE_MUTANTS = (
    Mutant("forgets-accusations", "evidence that waits is lost by a crash", core=ForgetsAccusations, lies=True),
    Mutant("accuses-in-silence", "nobody is told of evidence", core=AccusesInSilence, lies=True),
    Mutant("believes-accusations", "what others tell of is not checked", core=BelievesAccusations, lies=True),
)
