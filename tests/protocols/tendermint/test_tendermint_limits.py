"""What Tendermint promises, in numbers: it goes on without f nodes, at such a cost; and f + 1 liars break it."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

import pytest
from msgspec.structs import replace

from quorate.kernel import Send
from quorate.ledger.comet.blocks import BlockData
from quorate.parts.requests import sign
from quorate.protocols.tendermint.invariants import ONE_CHAIN
from quorate.protocols.tendermint.messages import Prevote, Proposal, Votes
from quorate.protocols.tendermint.named_blocks import NamedBlock, decode_block, name_block
from quorate.sim.adversary.liar import Liar
from quorate.sim.run import simulate
from quorate.sim.swarm import Mix
from quorate.sim.world import World
from quorate.trials.abci.subject import AppSubject
from quorate.trials.campaign import Task, trial_of

from tests.protocols.tendermint.app_trial import app_trial
from tests.sim.message_counts import DELAY_S, sent_in

MIX = Mix(delay_s_min=DELAY_S, delay_s_mean=1e-9, is_fifo=True, sync_s=DELAY_S / 10, clients=0)
WITHIN_S = 2.0
"""Of a dead proposer's turn, and its round's votes; the chain grows at least so often."""


class TwoFaced(Liar):
    """Half of the nodes are shown one block, the others the same with its requests in another order; and so with votes.

    Who lies so need not talk to the others who do: either block tells them of the other.
    """

    name = "two-faced"

    def tell(self, send: Send) -> Iterable[Send]:
        m, means = send.message, self.means
        if isinstance(m, Proposal):
            faces = self._faces(m.block)
            for to in send.to:
                yield Send((to,), send.path, means.resign(replace(m, block=faces[to % 2].data)))
        elif isinstance(m, Prevote) and m.value is not None and m.height == means.core.current.open.number:
            faces = self._faces(means.core.current.open.block_of(m.value).data)
            for to in send.to:
                yield Send((to,), send.path, means.resign(replace(m, value=faces[to % 2].name)))
        elif not isinstance(m, Votes):  # which would show the one half what the other was told
            yield send

    def _faces(self, data: bytes) -> list[NamedBlock]:
        block = decode_block(data).block
        turned = BlockData(tuple(reversed(block.data.txs)))
        header = replace(block.header, data_hash=turned.hash())
        other = name_block(replace(block, header=header, data=turned))
        return sorted([decode_block(data), other], key=attrgetter("name"))


def quiet(nodes: int, subject: AppSubject) -> World:
    """A run in which nothing fails, with the checkers that belong to it."""
    trial = replace(app_trial(1, subject, nodes=nodes, faults=()), mix=MIX)
    return World(trial, trial.checkers())


def goes_on_without(dead: int, duration_s: float) -> int:
    """How many heights were decided while one of four nodes was dead; they came at all times."""
    subject = AppSubject()
    world = quiet(4, subject)
    world.start()
    world.run_until(1.0)
    world.nodes[dead].switch_off()
    began = height = len(subject.history.heights)
    while world.now < 1.0 + duration_s:
        world.run_until(world.now + WITHIN_S)
        assert len(subject.history.heights) > height, f"nothing was decided from {world.now - WITHIN_S} s on"
        height = len(subject.history.heights)
    return height - began


def test_one_of_four_is_dead_and_the_others_go_on() -> None:
    assert goes_on_without(0, 6.0) > 6


@pytest.mark.slow
@pytest.mark.parametrize("dead", range(4))
def test_for_a_minute(dead: int) -> None:
    assert goes_on_without(dead, 60.0) > 60


@pytest.mark.parametrize("nodes", [4, 7, 10])
def test_messages_of_a_decision(nodes: int) -> None:
    """(n - 1)(2n + 1): one proposal to all others, and two votes of each node to all others.

    A few less, as a node that is late to check a block may see it decided, and votes no more.
    """
    trial = trial_of(Task(protocol="tendermint", seed=1, nodes=nodes, faults="none"))
    world = World(replace(trial, mix=MIX), trial.checkers())
    sent = sent_in(world)
    world.start()
    assert trial.scheme is not None
    client, decisions = trial.scheme.client(0), 20
    for number in range(decisions):
        for node in world.nodes:
            node.operate(sign(client, [b"%d" % number]))
        world.run_until(world.now + 10 * DELAY_S)
    assert {node.host.root.log.last for node in world.nodes} == {decisions}
    assert sent["Proposal"] == (nodes - 1) * decisions
    assert sent["Votes"] == sent["Decision"] == 0, "nothing was lost"
    most = (nodes - 1) * (2 * nodes + 1) * decisions
    assert 0.9 * most < sent["Proposal"] + sent["Prevote"] + sent["Precommit"] <= most


def test_more_liars_than_it_bears_break_it() -> None:
    """Else the checkers would see nothing. Two of four show each of the others another block, and vote for both."""
    for seed in range(20):
        trial = trial_of(Task(protocol="tendermint", seed=seed, nodes=4, byzantine=2, faults="none", duration_s=3.0))
        options = replace(trial.options, adversary=(TwoFaced.name,))
        if simulate(replace(trial, options=options, liars=(TwoFaced,))).violated == ONE_CHAIN:
            return
    raise AssertionError("no seed of 20 broke it")
