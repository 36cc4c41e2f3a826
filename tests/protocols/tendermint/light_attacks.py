"""Attacks on light clients in the simulator: validators who sign a second block of a height, off the chain.

How it works. The nodes run the chain, and lie nowhere on it. Some validators lend their keys to the Liar, who makes
another block of a height that was decided and has them sign it. A light client asks the Liar (its primary), and then an
honest node (its witness). It finds where the two part, makes evidence against either, and brings both to honest nodes
until a block has one, as nodes may crash and forget.

Two attacks. Lunatic: a header that follows on nothing, with the liars for its validators; more than a third of the
power is enough to lead a client there that skips heights. Equivocation: another choice of transactions, in the round
that decided the height; the whole of a quorum has to sign that, or no light client would look at it.

AttackPunished checks the chain: a block has the evidence, once, and it blames the liars and nobody else (for an
equivocation, those of them who signed the chain's block as well). OneHistory checks that every app is told so.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from hashlib import sha256
from random import Random
from typing import Any, TypeVar

from msgspec.structs import replace

from quorate.kernel import Received
from quorate.ledger.comet.abci.contents import misbehaviors
from quorate.ledger.comet.block_ids import BlockID, PartSetHeader
from quorate.ledger.comet.blocks import BLOCK
from quorate.ledger.comet.commits import FOR_BLOCK, NO_SIG, Commit, CommitSig
from quorate.ledger.comet.divergence import find_divergence
from quorate.ledger.comet.evidence import MISCONDUCT, LightClientAttackEvidence, Misconduct
from quorate.ledger.comet.evidence_checks import is_lunatic
from quorate.ledger.comet.light_blocks import LightBlock, SignedHeader
from quorate.ledger.comet.light_client import TrustOptions, bisection
from quorate.ledger.comet.times import NS_PER_S
from quorate.ledger.comet.validators import CometValidatorSet, key_address
from quorate.parts.crypto.keys import Keys
from quorate.protocols.tendermint.app_messages import BlockApplied
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.messages import Accusation
from quorate.protocols.tendermint.named_blocks import name_of_id
from quorate.protocols.tendermint.signed_bytes import vote_bytes
from quorate.runtime.keys import Ed25519, Ed25519Signer
from quorate.sim.checkers.base import Checker, Violation
from quorate.sim.workload import Workload
from quorate.trials.abci.subject import AppSubject
from quorate.trials.abci.submitting import Submitting

PUNISHED = "attacks on light clients are punished"
TRUSTED_AT = 2
ATTACKED_AT = 5
AGAIN_S = 0.4
OPTIONS = TrustOptions(period_ns=3600 * NS_PER_S)
FALSE = sha256(b"false").digest()
Source = Callable[[int], LightBlock]
T = TypeVar("T")


class SeededKeys(Ed25519):
    """Keys that light clients can check, the same in each run of a seed."""

    def __init__(self, nodes: int, seed: int, cluster: str) -> None:
        super().__init__((), cluster)
        secrets = {node: sha256(b"%d/%d" % (seed, node)).digest() for node in range(nodes)}
        self._signers = {node: Ed25519Signer(node, secret).within(cluster) for node, secret in secrets.items()}


class Liar:
    """What validators make of a true block together."""

    def __init__(self, signers: Sequence[Keys]) -> None:
        self._keys = {key_address(keys.public): keys for keys in signers}

    @property
    def addresses(self) -> set[bytes]:
        """Who is to be blamed."""
        return set(self._keys)

    def lunatic(self, true: LightBlock) -> LightBlock:
        """The liars are its validators, and nobody else."""
        liars = tuple([each for each in true.validator_set.validators if each.address in self._keys])
        own = CometValidatorSet(liars, liars[0])
        header = replace(true.header, app_hash=FALSE, validators_hash=own.hash(), next_validators_hash=own.hash())
        return self._signed(replace(true, signed_header=replace(true.signed_header, header=header), validator_set=own))

    def equivocation(self, true: LightBlock) -> LightBlock:
        """Other transactions on the same state."""
        header = replace(true.header, data_hash=FALSE)
        return self._signed(replace(true, signed_header=replace(true.signed_header, header=header)))

    def _signed(self, made: LightBlock) -> LightBlock:
        """By all who lie, in the round that decided the height."""
        header, round = made.header, made.commit.round
        block_id = BlockID(header.hash(), PartSetHeader(1, FALSE))
        time = header.time.plus_ns(1_000_000)
        name, chain_id, entries = name_of_id(block_id), header.chain_id, []
        for validator in made.validator_set.validators:
            keys = self._keys.get(validator.address)
            if keys is None:
                entries.append(NO_SIG)
                continue
            data = vote_bytes(chain_id, Step.PRECOMMIT, header.height, round, name, time.ns())
            entries.append(CommitSig(FOR_BLOCK, validator.address, time, keys.sign_canonical(data)))
        commit = Commit(header.height, round, block_id, tuple(entries))
        return replace(made, signed_header=SignedHeader(header, commit))


def fed(steps: Generator[int, LightBlock, T], source: Source) -> T:
    """What comes of it, with the blocks of one source."""
    try:
        height = next(steps)
        while True:
            height = steps.send(source(height))
    except StopIteration as end:
        result: T = end.value
        return result


def detected(primary: Source, witness: Source, height: int) -> tuple[LightClientAttackEvidence, ...]:
    """What a light client makes of two sources: evidence against the primary, and against the witness."""
    trusted, now = witness(TRUSTED_AT), witness(height).header.time.plus_ns(NS_PER_S)
    verified = fed(bisection(trusted, primary(height), OPTIONS, now), primary)
    try:
        against_primary = fed(find_divergence((trusted, *verified), witness(height), OPTIONS, now), witness)
    except ValueError:
        return ()
    trace, shown = against_primary.trace, against_primary.conflicting
    against_witness = fed(find_divergence(trace, shown, OPTIONS, now), primary)
    return against_primary.evidence(), against_witness.evidence()


class AttackPunished(Checker):
    """``liars``: whom evidence may blame."""

    def __init__(self, liars: set[bytes]) -> None:
        self._liars = liars
        self.applied: dict[int, BlockApplied] = {}
        self.committed: dict[int, Misconduct] = {}
        """By height, what a block had. Here one has one piece at most."""

    def output(self, node: int, value: Any) -> None:
        if not isinstance(value, BlockApplied) or value.height in self.applied:
            return
        self.applied[value.height] = value
        for piece in BLOCK.decode(value.block).evidence.evidence:
            blamed = {found.validator.address for found in misbehaviors(piece)}
            if not isinstance(piece, LightClientAttackEvidence) or blamed != self._to_be_blamed(piece):
                raise Violation(PUNISHED, f"height {value.height} blames others than those who lied")
            if self.committed:
                raise Violation(PUNISHED, f"the heights {[*self.committed, value.height]} blame one attack")
            self.committed[value.height] = piece

    def _to_be_blamed(self, piece: LightClientAttackEvidence) -> set[bytes]:
        true = self.light_block(ATTACKED_AT)
        if is_lunatic(piece, true.header):
            return self._liars
        signed = {entry.validator_address for entry in true.commit.signatures if entry.block_id_flag == FOR_BLOCK}
        return self._liars & signed

    def light_block(self, height: int) -> LightBlock:
        """The chain's, with the commit that is in the next block, as nodes show it once there is one."""
        its = self.applied[height]
        commit = BLOCK.decode(self.applied[height + 1].block).last_commit
        assert commit is not None
        return LightBlock(SignedHeader(BLOCK.decode(its.block).header, commit), its.validators)


