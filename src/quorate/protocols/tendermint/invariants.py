"""What must never be in Tendermint: checked after every step of every honest node, with quorums that are counted anew.

What a node said is taken from its Turns, as others hear it. A promise is what left the node: no crash takes it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

from quorate.kernel import Core, Turn
from quorate.ledger.comet.blocks import Block
from quorate.ledger.comet.commits import COMMIT, Commit, block_time
from quorate.ledger.comet.evidence import DuplicateVoteEvidence, Misconduct
from quorate.ledger.comet.evidence_checks import verify_duplicate_votes, verify_light_client_attack
from quorate.ledger.comet.headers import Header
from quorate.ledger.comet.light_blocks import SignedHeader
from quorate.ledger.comet.validators import CometValidatorSet
from quorate.ledger.comet.verification import verify_commit, verify_prevotes
from quorate.protocols.tendermint.committee import Committee
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.effects import NO_ROUND, Step
from quorate.protocols.tendermint.messages import Decision, Precommit, Prevote, Proposal, step_of
from quorate.protocols.tendermint.named_blocks import NamedBlock, decode_block, id_of
from quorate.sim.checkers.base import Checker, Violation

ONE_VOTE = "one vote a step"
LOCKS = "locks hold"
AMNESIA = "no amnesia"
VALID_VALUE = "the valid value is proposed"
PROVEN = "decisions are proven"
FOLLOWS = "f + 1 nodes are followed"
DECIDES = "what a quorum precommits is decided"
ONE_CHAIN = "the blocks are one chain"
ONCE = "nobody is blamed twice for the same"
GOES_ON = "a block can follow on every commit"
BLOCKS_MAX = 8
"""That are kept decoded."""


class Precommitted(NamedTuple):
    """A node's newest precommit for a value, which is its lock."""

    height: int
    round: int
    value: bytes


