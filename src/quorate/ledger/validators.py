"""ValidatorSet: who votes on a chain, with how much power, and whose turn it is to propose.

How it works. Each validator has a priority. At every height all priorities grow by the power of their validator; the
highest proposes, and pays the power of all together. So in the long run everybody proposes as often as its power says,
evenly spread. Round r of a height takes r such steps more.

Two corrections keep the numbers small when powers change: before the steps the priorities are scaled down if they are
more than two total powers apart, and shifted so that their sum is close to zero. A validator that is new begins with a
penalty of 1.125 total powers; it would otherwise pay to leave and join again after each turn.

All arithmetic is exact and in integers. Sets never change; each step makes another one.

Source: CometBFT v0.38, ``types/validator_set.go`` and ``spec/consensus/proposer-selection.md``. The arithmetic is the
same to the last bit, so both agree on every proposer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

POWER_MAX: Final = (2**63 - 1) // 8
"""Of all validators together; other implementations add priorities up in 64 bits."""
SPREAD_MAX: Final = 2
"""How many total powers priorities may be apart before they are scaled down."""


class Validator(NamedTuple):
    """One of a set, by its address."""

    address: bytes
    power: int
    priority: int


class PowerChange(NamedTuple):
    """From some height on, a validator has this power; 0: it is a validator no longer."""

    address: bytes
    power: int


class ValidatorSet:
    """The validators of one height, and who proposes in its first round."""

    __slots__ = ("power", "proposer", "validators")

    def __init__(self, validators: Sequence[Validator], proposer: bytes) -> None:
        """As another set had them. ``genesis`` and ``next`` make new ones."""
        self.validators = tuple(validators)
        """The most powerful first, then by address."""
        self.proposer = proposer
        """An address."""
        self.power = sum([validator.power for validator in self.validators])

    def __repr__(self) -> str:
        return f"ValidatorSet({list(self.validators)}, {self.proposer!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ValidatorSet):
            return NotImplemented
        return (self.validators, self.proposer) == (other.validators, other.proposer)

    __hash__ = None  # type: ignore[assignment]  # to be looked at, not looked up

    @classmethod
    def genesis(cls, powers: Mapping[bytes, int]) -> ValidatorSet:
        """The set of a chain's first height, by address. Raises ValueError; also for a power below 1."""
        return _updated((), [PowerChange(address, power) for address, power in powers.items()]).stepped()

    def next(self, changes: Sequence[PowerChange] = ()) -> ValidatorSet:
        """The set of the height after this one, in which the changes hold.

        Raises ValueError for what cannot be: two changes of one validator, a power out of range, the removal of a
        validator that is not there, a set without validators or with more than POWER_MAX.
        """
        changed = _updated(self.validators, changes) if changes else self
        return changed.stepped()

    def stepped(self, times: int = 1) -> ValidatorSet:
        """The set after so many steps, at least one."""
        priorities = _centred(_rescaled([v.priority for v in self.validators], self.power))
        winner = 0
        for _ in range(times):
            priorities = [priority + v.power for priority, v in zip(priorities, self.validators, strict=True)]
            winner = self._highest(priorities)
            priorities[winner] -= self.power
        stepped = [v._replace(priority=priority) for v, priority in zip(self.validators, priorities, strict=True)]
        return ValidatorSet(stepped, self.validators[winner].address)

    def proposer_of(self, round: int) -> bytes:
        """Whose turn it is in a round of this height. It takes as many steps as the round's number."""
        return self.stepped(round).proposer if round else self.proposer

    def _highest(self, priorities: Sequence[int]) -> int:
        """Among equals the lowest address."""
        best = 0
        for at in range(1, len(priorities)):
            if priorities[at] > priorities[best] or (
                priorities[at] == priorities[best] and self.validators[at].address < self.validators[best].address
            ):
                best = at
        return best


def _updated(old: Sequence[Validator], changes: Sequence[PowerChange]) -> ValidatorSet:
    """The set with the changes, before it takes a step: its proposer is nobody yet. Raises ValueError."""
    _check_changes(old, changes)
    before = {v.address: v for v in old}
    given = [change for change in changes if change.power]
    gone = {change.address for change in changes if not change.power}
    power = sum({**{v.address: v.power for v in old}, **dict(given)}.values())  # before anybody leaves
    penalty = -(power + (power >> 3))
    after = dict(before)
    for address, its in given:
        known = before.get(address)
        after[address] = Validator(address, its, penalty if known is None else known.priority)
    kept = sorted([v for v in after.values() if v.address not in gone], key=_rank)
    total = sum([v.power for v in kept])
    if not kept:
        raise ValueError("the changes would leave no validator: keep one at least")
    if total > POWER_MAX:
        raise ValueError(f"all validators together would have a power of {total}, at most {POWER_MAX}")
    priorities = _centred(_rescaled([v.priority for v in kept], total))
    return ValidatorSet([v._replace(priority=p) for v, p in zip(kept, priorities, strict=True)], b"")


def _check_changes(old: Sequence[Validator], changes: Sequence[PowerChange]) -> None:
    present = {v.address for v in old}
    seen: set[bytes] = set()
    for address, power in changes:
        name = address.hex()
        if address in seen:
            raise ValueError(f"two changes of validator {name}: make them one")
        if not 0 <= power <= POWER_MAX:
            raise ValueError(f"validator {name} with power {power}: it is at least 0 and at most {POWER_MAX}")
        if not power and address not in present:
            raise ValueError(f"validator {name} is to be removed and is not there")
        seen.add(address)


def _rank(validator: Validator) -> tuple[int, bytes]:
    return -validator.power, validator.address


def _rescaled(priorities: list[int], power: int) -> list[int]:
    """Not more than SPREAD_MAX total powers apart. Division is towards zero, unlike Python's."""
    allowed = SPREAD_MAX * power
    spread = max(priorities) - min(priorities)
    if spread <= allowed:
        return priorities
    ratio = -(-spread // allowed)
    return [priority // ratio if priority >= 0 else -(-priority // ratio) for priority in priorities]


def _centred(priorities: list[int]) -> list[int]:
    """With a sum from 0 to one less than their number: the average, rounded down, is taken off."""
    average = sum(priorities) // len(priorities)
    return [priority - average for priority in priorities]
