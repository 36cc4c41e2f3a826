"""One node of Tendermint among four, and what the others would say to it, rightly signed."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from quorate.kernel import ROOT, Done, Fired, Host, Input, Received, Record, Submitted, Turn
from quorate.parts import requests
from quorate.parts.crypto.keys import Symbolic, VerifyBatch
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.tendermint.committee import Committee
from quorate.protocols.tendermint.core import Tendermint
from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.entry import ENTRY
from quorate.protocols.tendermint.messages import (
    PROPOSAL,
    Precommit,
    Prevote,
    Proposal,
    TendermintConfig,
    batch_id,
    proposal_statement,
    vote_context,
    vote_statement,
)
from quorate.sim.chance import streams

SCHEME = Symbolic(range(4))
KEYRING = SCHEME.keyring()
ONE, TWO, THREE = (requests.sign(SCHEME.client(0), [text]) for text in (b"one", b"two", b"three"))
A, B, C = (ONE,), (TWO,), (THREE,)
NIL = None
CONFIG = TendermintConfig(propose_s=3.0, prevote_s=1.0, precommit_s=1.0, further_s=0.5)


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


def prevote(node: int, round: int, values: tuple[bytes, ...] | None, height: int = 1) -> Prevote:
    return _vote(Prevote, Step.PREVOTE, node, round, values, height)


def precommit(node: int, round: int, values: tuple[bytes, ...] | None, height: int = 1) -> Prevote:
    return _vote(Precommit, Step.PRECOMMIT, node, round, values, height)


def _vote(make: Any, step: Step, node: int, round: int, values: tuple[bytes, ...] | None, height: int) -> Prevote:
    value = None if values is None else batch_id(values)
    signature = SCHEME.keys(node).sign(vote_context(step), vote_statement(height, round, value))
    vote: Prevote = make(height, round, value, node, signature)
    return vote


def proposal(
    round: int,
    values: tuple[bytes, ...],
    valid_round: int = -1,
    proof: Certificate | None = None,
    height: int = 1,
    node: int | None = None,
) -> Proposal:
    """Of the round's proposer, unless another is named."""
    node = proposer_of(round, height) if node is None else node
    statement = proposal_statement(height, round, batch_id(values), valid_round)
    return Proposal(height, round, values, valid_round, proof, SCHEME.keys(node).sign(PROPOSAL, statement))


def proof(
    step: Step, round: int, values: tuple[bytes, ...], nodes: Sequence[int] = OTHERS, height: int = 1
) -> Certificate:
    make = prevote if step is Step.PREVOTE else precommit
    signatures = tuple((node, make(node, round, values, height).signature) for node in sorted(nodes))
    return Certificate(vote_context(step), vote_statement(height, round, batch_id(values)), signatures)


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
        self.first = self._take(self.host.start(self.now))

    @property
    def core(self) -> Tendermint:
        assert isinstance(self.host.root, Tendermint)
        return self.host.root

    @property
    def place(self) -> tuple[int, int, Step]:
        rules = self.core.open.rules
        return self.core.open.number, rules.round, rules.step

    # --- what comes; each returns the Turn of the step and of what it led to ---

    def step(self, *items: Input) -> Turn:
        self.turns = []
        return self._take(self.host.step(list(items), self.now))

    def hears(self, *messages: tuple[int, Any]) -> Turn:
        return self.step(*[Received(sender, message) for sender, message in messages])

    def votes(self, make: Any, round: int, values: tuple[bytes, ...] | None, *nodes: int, height: int = 1) -> Turn:
        return self.hears(*[(node, make(node, round, values, height)) for node in nodes])

    def submits(self, *values: bytes) -> Turn:
        return self.step(Submitted(values))

    def fires(self, key: str) -> Turn:
        return self.step(Fired(key))

    def checked(self, job: Any) -> Turn:
        return self.step(Done(job.key, KEYRING.verify_batch(job.work), job.path))

    def _take(self, turn: Turn) -> Turn:
        assert not turn.early
        self.turns.append(replace(turn))
        own: list[Input] = [Received(self.node, s.message) for s in turn.sends if self.node in s.to]
        if self.checks:
            for job in [job for job in turn.jobs if isinstance(job.work, VerifyBatch)]:
                own.append(Done(job.key, KEYRING.verify_batch(job.work), job.path))
            turn.jobs = []
        if own:
            more = self._take(self.host.step(own, self.now))
            for name in ("records", "sends", "timers", "jobs", "outputs", "blames"):
                setattr(turn, name, [*getattr(turn, name), *getattr(more, name)])
        return turn


def said(turn: Turn) -> list[Any]:
    """What it says to all."""
    return [send.message for send in turn.sends if send.to == ALL]


def told(turn: Turn, node: int) -> list[Any]:
    """What it says to one node, or to the others."""
    return [send.message for send in turn.sends if node in send.to and send.to != ALL]


def written(turn: Turn) -> list[Any]:
    return [record.value for record in turn.records]


def blames(turn: Turn) -> list[tuple[int, str]]:
    return [(blame.node, blame.why) for blame in turn.blames]
