"""What must never be where an ABCI app stands behind the chain, beside the invariants of Tendermint."""

from __future__ import annotations

import re
from typing import Final

from quorate.kernel import Core, Turn
from quorate.ledger.comet.commits import ABSENT, COMMIT, FOR_BLOCK
from quorate.ledger.comet.headers import Header
from quorate.protocols.tendermint.app_chain import AppChain
from quorate.protocols.tendermint.app_messages import finalized_of
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.invariants import TendermintInvariants
from quorate.protocols.tendermint.messages import ExtendedDecision, ExtendedPrecommit, Precommit
from quorate.protocols.tendermint.signed_bytes import extension_bytes
from quorate.sim.checkers.base import Checker, Violation

GIVEN: Final = "a proposer is given the extensions of the last votes"
ONE_EXTENSION: Final = "one extension a round"
EXTENDED: Final = "precommits have extensions where they are enabled"
_EXTENSION: Final = re.compile(rb"([0-9]+)/[0-9a-f]{8}")


class AppInvariants(TendermintInvariants):
    """Those of Tendermint; what a block does, the node's own app has said."""

    def app_hash(self, core: Tendermint, before: Header) -> bytes:
        """As that app answered, and the node kept it."""
        assert isinstance(core, AppChain)
        kept = core.stands.at(before.height)
        if kept is not None:
            return kept.stand.point.app_hash
        answer = core.app.outcomes.get(before.height)
        return b"nobody knows" if answer is None else finalized_of(answer).app_hash


def is_extension(extension: bytes, height: int) -> bool:
    """Whether a correct app of the trials says this at this height: the height and a number of its own."""
    found = _EXTENSION.fullmatch(extension)
    return found is not None and int(found[1]) == height


class ExtensionInvariants(Checker):
    """What a node attaches to a vote, it attaches to it in each life; and no liar can have a node keep what nobody
    signed. ``enabled``: the first height whose precommits have extensions."""

    def __init__(self, enabled: int) -> None:
        self._enabled = enabled
        self._turn: dict[int, tuple[ExtendedPrecommit, ...]] = {}
        self._attached: dict[tuple[int, int, int], tuple[bytes, bytes]] = {}
        """By node, height and round, what left."""
        self._checked: dict[int, int] = {}

    def started(self, node: int, core: Core) -> None:
        """Its log is looked through once more."""
        self._turn.pop(node, None)
        self._checked[node] = 0
        self.stepped(node, core)

    def acted(self, node: int, core: Core, turn: Turn) -> None:
        """Raises Violation."""
        said = []
        for send in (*turn.early, *turn.sends):
            m = send.message
            if isinstance(m, Precommit) and m.node == node:
                is_extended = isinstance(m, ExtendedPrecommit)
                if is_extended != (m.value is not None and m.height >= self._enabled):
                    raise Violation(EXTENDED, f"node {node} sends a {type(m).__name__} at height {m.height}")
                if isinstance(m, ExtendedPrecommit):
                    said.append(m)
        self._turn[node] = tuple(said)

    def mark(self, node: int) -> tuple[ExtendedPrecommit, ...] | None:
        """What the node's last Turn attaches."""
        return self._turn.get(node) or None

    def released(self, node: int, mark: tuple[ExtendedPrecommit, ...]) -> None:
        """Raises Violation."""
        for m in mark:
            said = (m.extension, m.extension_signature)
            first = self._attached.setdefault((node, m.height, m.round), said)
            if first != said:
                raise Violation(ONE_EXTENSION, f"node {node} says {m.extension[:40]!r}, and said {first[0][:40]!r}")

    def stepped(self, node: int, core: Core) -> None:
        """Raises Violation."""
        assert isinstance(core, AppChain)
        for decision in core.log.after(self._checked[node]):
            self._checked[node] = decision.height
            if isinstance(decision, ExtendedDecision) != (decision.height >= self._enabled):
                raise Violation(EXTENDED, f"node {node} keeps a {type(decision).__name__} of height {decision.height}")
            if isinstance(decision, ExtendedDecision):
                self._is_signed(node, core, decision)

    def _is_signed(self, node: int, core: AppChain, decision: ExtendedDecision) -> None:
        commit, validators = COMMIT.decode(decision.commit), core.committee.validators.validators
        for validator, entry, said in zip(validators, commit.signatures, decision.extensions, strict=True):
            if entry.block_id_flag != FOR_BLOCK:
                assert entry.block_id_flag == ABSENT or said is None
                continue
            if said is None or not is_extension(said.extension, decision.height):
                raise Violation(GIVEN, f"node {node} keeps another extension of height {decision.height}")
            data = extension_bytes(core.chain.id, commit.height, commit.round, said.extension)
            if not core.keyring.verify_canonical(validator.pub_key.ed25519, data, said.signature):
                raise Violation(GIVEN, f"node {node} keeps an extension of height {decision.height} that nobody signed")
