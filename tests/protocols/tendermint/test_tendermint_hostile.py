"""Whatever a node is sent, in whichever order: it raises nothing, and it never contradicts itself."""

import random
from typing import Any

import pytest

from quorate.protocols.tendermint.effects import Step
from quorate.protocols.tendermint.messages import (
    ROUNDS_MAX,
    Decision,
    Here,
    Precommit,
    Prevote,
    Proposal,
    Votes,
    step_of,
)
from quorate.protocols.tendermint.named_blocks import decode_block, name_block

from tests.protocols.tendermint.one_node import (
    ME,
    ONE,
    TWO,
    A,
    B,
    C,
    OneNode,
    P,
    block,
    proof_for,
    proposal_of,
    proposer_of,
    said,
    vote_for,
)

KINDS = (Prevote, Precommit)
VALUES = (A, B, C, (ONE, TWO), (b"no request",))
FAR = (1, 2, 5, 9, 40, ROUNDS_MAX - 1)


def a_message(rng: random.Random, node: OneNode) -> tuple[int, Any]:
    """Rightly signed, or nearly so, by any node but the one under test. Most blocks follow on its chain."""
    height, chain = node.place[0], node.core.chain
    sender, round = rng.choice(P[:3]), rng.randrange(4)
    if rng.random() < 0.1:
        round = rng.choice(FAR)
    values = rng.choice(VALUES)
    its = name_block(chain.draft(rng.choice(P[:2]), values))
    if rng.random() < 0.2:
        height += rng.choice((-1, 1, 2)) if height > 1 else 1
        its = block(values, height)
    chance = rng.random()
    if chance < 0.25:
        proposer = proposer_of(round, height) if round < 10 and rng.random() < 0.9 else sender
        proposer = sender if proposer == ME else proposer
        valid_round = rng.randrange(-1, 4)
        shown = proof_for(Step.PREVOTE, max(0, valid_round), its, height=height) if rng.random() < 0.6 else None
        return proposer, proposal_of(its, round, valid_round, shown, height, proposer)
    if chance < 0.75:
        return sender, vote_for(rng.choice(KINDS), sender, round, rng.choice((its, None)), height)
    if chance < 0.85:
        votes = tuple(vote_for(make, rng.choice(P[:3]), round, its, height) for make in KINDS for _ in range(3))
        return sender, Votes(votes)
    if chance < 0.9:
        nodes = P[:3] if rng.random() < 0.5 else P[:2]
        return sender, Decision(height, its.data, proof_for(Step.PRECOMMIT, round, its, nodes, height))
    return sender, Here(rng.choice((1, height, 2**61)))


@pytest.mark.parametrize("seeds", [range(12), pytest.param(range(12, 120), marks=pytest.mark.slow)])
def test_it_holds_its_ground(seeds: range) -> None:
    decided = 0
    for seed in seeds:
        rng = random.Random(seed)
        node = OneNode()
        signed: dict[tuple[int, int, Step], bytes | None] = {}
        for _ in range(120):
            kind = rng.random()
            if kind < 0.8:
                turn = node.hears(a_message(rng, node))
            elif kind < 0.95:
                turn = node.fires(rng.choice(("propose", "prevote", "precommit", "beat")))
            elif kind < 0.98:
                turn = node.submits(rng.choice((ONE, TWO)))
            else:
                node = OneNode(list(node.core.checkpoint()))
                turn = node.first
            for m in said(turn):
                if isinstance(m, Proposal | Prevote):
                    step = step_of(m) if isinstance(m, Prevote) else Step.PROPOSE
                    value = m.value if isinstance(m, Prevote) else decode_block(m.block).name
                    assert signed.setdefault((m.height, m.round, step), value) == value, f"seed {seed}"
            assert node.node not in [blame.node for blame in turn.blames], f"seed {seed}"
        decided += node.place[0] - 1
    assert decided > len(seeds), "or hardly anything was tried"
