"""Changes of members in whole groups: what was said of them holds, whoever is switched off and whoever restarts."""

import pytest

from quorate.kernel import Env
from quorate.parts.log.configuration import Voters, encode_change
from quorate.parts.log.replicated import ReadReady
from quorate.protocols.multipaxos import MultiPaxos, MultiPaxosConfig
from quorate.protocols.multipaxos.messages import Accept, Heartbeat
from quorate.protocols.multipaxos.mutants import SilentWhereCompacted, TellsChangeEarly

from tests.protocols.cluster import Cluster, Flight
from tests.protocols.stepped import FIVE

CONFIG = MultiPaxosConfig(members=(1, 2, 3), alpha=8, heartbeat_s=0.1, election_timeout_s_min=0.6)
COMPACTING = MultiPaxosConfig(
    members=(1, 2, 3), alpha=8, heartbeat_s=0.1, election_timeout_s_min=0.6, keep_entries=0, snapshot_entries=20
)
LEASED = MultiPaxosConfig(members=(1, 2, 3), alpha=8, heartbeat_s=0.1, election_timeout_s_min=0.6, lease_s=0.5)
DELAY_S, SYNC_S = (0.001, 0.003), 0.001


def led_by(node: int, config: MultiPaxosConfig, make: type[MultiPaxos] = MultiPaxos, seed: int = 0) -> Cluster:
    """Five nodes, of which 1, 2 and 3 vote, and this one leads."""

    def core(env: Env) -> MultiPaxos:
        return make(env, config)

    cluster = Cluster(core, 5, seed=seed)
    cluster.fire(node, "election")
    cluster.calm()
    assert cluster[node].core.role == "leader"
    cluster.delay_s, cluster.sync_s = lambda message: DELAY_S, SYNC_S
    return cluster


def goes_on(cluster: Cluster, nodes: tuple[int, ...], value: bytes = b"after") -> bool:
    """Whether these come to decide something within half a minute."""

    def submit_and_look() -> bool:
        for node in nodes:
            if cluster[node].core.role == "leader" and value not in cluster[node].applied:
                cluster.submit(node, value)
        return all(value in cluster[node].applied for node in nodes)

    return any(cluster.run(0.5) or submit_and_look() for _ in range(60))


# --- what is said to be in force is durable ---


def restarted_after_a_change(make: type[MultiPaxos], seed: int) -> Cluster:
    """1, 4 and 5 are the members, one of them has said so; 2 and 3 are gone for good, and the others restart."""
    cluster = led_by(1, CONFIG, make, seed)
    cluster.submit(1, encode_change((1, 4, 5)))
    in_force = Voters((1, 4, 5), (), 9)
    assert cluster.run(5.0, lambda: any(cluster[node].core.voters == in_force for node in FIVE))
    for node in FIVE:
        cluster.crash(node)
    for node in (1, 4, 5):
        cluster.restart(node)
    return cluster


@pytest.mark.parametrize("seed", range(5))
def test_new_members_go_on_without_the_old_as_soon_as_one_node_says_that_they_are_in_force(seed: int) -> None:
    assert goes_on(restarted_after_a_change(MultiPaxos, seed), (1, 4, 5))


def test_where_it_is_said_earlier_they_may_ask_the_old_for_ever() -> None:
    assert not goes_on(restarted_after_a_change(TellsChangeEarly, 0), (1, 4, 5))


# --- who is behind is told ---


def led_by_the_old(make: type[MultiPaxos]) -> Cluster:
    """3, 4 and 5 went on in new members and compacted; 1 and 2 have missed that these begin, and lead by the old."""
    cluster = led_by(3, COMPACTING, make)
    cluster.crash(1)

    def tells_2(flight: Flight) -> bool:
        return flight.to == 2 and isinstance(flight.message, Accept | Heartbeat) and flight.message.chosen_index >= 8

    cluster.loses = tells_2
    cluster.submit(3, encode_change(FIVE))
    cluster.run(0.3)
    assert cluster[3].core.voters == Voters(FIVE, (), 9)
    assert cluster[2].core.acceptor.log.last_index == 8 > cluster[2].core.acceptor.chosen_index
    cluster.crash(2)
    for _ in range(60):
        cluster.submit(3, b"b")
        cluster.run(0.01)
    assert min(cluster[node].core.acceptor.log.base_index for node in (3, 4, 5)) > 9
    cluster.loses = lambda flight: False
    cluster.cut((1, 2), (3, 4, 5))
    cluster.restart(1)
    cluster.restart(2)
    assert cluster.run(20.0, lambda: any(cluster[node].core.role == "leader" for node in (1, 2)))
    assert cluster.run(20.0, lambda: max(cluster[node].core.ballot for node in (1, 2)) > cluster[3].core.ballot)
    cluster.heal()
    return cluster


def test_a_leader_by_old_members_is_told_that_it_is_behind_and_gets_a_snapshot() -> None:
    assert goes_on(led_by_the_old(MultiPaxos), FIVE)


def test_where_nobody_tells_it_all_follow_it_for_ever() -> None:
    assert not goes_on(led_by_the_old(SilentWhereCompacted), FIVE)


# --- leases ---


class StandsAtOnce(MultiPaxos):
    """A sole member waits for nobody, whatever an earlier life confirmed."""

    def start(self) -> None:
        super().start()
        self._watch.heard_at = float("-inf")
        if self.members.at(self.acceptor.chosen_index + 1).members == (self.env.id,):
            self._stand()


def restarted_alone(make: type[MultiPaxos], seed: int) -> Cluster:
    """Node 2 is the only new member and knows it; it restarts while 1, which does not hear it, holds a lease."""
    cluster = led_by(1, LEASED, make, seed=seed)
    cluster.submit(1, encode_change((2,)))
    assert cluster.run(1.0, lambda: cluster[2].core.acceptor.chosen_index == 8)
    cluster.cut((2,), (1, 3, 4, 5))
    cluster.run(2 * SYNC_S)
    cluster.crash(2)
    cluster.restart(2)
    return cluster


def reads(cluster: Cluster, node: int, token: int) -> bool:
    """Whether a read is served at once."""
    cluster.read(node, token)
    return any(isinstance(value, ReadReady) and token in value.tokens for value in cluster[node].outputs)


@pytest.mark.parametrize("seed", range(5))
def test_a_sole_new_member_that_restarts_writes_nothing_while_the_old_leader_reads_by_lease(seed: int) -> None:
    cluster = restarted_alone(MultiPaxos, seed)
    cluster.run(0.05)
    assert cluster[2].core.role == "follower"
    assert reads(cluster, 1, 7), "the lease holds"
    assert cluster.run(2.0, lambda: cluster[2].core.role == "leader")
    cluster.submit(2, b"new")
    assert cluster.run(0.5, lambda: b"new" in cluster[2].applied)
    assert not reads(cluster, 1, 8)


def test_where_it_leads_at_once_a_read_is_stale() -> None:
    cluster = restarted_alone(StandsAtOnce, 0)
    assert cluster.run(0.05, lambda: cluster[2].core.role == "leader")
    cluster.submit(2, b"new")
    assert cluster.run(0.05, lambda: b"new" in cluster[2].applied)
    assert reads(cluster, 1, 7)
    assert b"new" not in cluster[1].applied
