"""What the rules of a height ask for, as plain values; and what others said, as it comes to the rules.

A value is known to the rules by its digest alone: id(v) of the paper. None in its place is nil.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, TypeAlias

import msgspec

ValueId: TypeAlias = bytes


class Step(IntEnum):
    """Where a node is in a round. Votes and timeouts are named after the step that they belong to."""

    PROPOSE = 1
    PREVOTE = 2
    PRECOMMIT = 3


NO_ROUND = -1
"""Of a lock or a valid value that is not there, and of a proposal that is new."""


# --- what comes in ---


class SignedVote(msgspec.Struct, frozen=True):
    """A node's vote in one round: PREVOTE or PRECOMMIT. The signature has been checked, and is kept as it is."""

    node: int
    step: Step
    round: int
    value: ValueId | None
    signature: bytes = b""
    time_ns: int = 0
    extension: bytes = b""
    extension_signature: bytes = b""
    """Of the extension; empty: there is none."""

    @property
    def content(self) -> tuple[ValueId | None, int]:
        """What another of the same node, round and step has to be equal in."""
        return self.value, NO_ROUND


class SignedProposal(msgspec.Struct, frozen=True):
    """A node's proposal in one round. The signature has been checked. ``carried`` is the value itself, which is kept
    as long as the proposal is; the rules do not look at it."""

    node: int
    round: int
    value: ValueId
    valid_round: int = NO_ROUND
    signature: bytes = b""
    time_ns: int = 0
    carried: Any = None
    carried_ns: int = -1
    """The time of the value itself. A vote for it that is not later counts for nothing."""

    @property
    def step(self) -> Step:
        """The one that proposals belong to."""
        return Step.PROPOSE

    @property
    def content(self) -> tuple[ValueId | None, int]:
        """As that of a vote."""
        return self.value, self.valid_round


SaidOnce: TypeAlias = SignedVote | SignedProposal


class Equivocation(msgspec.Struct, frozen=True):
    """Two that one node signed for one round and step, which differ: what no correct node does."""

    first: SaidOnce
    second: SaidOnce


# --- what is asked for ---


class EnterRound(msgspec.Struct, frozen=True):
    """The node is in this round now."""

    round: int


class GetValue(msgspec.Struct, frozen=True):
    """Have a new value made for this round; the answer goes to ``Height.on_built``."""

    round: int


class Judge(msgspec.Struct, frozen=True):
    """Find out whether the value is valid; the answer goes to ``Height.on_judged``."""

    value: ValueId


class SendProposal(msgspec.Struct, frozen=True):
    """To all, this node too. ``valid_round``: in which a quorum prevoted the value, NO_ROUND for a new one."""

    round: int
    value: ValueId
    valid_round: int


class SendVote(msgspec.Struct, frozen=True):
    """To all, this node too."""

    step: Step
    round: int
    value: ValueId | None


class Lock(msgspec.Struct, frozen=True):
    """lockedValue and lockedRound, before the precommit that stands for them."""

    round: int
    value: ValueId


class KeepValid(msgspec.Struct, frozen=True):
    """validValue and validRound: what this node will propose when it is its turn."""

    round: int
    value: ValueId


class SetTimeout(msgspec.Struct, frozen=True):
    """Call ``Height.on_timeout(step, round)`` after the time that this step takes in this round."""

    step: Step
    round: int


class Decide(msgspec.Struct, frozen=True):
    """The value of this height, which a quorum precommitted in this round. Nothing comes after it."""

    round: int
    value: ValueId


Effect: TypeAlias = (
    EnterRound | GetValue | Judge | SendProposal | SendVote | Lock | KeepValid | SetTimeout | Decide | Equivocation
)
