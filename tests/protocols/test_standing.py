"""Standing: what each protocol's cores say of their own place, when all is well and before anybody leads."""

from collections.abc import Callable
from typing import Any

import pytest

from quorate.kernel import Core, Env, Host, Received, Submitted
from quorate.kernel.standing import Standing
from quorate.parts.log.configuration import FOUNDERS_ALONE, InForce, Reconfigurable, Voters
from quorate.protocols.echo import Echo
from quorate.protocols.multipaxos import MultiPaxos, MultiPaxosConfig
from quorate.protocols.paxos import Paxos, PaxosLog
from quorate.protocols.pbft import Pbft
from quorate.protocols.raft import Raft
from quorate.sim.chance import streams

from tests.protocols.cluster import Cluster
from tests.protocols.pbft.pbft_nodes import CONFIG as PBFT_CONFIG
from tests.protocols.pbft.pbft_nodes import SCHEME, X, Y

FOUR = (1, 2, 3, 4)


def pbft(env: Env) -> Pbft:
    return Pbft(env, PBFT_CONFIG, SCHEME.keys(env.id))


def standings(cluster: Cluster) -> dict[int, Standing]:
    return {node: member.host.root.standing() for node, member in cluster.members.items()}


@pytest.mark.parametrize("make", [Raft, MultiPaxos])
def test_one_leads_and_was_elected_and_the_others_follow_it(make: Callable[[Env], Core]) -> None:
    cluster = Cluster(make, 3, delay_s=(0.001, 0.002))
    assert {(s.role, s.leader, s.was_elected) for s in standings(cluster).values()} == {("follower", None, False)}
    assert cluster.run(30.0, lambda: any(s.was_elected for s in standings(cluster).values()))
    (leader,) = [node for node, standing in standings(cluster).items() if standing.was_elected]
    cluster.submit(leader, b"a")
    cluster.run(1.0)
    said = standings(cluster)
    core: Any = cluster[leader].host.root
    for node, standing in said.items():
        role = "leader" if node == leader else "follower"
        assert standing == Standing(role, leader, core.term, core.commit_index), node
        assert standing.term >= 1
        assert standing.commit_index == core.commit_index >= 1


def test_a_node_that_does_not_vote_is_a_learner() -> None:
    config = MultiPaxosConfig(members=(1, 2))
    cluster = Cluster(lambda env: MultiPaxos(env, config), 3, delay_s=(0.001, 0.002))
    assert cluster.run(30.0, lambda: cluster[3].host.root.standing().leader is not None)
    assert standings(cluster)[3].role == "learner"
    assert {standings(cluster)[node].role for node in (1, 2)} == {"leader", "follower"}
    core = cluster[3].host.root
    assert isinstance(core, Reconfigurable)
    assert core.in_force() == InForce(Voters((1, 2), (), 1), FOUNDERS_ALONE)


def test_a_primary_was_not_elected_and_a_view_counts_as_a_term() -> None:
    cluster = Cluster(pbft, 4, delay_s=(0.001, 0.002), keyring=SCHEME.keyring())
    cluster.submit(1, X)
    cluster.run(1.0)
    said = standings(cluster)
    assert said == {node: Standing("primary" if node == 1 else "backup", 1, 0, 1) for node in FOUR}
    assert not any(standing.was_elected for standing in said.values())
    cluster.crash(1)
    for node in (2, 3, 4):
        cluster.submit(node, Y)
    assert cluster.run(20.0, lambda: cluster[2].host.root.standing() == Standing("primary", 2, 1, 2))
    core = cluster[2].host.root
    assert isinstance(core, Reconfigurable)
    in_force = core.in_force()
    assert (in_force.voters, in_force.nodes) == (Voters(FOUR), FOUNDERS_ALONE)
    assert in_force.keyring is not None
    assert in_force.keyring.nodes == SCHEME.keyring().nodes


def test_a_sequencer_leads_from_the_beginning_and_nobody_elected_it() -> None:
    cluster = Cluster(Echo, 3, delay_s=(0.001, 0.002))
    cluster.submit(2, b"a")
    cluster.run(1.0)
    assert standings(cluster) == {node: Standing("leader" if node == 1 else "follower", 1, 0, 1) for node in (1, 2, 3)}
    assert not any(standing.was_elected for standing in standings(cluster).values())


def alone(make: Callable[[Env], Core], *values: bytes) -> Core:
    """A node that is its own group, when it has decided."""
    host = Host(make, 1, (1,), streams(0))
    turn = host.start(0.0)
    inputs: list[Any] = [Submitted(values)]
    for step in range(20):
        waiting = [Received(1, send.message, send.path) for send in (*turn.early, *turn.sends)]
        turn = host.step([*waiting, *inputs], 0.1 * step)
        inputs = []
    return host.root


def test_a_log_of_single_decrees_has_a_leader_that_nobody_elected() -> None:
    assert alone(PaxosLog, b"a").standing() == Standing("leader", 1, 0, 1)


def test_a_single_decree_has_roles_a_round_and_one_commit() -> None:
    assert alone(Paxos).standing() == Standing("proposer acceptor learner", None, 0, 0)
    assert alone(Paxos, b"a").standing() == Standing("proposer acceptor learner", None, 1, 1)


def test_a_core_that_says_nothing_has_a_standing_too() -> None:
    class Mute(Core):
        pass

    standing = Host(Mute, 1, (1,), streams(0)).root.standing()
    assert standing == Standing("", None, 0, None)
    assert not standing.was_elected
