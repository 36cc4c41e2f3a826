"""Witnesses in a cluster: what a leader's crash leaves, and what would be left if they were not asked last."""

from __future__ import annotations

import pytest

from quorate.kernel import Env
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.log.configuration import Newcomer, encode_change
from quorate.protocols.raft import Raft
from quorate.protocols.raft.replication import LogReplication
from quorate.protocols.raft.witnessing import Witnesses

from tests.protocols.cluster import Cluster
from tests.protocols.raft.raft_nodes import CONFIG


class AsksFirst(Witnesses):
    """Sends witnesses what there is, like others. No seed of 700 shows that: there, who was down comes back."""

    def _last_index(self, followers: Followers) -> int:
        return self._state.log.last_index


class RashReplication(LogReplication):
    """A leader that has these."""

    witnesses_class = AsksFirst


class RashRaft(Raft):
    """A server that leads like that."""

    replication_class = RashReplication


def one_and_a_witness(core: type[Raft]) -> Cluster:
    """Node 1 leads, and node 2, a witness, votes."""

    def make(env: Env) -> Raft:
        return core(env, CONFIG.but(founders=(1,)))

    cluster = Cluster(make, 1, seed=1, delay_s=(0.001, 0.01))
    assert cluster.run(30, lambda: cluster[1].core.role == "leader")
    cluster.run(0.5)
    cluster.join(2)
    cluster.submit(1, encode_change((1,), 0, [Newcomer(2, "n2:1", witness=True)]))
    assert cluster.run(30, lambda: bool(cluster[2].core.in_force().nodes))
    cluster.run(0.5)
    cluster.submit(1, encode_change((1, 2), cluster[1].core.acting().epoch))
    assert cluster.run(30, lambda: cluster[2].core.in_force().voters.members == (1, 2))
    cluster.run(0.5)
    return cluster


@pytest.mark.parametrize("core", [Raft, RashRaft])
def test_a_leader_that_crashes_before_its_disk_has_an_entry_leads_again(core: type[Raft]) -> None:
    """It cannot if the witness holds the metadata of that entry, which nobody has any more."""
    cluster = one_and_a_witness(core)
    cluster[1].held = True
    cluster.submit(1, b"x")
    cluster.run(0.5)
    cluster.crash(1)
    cluster.restart(1)
    leads_again = cluster.run(60, lambda: cluster[1].core.role == "leader")
    assert leads_again == (core is Raft), "what is planted is seen"


def goes_on(core: type[Raft], seed: int) -> bool:
    """Two servers with state and a witness; the leader dies for good while clients write. Does the other one lead?"""

    def make(env: Env) -> Raft:
        return core(env, CONFIG.but(founders=(1, 2)))

    cluster = Cluster(make, 2, seed=seed, delay_s=(0.001, 0.05), sync_s=0.005)

    def leader() -> int | None:
        return next((node for node, each in cluster.members.items() if each.up and each.core.role == "leader"), None)

    assert cluster.run(30, lambda: leader() is not None)
    first = leader()
    assert first is not None
    cluster.run(0.5)
    cluster.join(3)
    cluster.submit(first, encode_change((1, 2), 0, [Newcomer(3, "n3:1", witness=True)]))
    assert cluster.run(30, lambda: bool(cluster[3].core.in_force().nodes))
    cluster.run(0.5)
    cluster.submit(first, encode_change((1, 2, 3), cluster[first].core.acting().epoch))
    assert cluster.run(30, lambda: cluster[3].core.in_force().voters.members == (1, 2, 3))
    for number in range(20):
        cluster.submit(first, b"%d" % number)
        cluster.run(0.01)
    done = cluster[first].applied
    cluster.crash(first)
    cluster.network = [flight for flight in cluster.network if flight.sender != first]  # its machine is gone
    if not cluster.run(60, lambda: leader() is not None):
        return False
    cluster.run(1.0)
    assert cluster[3 - first].applied[: len(done)] == done, "what was committed stays so"
    return True


def test_while_the_other_server_is_in_step_the_leader_may_die() -> None:
    """With the witness it goes on. If witnesses are asked as early as others, that is a matter of luck."""
    assert all(goes_on(Raft, seed) for seed in range(20))
    assert not all(goes_on(RashRaft, seed) for seed in range(20)), "what is planted is seen"


def test_a_witness_holds_no_data_and_begins_its_log_where_it_likes() -> None:
    cluster = one_and_a_witness(Raft)
    for number in range(5):
        cluster.submit(1, b"%d" % number)
        cluster.run(0.1)
    witness = cluster[2]
    assert cluster[1].applied == [b"0", b"1", b"2", b"3", b"4"]
    assert witness.applied == []
    assert witness.core.commit_index == cluster[1].core.commit_index
    cluster.crash(2)
    cluster.restart(2)
    cluster.submit(1, b"more")
    assert cluster.run(30, lambda: cluster[1].applied[-1:] == [b"more"]), "two of two"