class Attacking(Submitting):
    """Clients with transactions, and a light client that is lied to once the chain is high enough.

    Evidence alone makes no block: transactions come until one has it.
    """

    def __init__(self, world: Any, subject: AttackSubject) -> None:
        super().__init__(world, subject.history, None)
        self._subject = subject
        self._pieces: tuple[LightClientAttackEvidence, ...] = ()
        self._nodes = Random(f"{world.seed}/reports")
        self._is_to_end = False

    @property
    def are_idle(self) -> bool:
        return super().are_idle and bool(self._subject.punished.committed)

    def missing(self) -> str:
        return super().missing() if self._subject.punished.committed else "no block has the evidence"

    def start(self) -> None:
        super().start()
        self._world.after(AGAIN_S, self._look_in)

    def finish(self) -> None:
        self._is_to_end = True

    def _look_in(self) -> None:
        """Ask, if nothing was found yet; bring what was found to a node, as a client of its RPC does."""
        subject = self._subject
        if not self._pieces and ATTACKED_AT + 1 in subject.punished.applied:
            self._pieces = subject.detect()
        up = [node for node in self._world.honest if node.up and not node.paused]
        if self._pieces and up:
            node = up[int(self._nodes.random() * len(up))]
            for piece in self._pieces:
                node.put(Received(node.id, Accusation(1, MISCONDUCT.encode(piece))))
        if subject.punished.committed and self._is_to_end:
            super().finish()
        else:
            self._world.after(AGAIN_S, self._look_in)


class AttackSubject(AppSubject):
    """``kind``: of attack, the name of a method of the Liar. The liars are the first ``count`` of the nodes."""

    def __init__(self, seed: int, kind: str, count: int, nodes: int = 4) -> None:
        super().__init__()
        self.scheme = SeededKeys(nodes, seed, "apps")
        self.kind = kind
        self.liar = Liar([self.scheme.keys(node) for node in range(count)])
        self.punished = AttackPunished(self.liar.addresses)

    def primary(self, height: int) -> LightBlock:
        """The Liar's word."""
        true = self.punished.light_block(height)
        lie: Callable[[LightBlock], LightBlock] = getattr(self.liar, self.kind)
        return lie(true) if height == ATTACKED_AT else true

    def detect(self) -> tuple[LightClientAttackEvidence, ...]:
        """Raises Violation if the light client sees nothing."""
        pieces = detected(self.primary, self.punished.light_block, ATTACKED_AT)
        if not pieces:
            raise Violation(PUNISHED, "the light client believes the lie")
        true = self.punished.light_block(ATTACKED_AT)
        assert is_lunatic(pieces[0], true.header) == (self.kind == "lunatic")
        return pieces

    def workload(self, world: Any) -> Workload:
        return Attacking(world, self)

    def checkers(self, protocol: Sequence[Checker], scheme: Any) -> list[Checker]:
        return [*super().checkers(protocol, scheme), self.punished]
