"""Witnesses among real servers: they join, vote, keep no data, and send clients away; and what is refused, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.kernel.app import AppEnded
from quorate.kernel.standing import WITNESS
from quorate.machines.none import NoMachine
from quorate.parts.log.configuration import Invitation, Newcomer, Nodes, encode_change, invitation_lock
from quorate.parts.log.replicated import Stateless
from quorate.runtime.folder import Beginning
from quorate.service.client.errors import NoQuorum, Refused
from quorate.service.client.membership import quorum_word
from quorate.service.config import ConfigError, Member, NodeConfig, check_config, load
from quorate.service.recovery import CannotRecover, begin_with_one
from quorate.service.requests import Code, Failure
from quorate.service.server import Server, Unavailable

from tests.runtime.servers import run, until
from tests.service.replicas import Bench, command, put
from tests.service.test_joining import FAST_RAFT, Joining
from tests.service.test_membership import rules, why_not

SECRET = b"s" * 32
LOCK = invitation_lock(SECRET)
VALUE = b"a value that is on no witness's disk"


async def two_and_a_witness(folder: Path) -> Joining:
    """Nodes 1 and 2 with data, and node 3, which votes too."""
    small = msgspec.structs.replace(FAST_RAFT, snapshot_entries=50, keep_entries=5)
    cluster = Joining(folder, 2, options=small)
    await cluster.start()
    async with cluster.clients(1, 2) as client:
        await client.put(b"k", VALUE)
        await cluster.join(3, await client.invite(3, witness=True))
        assert (await client.promote([3])).members == (1, 2, 3)
    return cluster


def test_a_witness_joins_votes_and_keeps_no_data(tmp_path: Path) -> None:
    async def main() -> None:
        cluster = await two_and_a_witness(tmp_path)
        try:
            witness = cluster.running[3]
            async with cluster.clients(1, 2, 3) as client:
                for number in range(120):
                    await client.put(b"k%d" % number, VALUE)
                look = await client.look()
            assert look.cluster.nodes.witnesses == (3,)
            await until(lambda: witness.status().applied_index == cluster.running[1].status().commit_index)
            assert witness.status().role == WITNESS
            assert isinstance(witness.machine, NoMachine)
            core: Any = witness.node.host.root
            assert core.snapshot_index > 0, "the beginning of its log is gone, and no snapshot stands there"
            with pytest.raises(Unavailable, match="this node is a witness, which keeps no state"):
                witness.read(b"")
            await cluster.stop(3)
            files = [path for path in (tmp_path / "n3").rglob("*") if path.is_file()]
            assert not [path for path in files if VALUE in path.read_bytes()]
            assert {path.suffix for path in files}.isdisjoint({".lmdb", ".snapshot"})
            config = load(tmp_path / "n3" / "node.toml")
            assert config.witness
            cluster.running[3] = Server(config, cluster.machine, Beginning.EXISTING)
            await cluster.running[3].start()
            await cluster.stop(2)
            async with cluster.clients(3, 1) as client:
                await client.put(b"k", b"with it alone")
            assert cluster.running[3].status().role == WITNESS
        finally:
            await cluster.stop()

    run(main())


def test_with_it_either_node_with_data_may_fail(tmp_path: Path) -> None:
    """The witness lets one lead that is in step. And what was written while it was away is not lost with the other."""

    async def main() -> None:
        cluster = await two_and_a_witness(tmp_path)
        try:
            await until(lambda: cluster.running[1].status().leader is not None)
            leader = cluster.running[1].status().leader
            assert leader in (1, 2)
            other = 3 - leader
            await cluster.stop(leader)
            async with cluster.clients(other, 3) as client:
                await client.put(b"while the first is away", VALUE)
            await cluster.stop(other)
            await cluster.start(leader)
            async with cluster.clients(leader, 3, timeout_s=1.5) as client:
                with pytest.raises(NoQuorum):
                    await client.get(b"k")
            assert cluster.running[leader].status().leader is None, "the witness knows what it lacks"
            await cluster.start(other)
            async with cluster.clients(leader, 3) as client:
                assert (await client.get(b"while the first is away")).value == VALUE
        finally:
            await cluster.stop()

    run(main())


def test_clients_that_know_a_witness_alone_of_a_cluster_are_told_who_leads(tmp_path: Path) -> None:
    async def main() -> None:
        cluster = await two_and_a_witness(tmp_path)
        try:
            async with cluster.clients(3, 1, 2) as client:
                assert (await client.get(b"k")).value == VALUE
                await client.put(b"k", b"2")
                assert (await client.transfer_leadership(1)) == 1
                with pytest.raises(Refused, match="node 3 is a witness: it keeps no state, and never leads"):
                    await client.transfer_leadership(3)
            async with cluster.clients(3, timeout_s=1.0) as client:
                with pytest.raises(NoQuorum, match="this node is a witness, which keeps no state: ask another"):
                    await client.get(b"k")
        finally:
            await cluster.stop()

    run(main())


def test_nothing_is_recovered_from_a_witness(tmp_path: Path) -> None:
    async def main() -> None:
        cluster = await two_and_a_witness(tmp_path)
        await cluster.stop()

    run(main())
    with pytest.raises(CannotRecover, match="keeps no state, so nothing survives here: choose another node"):
        begin_with_one(load(tmp_path / "n3" / "node.toml"), tmp_path / "new", lambda *_: True)
    assert not (tmp_path / "new").exists()


# --- what is refused ---

INVITED = Nodes((), (), (Invitation(6, LOCK, True), Invitation(7, LOCK)))
ALL = (1, 2, 3, 4, 5)


def test_a_number_stays_what_it_was_invited_as() -> None:
    made = rules("raft")
    again = encode_change(ALL, 0, invitations=[Invitation(6, LOCK)])
    assert str(why_not(made, again, INVITED)).startswith("node 6 is invited as a witness, and stays one")
    again = encode_change(ALL, 0, invitations=[Invitation(7, LOCK, True)])
    assert str(why_not(made, again, INVITED)).startswith("node 7 is invited as a node with state, and stays one")
    joins = encode_change(ALL, 0, [Newcomer(6, "h:1")], secret=SECRET)
    assert str(made.why_not(joins, INVITED)).startswith("node 6 is invited as a witness")
    joins = encode_change(ALL, 0, [Newcomer(6, "h:1", witness=True)], secret=SECRET)
    assert made.why_not(joins, INVITED) is None


def test_witnesses_are_at_most_half_of_the_members() -> None:
    there = Nodes((Newcomer(6, "h:1", witness=True), Newcomer(7, "h:2", witness=True)))
    made = rules("raft")
    assert why_not(made, encode_change((1, 2, 6, 7)), there) is None
    assert str(why_not(made, encode_change((1, 6, 7)), there)).startswith(
        "of members 1, 6, 7 nodes 6, 7 are witnesses, which have no state: at most half may be"
    )


@pytest.mark.parametrize("protocol", ["multipaxos", "pbft"])
def test_protocols_without_witnesses_say_so(protocol: str) -> None:
    made = rules(protocol)
    change = encode_change(ALL, 0, invitations=[Invitation(6, LOCK, True)])
    if protocol == "multipaxos":
        assert why_not(made, change) == "multipaxos has no witnesses: leave out --witness"
    members = {1: Member("h:1", "h:2")}
    keys = Path("keys") if protocol == "pbft" else None
    config = NodeConfig(cluster="c", node=1, data=Path("d"), nodes=members, protocol=protocol, keys=keys)
    with pytest.raises(ConfigError, match=f"witness: {protocol} has no witnesses; leave it out"):
        check_config(msgspec.structs.replace(config, witness=True))


def test_a_configuration_that_calls_a_node_a_witness_which_is_none_ends_it() -> None:
    for ask in (NoMachine().apply, NoMachine().query):
        with pytest.raises(AppEnded, match="take that line out, and start it again"):
            ask(b"")


# --- the parts ---


def test_a_replica_without_state_answers_nobody() -> None:
    bench = Bench()
    bench.request("bob", command(6, put(1, 1)))
    bench.settle()
    bench.replica.output(Stateless())
    bench.replica.leader = 2
    bench.request("ann", command(7, put(1, 1)))
    (first, moved), (second, refused) = bench.settle()
    assert isinstance(moved, Failure)
    assert isinstance(refused, Failure)
    assert (first, moved.code) == ("bob", Code.LEADER_CHANGED), "it may take effect all the same"
    assert (second, refused.code, refused.leader) == ("ann", Code.STATELESS, 2)


def test_the_word_on_the_quorum_says_what_a_witness_means() -> None:
    assert quorum_word((1, 2, 3), {1, 2, 3}, False, (3,)) == (
        "n1, n2, n3 vote: 2 of 3 make a quorum, so 1 may fail; 3 answer. n3 is a witness, without data: if one of n1, "
        "n2 fails while another lacks what was decided last, the cluster waits for it to come back"
    )
    assert "witness" not in quorum_word((1, 2, 3), {1, 2, 3}, False, (4,))
