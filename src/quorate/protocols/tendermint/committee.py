"""Committee: the members with their voting power, and whose turn it is to propose."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from hashlib import sha256
from typing import Final

from quorate.ledger.validators import ValidatorSet
from quorate.parts.crypto.keys import Keyring
from quorate.parts.quorum import Weighted

TWO_THIRDS: Final = Fraction(2, 3)
ADDRESS_BYTES: Final = 20


class Committee:
    """Of one height at a time, from 1 on. Members are fixed."""

    def __init__(self, members: Sequence[int], powers: Sequence[int], keyring: Keyring) -> None:
        """``powers``: in the order of the members; none: all are alike. Raises ValueError for any other number."""
        if powers and len(powers) != len(members):
            raise ValueError(f"{len(powers)} powers for {len(members)} nodes: give each node one, or none at all")
        by_node = dict(zip(members, powers or [1] * len(members), strict=True))
        self.quorum = Weighted(by_node, TWO_THIRDS)
        self._nodes = {_address_of(keyring.public(node)): node for node in members}
        addresses = {node: address for address, node in self._nodes.items()}
        self._validators = ValidatorSet.genesis({addresses[node]: power for node, power in by_node.items()})
        self._proposers: dict[int, int] = {}  # by round, of those that were asked for
        self._latest = (0, self._validators)  # the latest of these rounds, and the set after its steps

    def proposer(self, round: int) -> int:
        """Of this round. It takes a step for each round since the latest that was asked for."""
        node = self._proposers.get(round)
        if node is None:
            latest, validators = self._latest if self._latest[0] <= round else (0, self._validators)
            if round > latest:
                validators = validators.stepped(round - latest)
            self._latest = (round, validators)
            node = self._proposers[round] = self._nodes[validators.proposer]
        return node

    def advance(self) -> None:
        """The next height."""
        self._validators = self._validators.next()
        self._proposers.clear()
        self._latest = (0, self._validators)


def _address_of(public: bytes) -> bytes:
    return sha256(public).digest()[:ADDRESS_BYTES]
