"""One height at one node, as tests tell it: what comes, and exactly what the node does then."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from quorate.parts.quorum import Weighted
from quorate.protocols.tendermint.effects import (
    Decide,
    Effect,
    EnterRound,
    Equivocation,
    GetValue,
    Judge,
    KeepValid,
    Lock,
    SendProposal,
    SendVote,
    SetTimeout,
    SignedProposal,
    SignedVote,
    Step,
    ValueId,
)
from quorate.protocols.tendermint.height import Height

__all__ = [
    "BAD",
    "NIL",
    "PRECOMMIT",
    "PREVOTE",
    "PROPOSE",
    "A",
    "B",
    "C",
    "Decide",
    "EnterRound",
    "Equivocation",
    "GetValue",
    "Judge",
    "KeepValid",
    "Lock",
    "OneHeight",
    "SendProposal",
    "SendVote",
    "SetTimeout",
    "SignedProposal",
    "SignedVote",
    "Step",
]

PROPOSE, PREVOTE, PRECOMMIT = Step
NIL = None
A, B, C, BAD = b"A", b"B", b"C", b"bad"
EQUAL = (1, 1, 1, 1)
ALL_KNOWN: Mapping[ValueId, bool] = {A: True, B: True, C: True, BAD: False}


class OneHeight:
    """Node 3 unless told otherwise; node r mod n proposes in round r. Its own messages come back to it at once.

    Each method that lets something come returns the effects. ``known``: values that are judged as soon as it asks; it
    is not shown that it asked.
    """

    def __init__(
        self,
        node: int = 3,
        powers: Sequence[int] = EQUAL,
        known: Mapping[ValueId, bool] = ALL_KNOWN,
        is_started: bool = True,
    ) -> None:
        self.node = node
        self.known = dict(known)
        nodes = len(powers)
        self.height = Height(node, Weighted(dict(enumerate(powers)), Fraction(2, 3)), lambda round: round % nodes)
        self.nodes = nodes
        if is_started:
            self.height.start()
        self.first = self._run()

    # --- what comes ---

    def proposes(self, round: int, value: ValueId, valid_round: int = -1, node: int | None = None) -> list[Effect]:
        proposer = round % self.nodes if node is None else node
        self.height.on_said(SignedProposal(proposer, round, value, valid_round))
        return self._run()

    def prevotes(self, round: int, value: ValueId | None, *nodes: int) -> list[Effect]:
        return self._votes(PREVOTE, round, value, nodes)

    def precommits(self, round: int, value: ValueId | None, *nodes: int) -> list[Effect]:
        return self._votes(PRECOMMIT, round, value, nodes)

    def times_out(self, step: Step, round: int) -> list[Effect]:
        self.height.on_timeout(step, round)
        return self._run()

    def judged(self, value: ValueId, is_valid: bool) -> list[Effect]:
        self.height.on_judged(value, is_valid)
        return self._run()

    def built(self, round: int, value: ValueId) -> list[Effect]:
        self.height.on_built(round, value)
        return self._run()

    def certified(self, round: int, step: Step, value: ValueId) -> list[Effect]:
        self.height.on_certified(round, step, value)
        return self._run()

    # --- longer stretches ---

    def skips_to(self, round: int, nodes: Iterable[int] = (0, 1)) -> list[Effect]:
        """f + 1 nodes are in a later round, and had no luck there."""
        return self.precommits(round, NIL, *nodes)

    def locks(self, value: ValueId, round: int = 0) -> None:
        """It locks this value in this round."""
        if round > self.height.round:
            self.skips_to(round)
        self.proposes(round, value)
        self.prevotes(round, value, *[node for node in range(self.nodes) if node != self.node])
        assert (self.height.locked_value, self.height.locked_round) == (value, round)

    # --- where it is ---

    @property
    def place(self) -> tuple[int, Step]:
        return self.height.round, self.height.step

    @property
    def lock(self) -> tuple[ValueId | None, int]:
        return self.height.locked_value, self.height.locked_round

    @property
    def valid(self) -> tuple[ValueId | None, int]:
        return self.height.valid_value, self.height.valid_round

    def _votes(self, step: Step, round: int, value: ValueId | None, nodes: Iterable[int]) -> list[Effect]:
        effects = []
        for node in nodes:
            self.height.on_said(SignedVote(node, step, round, value))
            effects += self._run()
        return effects

    def _run(self) -> list[Effect]:
        seen: list[Effect] = []
        while effects := self.height.take():
            for effect in effects:
                if isinstance(effect, Judge) and effect.value in self.known:
                    self.height.on_judged(effect.value, self.known[effect.value])
                    continue
                seen.append(effect)
                if isinstance(effect, SendVote):
                    self.height.on_said(SignedVote(self.node, effect.step, effect.round, effect.value))
                elif isinstance(effect, SendProposal):
                    self.height.on_said(SignedProposal(self.node, effect.round, effect.value, effect.valid_round))
        return seen
