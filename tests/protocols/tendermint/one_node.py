"""One node of Tendermint among four, and what the others would say to it, rightly signed.

Every height below the one that is named was decided in round 0, with ``A`` in its block, by the precommits of OTHERS. A
block is that of the proposer of round 0, unless another made it.
"""

from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from quorate.kernel import ROOT, Done, Fired, Host, Input, Received, Record, Submitted, Turn
from quorate.ledger.comet.commits import COMMIT
from quorate.parts import requests
from quorate.parts.crypto.keys import Symbolic, VerifyBatch
from quorate.protocols.tendermint.app_messages import CheckTxs, Transactions, TxChecked
from quorate.protocols.tendermint.blockchain import Chain, chain_id_of
from quorate.protocols.tendermint.chain_app import Finalized
from quorate.protocols.tendermint.commits import commit_of, prevotes_of
from quorate.protocols.tendermint.committee import Committee
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.effects import SignedVote, Step
from quorate.protocols.tendermint.entry import ENTRY
from quorate.protocols.tendermint.messages import (
    Decision,
    Precommit,
    Prevote,
    Proposal,
    TendermintConfig,
    step_of,
)
from quorate.protocols.tendermint.named_blocks import NamedBlock, name_block
from quorate.protocols.tendermint.requests_app import DONE
from quorate.protocols.tendermint.signed_bytes import proposal_bytes, vote_bytes
from quorate.sim.chance import streams

SCHEME = Symbolic(range(4))
KEYRING = SCHEME.keyring()
CHAIN_ID = chain_id_of("")
WALL_NS = 1_800_000_000_000_000_000
ONE, TWO, THREE = (requests.sign(SCHEME.client(0), [text]) for text in (b"one", b"two", b"three"))
A, B, C = (ONE,), (TWO,), (THREE,)
NIL = None
CONFIG = TendermintConfig(propose_s=3.0, prevote_s=1.0, precommit_s=1.0, further_s=0.5)
Values = tuple[bytes, ...]


def proposer_of(round: int, height: int = 1, powers: Sequence[int] = ()) -> int:
    """Whose turn it is."""
    committee = Committee(range(4), powers, KEYRING)
    for _ in range(1, height):
        committee.advance()
    return committee.proposer(round)


P = tuple(proposer_of(round) for round in range(4))
"""The proposers of the first rounds of height 1: each node once."""
ME = P[3]
"""Whose steps tests look at: it proposes in round 3 and not before."""
OTHERS = P[:3]
ALL = (0, 1, 2, 3)


@cache
def chain_at(height: int) -> Chain:
    """Before this height is decided."""
    chain = Chain(CHAIN_ID, Committee(range(4), (), KEYRING), 0, KEYRING.verify_canonical)
    for below in range(1, height):
        header = block(A, below).block.header
        said = Finalized((DONE,), sha256(chain.state.app_hash + header.data_hash).digest())
        chain.advance(block(A, below), COMMIT.decode(decision(below).commit), said)
    return chain


@cache
def block(values: Values, height: int = 1, by: int | None = None) -> NamedBlock:
    return name_block(chain_at(height).draft(proposer_of(0, height) if by is None else by, values))


def prevote(node: int, round: int, values: Values | None, height: int = 1, by: int | None = None) -> Prevote:
    return vote_for(Prevote, node, round, None if values is None else block(values, height, by), height)


def precommit(node: int, round: int, values: Values | None, height: int = 1, by: int | None = None) -> Prevote:
    return vote_for(Precommit, node, round, None if values is None else block(values, height, by), height)


def vote_for(make: Any, node: int, round: int, its: NamedBlock | None, height: int = 1) -> Prevote:
    """For any block, or none."""
    step = Step.PRECOMMIT if make is Precommit else Step.PREVOTE
    time_ns = chain_at(height).vote_ns(WALL_NS, its and its.block)
    value = its and its.name
    signature = SCHEME.keys(node).sign_canonical(vote_bytes(CHAIN_ID, step, height, round, value, time_ns))
    vote: Prevote = make(height, round, value, node, time_ns, signature)
    return vote


def resigned(vote: Prevote) -> Prevote:
    """With its node's signature of what it says now."""
    data = vote_bytes(CHAIN_ID, step_of(vote), vote.height, vote.round, vote.value, vote.time_ns)
    return replace(vote, signature=SCHEME.keys(vote.node).sign_canonical(data))


def proposal(
    round: int,
    values: Values,
    valid_round: int = -1,
    proof: bytes | None = None,
    height: int = 1,
    node: int | None = None,
    by: int | None = None,
) -> Proposal:
    """Of the round's proposer, unless another is named."""
    return proposal_of(block(values, height, by), round, valid_round, proof, height, node)


