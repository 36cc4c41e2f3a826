"""Many heights in any order: nodes that follow the rules agree, whatever a liar says, and decide once messages arrive.

No network and no core: seven nodes of unequal power, or four alike, as plain objects, and what they said in a heap.
"""

import random
from fractions import Fraction

import pytest

from quorate.parts.quorum import Weighted
from quorate.protocols.tendermint.effects import (
    GetValue,
    Judge,
    SendProposal,
    SendVote,
    SetTimeout,
    SignedProposal,
    SignedVote,
    Step,
)
from quorate.protocols.tendermint.heard import FAR_ROUNDS
from quorate.protocols.tendermint.height import Height

VALUES = [b"v%d" % node for node in range(7)]


class Schedule:
    """Nodes, what is on its way, and chance. The liars, less than a third of the power, say anything to anyone."""

    def __init__(self, seed: int, powers: dict[int, int], liars: frozenset[int]) -> None:
        self.rng = random.Random(seed)
        self.liars = liars
        self.nodes = tuple(powers)
        self.said: list[tuple[int, SignedProposal | SignedVote]] = []
        self.timeouts: list[tuple[int, SetTimeout]] = []
        self.sent: dict[tuple[int, Step, int], object] = {}
        quorum = Weighted(powers, Fraction(2, 3))
        self.heights = {node: Height(node, quorum, self.proposer) for node in powers if node not in liars}
        for node, height in self.heights.items():
            height.start()
            self.act(node)

    def proposer(self, round: int) -> int:
        return round % len(self.nodes)

    def act(self, node: int) -> None:
        """Do what a node asks for. Nobody contradicts itself."""
        height = self.heights[node]
        while effects := height.take():
            for effect in effects:
                match effect:
                    case Judge():
                        height.on_judged(effect.value, effect.value in VALUES)
                    case GetValue():
                        height.on_built(effect.round, VALUES[node])
                    case SendVote():
                        assert self.sent.setdefault((node, effect.step, effect.round), effect) is effect
                        self.broadcast(SignedVote(node, effect.step, effect.round, effect.value))
                    case SendProposal():
                        assert self.sent.setdefault((node, Step.PROPOSE, effect.round), effect) is effect
                        self.broadcast(SignedProposal(node, effect.round, effect.value, effect.valid_round))
                    case SetTimeout():
                        self.timeouts.append((node, effect))

    def broadcast(self, said: SignedProposal | SignedVote) -> None:
        self.said += [(node, said) for node in self.heights]

    def lie(self) -> None:
        """To one node, of a round about where it is."""
        node, liar = self.rng.choice(list(self.heights)), self.rng.choice(sorted(self.liars))
        round = max(0, self.heights[node].round + self.rng.choice((-1, 0, 0, 0, 1)))
        value = self.rng.choice([*VALUES, b"bad", None])
        if self.rng.random() < 0.3 and value is not None:
            self.said.append((node, SignedProposal(liar, round, value, self.rng.randrange(-1, round + 1))))
        else:
            step = self.rng.choice((Step.PREVOTE, Step.PRECOMMIT))
            self.said.append((node, SignedVote(liar, step, round, value)))

    def one(self) -> None:
        """One thing happens: mostly a message arrives, in any order."""
        chance = self.rng.random()
        if chance < 0.15 and self.liars:
            self.lie()
        elif chance < 0.3 and self.timeouts:
            node, its = self.timeouts.pop(self.rng.randrange(len(self.timeouts)))
            self.heights[node].on_timeout(its.step, its.round)
            self.act(node)
        elif self.said:
            self.arrive(*self.said.pop(self.rng.randrange(len(self.said))))

    def arrive(self, node: int, said: SignedProposal | SignedVote) -> None:
        """With a proposal that was prevoted before comes the certificate of it, if the proposer has one."""
        if isinstance(said, SignedProposal) and said.valid_round >= 0 and said.node not in self.liars:
            self.heights[node].on_certified(said.valid_round, Step.PREVOTE, said.value)
        self.heights[node].on_said(said)
        self.act(node)

    def gossip(self) -> None:
        """What one correct node has received, all receive (the paper's assumption); where a liar's votes differ, those
        that saw a quorum show it."""
        self.said = [(node, said) for node, said in self.said if said.node not in self.liars]
        shown = []
        for height in self.heights.values():
            for round in range(height.round + FAR_ROUNDS + 1):
                for proposal in height.heard.proposals(round):
                    self.broadcast(proposal)
                for step in (Step.PREVOTE, Step.PRECOMMIT):
                    for vote in height.heard.votes(round, step):
                        self.broadcast(vote)
                    shown += [(round, step, v) for v in VALUES if height.heard.has_quorum(round, step, v)]
        for node, height in self.heights.items():
            for quorum in shown:
                height.on_certified(*quorum)
                self.act(node)

    def calm(self) -> None:
        """All messages arrive before any timeout; liars are silent."""
        self.gossip()
        while not all(height.decision for height in self.heights.values()):
            if self.said:
                self.arrive(*self.said.pop(0))
            elif self.timeouts:
                least = min(range(len(self.timeouts)), key=lambda at: (self.timeouts[at][1].round, at))
                node, its = self.timeouts.pop(least)
                self.heights[node].on_timeout(its.step, its.round)
                self.act(node)
            else:
                assert self.decided, "nothing is under way, and none has decided"
                self.gossip()
            assert max(height.round for height in self.heights.values()) < 200

    @property
    def decided(self) -> set[bytes]:
        return {height.decision.value for height in self.heights.values() if height.decision}


CASES = {
    "four alike": (dict.fromkeys(range(4), 1), frozenset({2})),
    "seven, two liars": (dict.fromkeys(range(7), 1), frozenset({1, 5})),
    "unequal": ({0: 10, 1: 5, 2: 3, 3: 1}, frozenset({1, 3})),
    "no liar": (dict.fromkeys(range(4), 1), frozenset()),
}


@pytest.mark.parametrize("case", CASES)
def test_those_who_decide_agree_and_all_decide_in_the_end(case: str) -> None:
    powers, liars = CASES[case]
    rounds = 0
    for seed in range(150):
        schedule = Schedule(seed, powers, liars)
        for _ in range(400):
            schedule.one()
            assert len(schedule.decided) <= 1, f"seed {seed}"
        schedule.calm()
        assert len(schedule.decided) == 1, f"seed {seed}"
        assert schedule.decided <= set(VALUES), f"seed {seed}"
        rounds = max(rounds, *(height.round for height in schedule.heights.values()))
    assert rounds > 2, "or the schedules are too kind"
