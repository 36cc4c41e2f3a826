"""Committee: the validators of a height with their voting power, and whose turn it is to propose.

It knows those of the height before, whose commit is in the block, and those of the next one, which the block names.
What an app changes when a block is decided holds two heights later.

A validator is a node: its address is that of the node's public key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Final

from quorate.ledger.comet.validators import CometValidator, CometValidatorSet, ValidatorKey, key_address
from quorate.ledger.validators import PowerChange, Validator, ValidatorSet
from quorate.parts.crypto.keys import Keyring
from quorate.parts.quorum import Weighted
from quorate.protocols.tendermint.messages import ValidatorsAt

TWO_THIRDS: Final = Fraction(2, 3)


class Committee:
    """Of one height at a time, from 1 on. The attributes may be read."""

    def __init__(self, members: Sequence[int], powers: Sequence[int], keyring: Keyring) -> None:
        """``powers``: in the order of the members; none: all are alike. Raises ValueError for any other number."""
        if powers and len(powers) != len(members):
            raise ValueError(f"{len(powers)} powers for {len(members)} nodes: give each node one, or none at all")
        self._publics = {key_address(keyring.public(node)): keyring.public(node) for node in members}
        self._nodes = dict(zip(self._publics, members, strict=True))
        by_address = dict(zip(self._publics, powers or [1] * len(members), strict=True))
        genesis = ValidatorSet.genesis(by_address)
        self._last: ValidatorSet | None = None
        self._stand(None, genesis, genesis.next())

    def _stand(self, last: CometValidatorSet | None, now: ValidatorSet, after: ValidatorSet) -> None:
        self.last = last
        """Those of the height before; None: there is none."""
        self._set, self._next = now, after
        self.validators = _comet_set(now, self._publics)
        self.next = _comet_set(after, self._publics)
        """Those of the next height."""
        self.nodes = tuple([self._nodes[validator.address] for validator in now.validators])
        """In the order of the validators, which is that of a commit's entries."""
        self.quorum = Weighted({self._nodes[v.address]: v.power for v in now.validators}, TWO_THIRDS)
        self._proposers: dict[int, int] = {}  # by round, of those that were asked for
        self._latest = (0, now)  # the latest of these rounds, and the set after its steps

    def sets(self) -> tuple[ValidatorsAt | None, ValidatorsAt, ValidatorsAt]:
        """Those of the height before, of this and of the next one."""
        last = None if self._last is None else _at(self._last)
        return last, _at(self._set), _at(self._next)

    def stand_on(self, last: ValidatorsAt, now: ValidatorsAt, after: ValidatorsAt) -> None:
        """These are the sets, as ``sets`` had them."""
        self._last = _set_of(last)
        self._stand(_comet_set(self._last, self._publics), _set_of(now), _set_of(after))

    def comet_set(self, at: ValidatorsAt) -> CometValidatorSet:
        """Validators who are nodes, as CometBFT has them."""
        return _comet_set(_set_of(at), self._publics)

    def has(self, node: int) -> bool:
        """Whether it is a validator."""
        return bool(self.quorum.members >> node & 1)

    def address(self, node: int) -> bytes:
        """Of one of the validators."""
        return self.validators.validators[self.nodes.index(node)].address

    def proposer(self, round: int) -> int:
        """Of this round. It takes a step for each round since the latest that was asked for."""
        node = self._proposers.get(round)
        if node is None:
            latest, validators = self._latest if self._latest[0] <= round else (0, self._set)
            if round > latest:
                validators = validators.stepped(round - latest)
            self._latest = (round, validators)
            node = self._proposers[round] = self._nodes[validators.proposer]
        return node

    def advance(self, changes: Sequence[PowerChange] = ()) -> None:
        """The next height. The changes, by address, hold from the one after it. Raises ValueError, and stays as it is,
        for what cannot be, and for an address that is no node's."""
        after = self._after(changes)
        self._last = self._set
        self._stand(self.validators, self._next, after)

    def begin(self, powers: Mapping[bytes, int]) -> None:
        """These are the validators of the first height, by address. Raises ValueError as ``advance``."""
        self._check_nodes(powers)
        genesis = ValidatorSet.genesis(powers)
        self._stand(None, genesis, genesis.next())

    def check(self, changes: Sequence[PowerChange]) -> None:
        """Raises ValueError where ``advance`` does."""
        if changes:
            self._after(changes)

    def _after(self, changes: Sequence[PowerChange]) -> ValidatorSet:
        self._check_nodes([change.address for change in changes])
        return self._next.next(changes)

    def _check_nodes(self, addresses: Iterable[bytes]) -> None:
        for address in addresses:
            if address not in self._nodes:
                raise ValueError(f"validator {address.hex()} is none of the nodes: its key must be that of a node")


def _at(validators: ValidatorSet) -> ValidatorsAt:
    return ValidatorsAt(tuple([(v.address, v.power, v.priority) for v in validators.validators]), validators.proposer)


def _set_of(at: ValidatorsAt) -> ValidatorSet:
    return ValidatorSet([Validator(*validator) for validator in at.validators], at.proposer)


def _comet_set(validators: ValidatorSet, publics: Mapping[bytes, bytes]) -> CometValidatorSet:
    made = {
        address: CometValidator(address, ValidatorKey(publics[address]), power, priority)
        for address, power, priority in validators.validators
    }
    return CometValidatorSet(tuple(made.values()), made.get(validators.proposer))