def proposal_of(
    its: NamedBlock,
    round: int = 0,
    valid_round: int = -1,
    proof: bytes | None = None,
    height: int = 1,
    node: int | None = None,
) -> Proposal:
    """Of any block."""
    node = proposer_of(round, height) if node is None else node
    time_ns = chain_at(height).vote_ns(WALL_NS, its.block)
    data = proposal_bytes(CHAIN_ID, height, round, its.name, valid_round, time_ns)
    return Proposal(height, round, its.data, valid_round, proof, time_ns, SCHEME.keys(node).sign_canonical(data))


def proof(
    step: Step, round: int, values: Values, nodes: Sequence[int] = OTHERS, height: int = 1, by: int | None = None
) -> bytes:
    """In the form of a commit."""
    return proof_for(step, round, block(values, height, by), nodes, height)


def proof_for(step: Step, round: int, its: NamedBlock, nodes: Sequence[int] = OTHERS, height: int = 1) -> bytes:
    """Of any block."""
    make, committee = Prevote if step is Step.PREVOTE else Precommit, chain_at(height).committee
    votes = [as_said(vote_for(make, node, round, its, height)) for node in nodes]
    if step is Step.PREVOTE:
        return COMMIT.encode(prevotes_of(committee, height, round, its.name, votes))
    return COMMIT.encode(commit_of(committee, height, round, its, votes))


def as_said(vote: Prevote) -> SignedVote:
    return SignedVote(vote.node, step_of(vote), vote.round, vote.value, vote.signature, vote.time_ns)


def decision(height: int = 1, values: Values = A, nodes: Sequence[int] = OTHERS, by: int | None = None) -> Decision:
    """In round 0."""
    commit = proof(Step.PRECOMMIT, 0, values, nodes, height, by)
    return Decision(height, block(values, height, by).data, commit)


class OneNode:
    """Messages to itself arrive at once, and signatures are checked at once, unless told otherwise."""

    def __init__(
        self,
        records: Sequence[Any] = (),
        node: int = ME,
        config: TendermintConfig = CONFIG,
        core: type[Tendermint] | None = None,
        checks: bool = True,
    ) -> None:
        self.node = node
        self.now = 10.0
        self.checks = checks
        self.host = Host(ENTRY.make(config, core, keys=SCHEME.keys), node, range(4), streams("tendermint"))
        for record in records:
            self.host.restore(Record(ROOT, record))
        self.recovered = list(self.core.checkpoint())
        """What it would write as a checkpoint before it starts."""
        self.turns: list[Turn] = []
        self.first = self._take(self.host.start(self.now, WALL_NS))

    @property
    def core(self) -> Tendermint:
        assert isinstance(self.host.root, Tendermint)
        return self.host.root

    @property
    def place(self) -> tuple[int, int, Step]:
        rules = self.core.current.open.rules
        return self.core.current.open.number, rules.round, rules.step

    # --- what comes; each returns the Turn of the step and of what it led to ---

    def step(self, *items: Input) -> Turn:
        self.turns = []
        return self._take(self.host.step(list(items), self.now, WALL_NS))

    def hears(self, *messages: tuple[int, Any]) -> Turn:
        return self.step(*[Received(sender, message) for sender, message in messages])

    def votes(
        self, make: Any, round: int, values: Values | None, *nodes: int, height: int = 1, by: int | None = None
    ) -> Turn:
        return self.hears(*[(node, make(node, round, values, height, by)) for node in nodes])

    def submits(self, *values: bytes) -> Turn:
        return self.step(Submitted(values))

    def fires(self, key: str) -> Turn:
        return self.step(Fired(key))

    def checked(self, job: Any) -> Turn:
        return self.step(Done(job.key, KEYRING.verify_batch(job.work), job.path))

    def _take(self, turn: Turn) -> Turn:
        assert all(isinstance(send.message, Transactions) for send in turn.early), "all else waits for the disk"
        assert all(isinstance(value, TxChecked) or isinstance(value.work, CheckTxs) for value in turn.at_once)
        self.turns.append(replace(turn))
        own: list[Input] = [Received(self.node, s.message) for s in turn.sends if self.node in s.to]
        if self.checks:
            for job in [job for job in turn.jobs if isinstance(job.work, VerifyBatch)]:
                own.append(Done(job.key, KEYRING.verify_batch(job.work), job.path))
            turn.jobs = [job for job in turn.jobs if not isinstance(job.work, VerifyBatch)]
        if own:
            more = self._take(self.host.step(own, self.now, WALL_NS))
            for name in ("early", "at_once", "records", "sends", "timers", "jobs", "outputs", "blames"):
                setattr(turn, name, [*getattr(turn, name), *getattr(more, name)])
        return turn


def said(turn: Turn) -> list[Any]:
    """What it says to all."""
    return [send.message for send in turn.sends if send.to == ALL]


def told(turn: Turn, node: int) -> list[Any]:
    """What it says to one node, or to the others."""
    return [send.message for send in (*turn.early, *turn.sends) if node in send.to and send.to != ALL]


def written(turn: Turn) -> list[Any]:
    return [record.value for record in turn.records]


def blames(turn: Turn) -> list[tuple[int, str]]:
    return [(blame.node, blame.why) for blame in turn.blames]
