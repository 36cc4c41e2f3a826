"""TapJudge: whether any validator signed what it must not, by what arrived at the others.

It believes signatures and nothing else: who passed something on says nothing about who signed it. From each message it
takes all signed statements: proposals, votes, votes passed on, the prevotes that a proposal shows, the precommits that
a decision shows. Of each validator, for each height, round and step:

- it signs one value (and one valid round), and signs it once: the same with another time is a second signature;
- it prevotes against the lock that an earlier precommit of its own stands for only if a quorum prevoted the other value
  in a round that is not before the lock (arXiv 1807.04938, lines 22-33);
- it precommits a value only if a quorum, but for itself, was heard to prevote it in this round (line 36).

What a tap missed excuses: a lock is judged only if a proposal of the other value arrived somewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

from quorate.ledger.comet.commits import COMMIT, FOR_BLOCK, FOR_NIL
from quorate.parts.crypto.keys import Keyring
from quorate.protocols.tendermint.effects import NO_ROUND, Step
from quorate.protocols.tendermint.messages import Decision, Prevote, Proposal, Votes, step_of
from quorate.protocols.tendermint.named_blocks import decode_block, name_of_id
from quorate.protocols.tendermint.signed_bytes import proposal_bytes, vote_bytes


class Place(NamedTuple):
    """For what a validator signs one value."""

    signer: int
    height: int
    round: int
    step: Step


class Said(NamedTuple):
    """What it signed there. Two signatures for equal ones differ in the time that they name."""

    value: bytes | None
    valid_round: int
    signature: bytes


Ballot: TypeAlias = tuple[int, int, Step, bytes | None]
"""Height, round, step, value."""


class TapJudge:
    """Of one chain whose validators have equal power. ``hear`` takes what arrived; ``faults`` says what is wrong."""

    def __init__(self, chain_id: str, keyring: Keyring) -> None:
        self._chain_id = chain_id
        self._keyring = keyring
        self._known: dict[tuple[bytes, bytes], int] = {}  # by what is signed and its signature, who signed it
        self.said: dict[Place, list[Said]] = {}
        self.voters: dict[Ballot, set[int]] = {}
        """Who signed a vote for what, wherever it arrived."""
        self.proposed: set[tuple[int, int, bytes]] = set()
        """Height, round and value of each proposal that arrived."""
        self.forged = 0
        """Statements that nobody signed."""
        self.locks_judged = 0

    @property
    def quorum(self) -> int:
        """More than two thirds."""
        return 2 * len(self._keyring.nodes) // 3 + 1

    # --- what arrives ---

    def hear(self, messages: Iterable[Any]) -> None:
        """All of one tap, or more of it."""
        for m in messages:
            if isinstance(m, Proposal):
                self._on_proposal(m)
            elif isinstance(m, Prevote):
                self._on_vote(m)
            elif isinstance(m, Votes):
                for vote in m.votes:
                    self._on_vote(vote)
            elif isinstance(m, Decision):
                self._on_commit(Step.PRECOMMIT, m.commit)

    def _on_vote(self, m: Prevote) -> None:
        self._on_signed_vote((m.node,), step_of(m), m.height, m.round, m.value, m.time_ns, m.signature)

    def _on_proposal(self, m: Proposal) -> None:
        name = decode_block(m.block).name
        self.proposed.add((m.height, m.round, name))
        data = proposal_bytes(self._chain_id, m.height, m.round, name, m.valid_round, m.time_ns)
        said = Said(name, m.valid_round, m.signature)
        self._add(self._keyring.nodes, data, m.height, m.round, Step.PROPOSE, said)
        if m.proof is not None:
            self._on_commit(Step.PREVOTE, m.proof)

    def _on_commit(self, step: Step, data: bytes) -> None:
        """Votes in the form of a commit, which names validators by address."""
        commit = COMMIT.decode_exact(data)
        for entry in commit.signatures:
            if entry.block_id_flag in (FOR_BLOCK, FOR_NIL):
                value = name_of_id(commit.block_id) if entry.block_id_flag == FOR_BLOCK else None
                time_ns, signature = entry.timestamp.ns(), entry.signature
                nodes = self._keyring.nodes
                self._on_signed_vote(nodes, step, commit.height, commit.round, value, time_ns, signature)

    def _on_signed_vote(
        self,
        nodes: tuple[int, ...],
        step: Step,
        height: int,
        round: int,
        value: bytes | None,
        time_ns: int,
        signature: bytes,
    ) -> None:
        data = vote_bytes(self._chain_id, step, height, round, value, time_ns)
        signer = self._add(nodes, data, height, round, step, Said(value, NO_ROUND, signature))
        if signer is not None:
            self.voters.setdefault((height, round, step, value), set()).add(signer)

    def _add(self, nodes: tuple[int, ...], data: bytes, height: int, round: int, step: Step, said: Said) -> int | None:
        """Who of these signed it; None: nobody, or it is known already."""
        if self._known.get((data, said.signature)) in nodes:
            return None
        for node in nodes:
            if self._keyring.verify_canonical(node, data, said.signature):
                self._known[data, said.signature] = node
                self.said.setdefault(Place(node, height, round, step), []).append(said)
                return node
        self.forged += 1
        return None

    # --- what is wrong ---

    def faults(self) -> list[str]:
        """Everything, in words."""
        found = [*self.double_signs(), *self._against_locks(), *self._without_quorums()]
        return [*found, f"{self.forged} statements that nobody signed"] if self.forged else found

    def double_signs(self) -> list[str]:
        """Who signed twice for one height, round and step."""
        found = []
        for place, said in sorted(self.said.items()):
            if len(said) > 1:
                contents = {(each.value, each.valid_round) for each in said}
                what = f"{len(contents)} values" if len(contents) > 1 else f"one value {len(said)} times"
                found.append(f"{_words(place)}: signed {what}")
        return found

    def _against_locks(self) -> list[str]:
        found = []
        for place, said in sorted(self.said.items()):
            value = said[0].value
            if place.step is not Step.PREVOTE or value is None:
                continue
            locked = self._lock_before(place)
            if locked is None or locked[1] == value or (place.height, place.round, value) not in self.proposed:
                continue
            self.locks_judged += 1
            rounds = range(locked[0], place.round)
            if not any(self._has_quorum(place.height, round, Step.PREVOTE, value) for round in rounds):
                found.append(f"{_words(place)}: against its lock of round {locked[0]}")
        return found

    def _lock_before(self, place: Place) -> tuple[int, bytes] | None:
        """Round and value of the signer's latest precommit of a value before this round."""
        for round in reversed(range(place.round)):
            for said in self.said.get(Place(place.signer, place.height, round, Step.PRECOMMIT), ()):
                if said.value is not None:
                    return round, said.value
        return None

    def _without_quorums(self) -> list[str]:
        found = []
        for place, said in sorted(self.said.items()):
            value = said[0].value
            if place.step is Step.PRECOMMIT and value is not None:
                others = self.voters.get((place.height, place.round, Step.PREVOTE, value), set()) - {place.signer}
                if len(others) < self.quorum - 1:
                    found.append(f"{_words(place)}: precommitted what only {sorted(others)} were heard to prevote")
        return found

    def _has_quorum(self, height: int, round: int, step: Step, value: bytes) -> bool:
        return len(self.voters.get((height, round, step, value), ())) >= self.quorum


def _words(place: Place) -> str:
    return f"node {place.signer}, height {place.height}, round {place.round}, {place.step.name.lower()}"