class TendermintInvariants(Checker):
    """Of all nodes of a run."""

    def __init__(self) -> None:
        self._said: dict[tuple[int, int, int, Step], bytes | None] = {}
        """By node, height, round and step: what left."""
        self._promised: dict[int, Precommitted] = {}
        """By node, of what left."""
        self._locked: dict[int, Precommitted] = {}
        """By node, of this life, left or not."""
        self._turn: dict[int, tuple[Proposal | Prevote, ...]] = {}
        self._decided: dict[int, int] = {}
        self._chain: dict[int, Header] = {}
        """By height, of the first node that decided it."""
        self._commits: dict[int, Commit] = {}
        """By height, as the block after it has them."""
        self._blamed: dict[tuple[Any, ...], int] = {}
        """By offence, the height of the block that has evidence of it."""
        self._blocks: dict[bytes, NamedBlock] = {}
        self._members: CometValidatorSet | None = None

    # --- called by the simulator ---

    def started(self, node: int, core: Core) -> None:
        assert isinstance(core, Tendermint)
        promised = self._promised.get(node)
        self._locked.pop(node, None)
        self._turn.pop(node, None)
        self._decided[node] = 0
        if promised is not None:
            self._locked[node] = promised
            lock = core.locks.lock
            at = core.current.next  # by what is durable: a height opens later, where an app must answer first
            if at < promised.height or (at == promised.height and (lock is None or lock.round < promised.round)):
                where = f"in round {promised.round} of height {promised.height}"
                raise Violation(AMNESIA, f"node {node} had precommitted {_hex(promised.value)} {where}, and forgot it")
        self.stepped(node, core)

    def acted(self, node: int, core: Core, turn: Turn) -> None:
        assert isinstance(core, Tendermint)
        said = self._turn[node] = tuple(_own(node, turn))
        for message in said:
            if isinstance(message, Proposal):
                self._proposed(node, core, message)
            elif message.value is not None:
                self._voted(node, core, message, message.value)

    def mark(self, node: int) -> tuple[Proposal | Prevote, ...] | None:
        return self._turn.get(node) or None

    def released(self, node: int, mark: tuple[Proposal | Prevote, ...]) -> None:
        for message in mark:
            is_vote = isinstance(message, Prevote)
            step = step_of(message) if isinstance(message, Prevote) else Step.PROPOSE
            value = message.value if isinstance(message, Prevote) else self._block(message.block).name
            known = self._said.setdefault((node, message.height, message.round, step), value)
            if known != value:
                what = f"{step.name.lower()}s {_hex(known)} and {_hex(value)}"
                raise Violation(ONE_VOTE, f"node {node} {what} in round {message.round} of height {message.height}")
            if is_vote and step is Step.PRECOMMIT and value is not None:
                _keep(self._promised, node, Precommitted(message.height, message.round, value))

    def stepped(self, node: int, core: Core) -> None:
        assert isinstance(core, Tendermint)
        for decision in core.log.after(self._decided.get(node, 0)):
            self._is_in_chain(node, core, decision)
        self._decided[node] = core.log.last
        self._is_done(node, core)

    def _is_in_chain(self, node: int, core: Tendermint, decision: Decision) -> None:
        """It is proven by its commit, follows on the block before, and is the same at all nodes."""
        block, commit, height = self._block(decision.block), COMMIT.decode(decision.commit), decision.height
        validators, verify = self._validators(core), core.keyring.verify_canonical
        try:
            verify_commit(core.chain.id, validators, block.id, height, commit, verify)
        except ValueError as error:
            raise Violation(PROVEN, f"node {node} has no commit for height {height}: {error}") from error
        header = self._chain.setdefault(height, block.block.header)
        if header != block.block.header:
            raise Violation(ONE_CHAIN, f"node {node} has another block at height {height}")
        why = self._breaks(core, block.block)
        if why is not None:
            raise Violation(ONE_CHAIN, f"at node {node}, block {height} {why}")
        self._is_blamed_once(node, block.block)
        if block_time(commit, validators.by_address()) <= header.time:
            raise Violation(GOES_ON, f"at node {node}, no block can follow on the commit of height {height}")

    def _breaks(self, core: Tendermint, block: Block) -> str | None:
        """Why it is no next block."""
        header, before, validators = block.header, self._chain.get(block.header.height - 1), self._validators(core)
        if before is not None and (header.last_block_id.hash != before.hash() or header.time <= before.time):
            return "does not follow on the one before"
        if before is not None and header.app_hash != self.app_hash(core, before):
            return "says what the app did not make of the one before"
        if not header.validators_hash == header.next_validators_hash == validators.hash():
            return "names validators that are none"
        if header.height > 1 and block.last_commit is not None:
            self._commits[header.height - 1] = block.last_commit
        for piece in block.evidence.evidence:
            if piece.height >= header.height:
                return "has evidence of nothing"
            try:
                self._verify(core, piece, header.height - 1)
            except ValueError as error:
                return f"blames somebody for nothing: {error}"
        return None

    def _verify(self, core: Tendermint, piece: Misconduct, last: int) -> None:
        """Raises ValueError unless it holds beside the chain up to the height ``last``."""
        past, validators, verify = self._chain.get(piece.height), self._validators(core), core.keyring.verify_canonical
        if past is None:
            return  # a snapshot took its place before anybody looked
        if isinstance(piece, DuplicateVoteEvidence):
            verify_duplicate_votes(piece, core.chain.id, validators, past.time, verify)
            return
        height = piece.conflicting_block.header.height
        at = height if height < last else last - 1
        header, commit = self._chain.get(at), self._commits.get(at)
        if header is not None and commit is not None:
            verify_light_client_attack(piece, past, validators, SignedHeader(header, commit), verify)

    def _is_blamed_once(self, node: int, block: Block) -> None:
        """Within a block, and in all of them."""
        of_block = set()
        for piece in block.evidence.evidence:
            if isinstance(piece, DuplicateVoteEvidence):
                vote = piece.vote_a
                offence: tuple[Any, ...] = (vote.validator_address, vote.height, vote.round, vote.type)
            else:
                offence = (piece.conflicting_block.header.hash(),)
            known = self._blamed.setdefault(offence, block.header.height)
            if known != block.header.height or offence in of_block:
                raise Violation(ONCE, f"at node {node}, block {block.header.height} has what block {known} has")
            of_block.add(offence)

    def app_hash(self, core: Tendermint, before: Header) -> bytes:
        """What the app makes of a block: a chain of hashes over all requests (``requests_app.py``)."""
        return sha256(before.app_hash + before.data_hash).digest()

    # --- rules ---

    def _is_done(self, node: int, core: Tendermint) -> None:
        """Lines 49-56 have nothing left to do: they wait for nothing, be the node in whichever step and round."""
        rules = core.current.open.rules
        if not rules.is_started or rules.decision is not None:
            return
        if rules.heard.reached > rules.round:
            raise Violation(
                FOLLOWS, f"node {node} stays in round {rules.round}, and f + 1 are in {rules.heard.reached}"
            )
        for round, value in rules.heard.precommitted():
            known = [proposal for proposal in rules.heard.proposals(round) if proposal.value == value]
            if known and rules.validity.get(value):
                raise Violation(DECIDES, f"node {node} does not decide {_hex(value)}, precommitted in round {round}")

    def _proposed(self, node: int, core: Tendermint, m: Proposal) -> None:
        """Lines 15-16. A lock is a valid value, and a later one has taken its place or none has."""
        lock = self._locked.get(node)
        if lock is not None and lock.height == m.height and lock.round < m.round and m.valid_round < lock.round:
            raise Violation(
                VALID_VALUE, f"node {node} locked in round {lock.round} and proposes {m.valid_round} in {m.round}"
            )
        if m.valid_round != NO_ROUND:
            if not self._is_prevoted(core, m.proof, m.height, m.valid_round, self._block(m.block).name):
                raise Violation(VALID_VALUE, f"node {node} proposes for round {m.valid_round} without a proof")

    def _voted(self, node: int, core: Tendermint, m: Prevote, value: bytes) -> None:
        if m.height != core.current.open.number:
            return  # decided in this step; the certificates are gone
        lock = self._locked.get(node)
        if isinstance(m, Precommit):
            if not self._is_shown(core, m.height, m.round, value):
                raise Violation(LOCKS, f"node {node} precommits in round {m.round} without the prevotes of a quorum")
            _keep(self._locked, node, Precommitted(m.height, m.round, value))
        elif lock is not None and lock.height == m.height and lock.value != value and lock.round < m.round:
            # Lines 29-30: a quorum prevoted it in the round of the lock or in a later one.
            if not any(self._is_shown(core, m.height, round, value) for round in range(lock.round, m.round)):
                raise Violation(LOCKS, f"node {node} prevotes in round {m.round} against its lock of {lock.round}")

    def _is_shown(self, core: Tendermint, height: int, round: int, value: bytes) -> bool:
        return self._is_prevoted(core, core.current.open.proof_of(round, value), height, round, value)

    def _is_prevoted(self, core: Tendermint, proof: bytes | None, height: int, round: int, value: bytes) -> bool:
        """Whether the proof has the prevotes of a quorum for the value in this round."""
        if proof is None:
            return False
        prevotes, keyring = COMMIT.decode(proof), core.keyring
        try:
            verify_prevotes(
                core.chain.id, self._validators(core), id_of(value), height, prevotes, keyring.verify_canonical
            )
        except ValueError:
            return False
        return prevotes.round == round

    # --- what is asked for often ---

    def _block(self, data: bytes) -> NamedBlock:
        """All nodes have the same ones, so it was mostly decoded a moment ago."""
        block = self._blocks.get(data)
        if block is None:
            block = decode_block(data)
            if len(self._blocks) >= BLOCKS_MAX:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[data] = block
        return block

    def _validators(self, core: Tendermint) -> CometValidatorSet:
        """Those of every height: simulated apps change none."""
        if self._members is None:
            self._members = Committee(core.env.peers, core.config.powers, core.keyring).validators
        return self._members


def _own(node: int, turn: Turn) -> Iterator[Proposal | Prevote]:
    """What it says to all for the first time, or again."""
    for send in (*turn.early, *turn.sends):
        message: Any = send.message
        if isinstance(message, Proposal) or (isinstance(message, Prevote) and message.node == node):
            yield message


def _keep(table: dict[int, Precommitted], node: int, newer: Precommitted) -> None:
    known = table.get(node)
    if known is None or known[:2] < newer[:2]:
        table[node] = newer


def _hex(value: bytes | None) -> str:
    return "nil" if value is None else value.hex()[:8]
