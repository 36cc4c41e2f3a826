"""Changes of members above the core: which a node passes on, what clients believe, and both against real servers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quorate.parts import requests as signed
from quorate.parts.crypto.keys import Symbolic
from quorate.parts.log import configuration
from quorate.parts.log.configuration import (
    FOUNDERS_ALONE,
    Invitation,
    Newcomer,
    NodePlace,
    Nodes,
    Voters,
    invitation_lock,
)
from quorate.parts.log.entries import CONFIGURATION
from quorate.parts.quorum.choice import SizesChoice
from quorate.protocols import REGISTRY
from quorate.protocols.multipaxos import MultiPaxosConfig
from quorate.protocols.pbft import PbftConfig
from quorate.protocols.raft import RaftConfig
from quorate.runtime.key_files import read_private_key
from quorate.runtime.keys import Ed25519Signer, generate_secret
from quorate.service.client.errors import NoQuorum, OutcomeUnknown, QuorateError, Refused, Unreachable
from quorate.service.client.membership import believed, furthest, here, is_over, missing, why_not_caught_up
from quorate.service.client.sync import Client
from quorate.service.config import Member, NodeConfig
from quorate.service.reconfiguration import Membership
from quorate.service.requests import CHANGE_BYTES_MAX, Status

from tests.runtime.servers import PATIENCE_S, Servers, run, servers, until

SCHEME = Symbolic(range(6))
ADMIN, OTHER, TOKEN = SCHEME.client(1), SCHEME.client(2), SCHEME.client(3)
FIVE = (1, 2, 3, 4, 5)


# --- what a node passes on ---


def rules(protocol: str, nodes: int = 5, **options: Any) -> Membership:
    """Those of a cluster of nodes 1 to ``nodes``."""
    members = {node: Member(f"h{node}:1", f"h{node}:2") for node in range(1, nodes + 1)}
    config = REGISTRY[protocol].config(**options)
    return Membership(NodeConfig(cluster="c", node=1, data=Path(), nodes=members, protocol=protocol, options=config))


def why_not(rules: Membership, entry: bytes, nodes: Nodes = FOUNDERS_ALONE) -> str | None:
    """At a node to which so much is known."""
    return rules.why_not(entry, nodes, SCHEME.keyring())


def by(*members: int, key: Any = ADMIN) -> bytes:
    """A signed change."""
    return signed.sign(key, [configuration.encode_change(members, 0)])


@pytest.mark.parametrize("protocol", ["paxos", "echo"])
def test_a_protocol_without_changes_says_so(protocol: str) -> None:
    why = why_not(rules(protocol), configuration.encode_change((1, 2, 3)))
    assert why == f"{protocol} has no membership change yet: its members are all the nodes of the configuration"


def test_a_change_of_members_that_only_crash() -> None:
    made = rules("multipaxos")
    assert why_not(made, configuration.encode_change((1,), 3)) is None
    assert why_not(made, b"?") == "this is no change of members"
    assert why_not(made, by(1, 2, 3)) == "this is no change of members"
    why = "there is no node 7, 9: the nodes of this cluster are 1, 2, 3, 4, 5"
    assert why_not(made, configuration.encode_change((1, 9, 7))) == why
    sizes = rules("multipaxos", quorum=SizesChoice(4, 2))
    assert why_not(sizes, configuration.encode_change((1, 2, 3, 4, 5))) is None
    assert "quorums of 4 among 2 members" in str(why_not(sizes, configuration.encode_change((1, 2))))


def test_a_change_of_members_that_may_lie() -> None:
    made = rules("pbft", admins=(ADMIN.public,))
    assert why_not(made, by(1, 2, 3, 5)) is None
    assert why_not(made, by(1, 2, 3, 4, 9)) == "there is no node 9: the nodes of this cluster are 1, 2, 3, 4, 5"
    assert why_not(made, by(1, 2, 3)) == ("3 members are too few: clients expect 1 that lie, which takes 4 or more")
    names = "admins in [pbft] of the nodes' configuration names"
    assert why_not(made, by(1, 2, 3, 4, key=OTHER)) == f"this key is no administrator's: {names} 1"
    assert why_not(rules("pbft"), by(1, 2, 3, 4)) == f"this key is no administrator's: {names} none"
    two = signed.sign(ADMIN, [configuration.encode_change((1, 2, 3, 4)), configuration.encode_change((1, 2, 3, 5))])
    for value in (configuration.encode_change((1, 2, 3, 4)), two, signed.sign(ADMIN, [b"x"])):
        assert why_not(made, value) == "this is no change of members"
    assert why_not(rules("pbft", 3, admins=(ADMIN.public,)), by(2)) is None  # they bear no lying node anyway


SEVEN = Newcomer(7, "h7:1")
SECRET = b"of seven"
GONE_5 = Nodes((Newcomer(6, "h6:1"),), (5,), (Invitation(7, invitation_lock(SECRET)),))


def test_nodes_that_come_and_go() -> None:
    made = rules("multipaxos")

    def joins(newcomer: Newcomer) -> str | None:
        return made.why_not(configuration.encode_change((1, 2), 3, [newcomer], secret=SECRET), GONE_5)

    assert joins(SEVEN) is None
    assert joins(Newcomer(6, "h:1")) == "there is a node 6 already: give the new one a number of its own"
    assert str(joins(Newcomer(5, "h:1"))).startswith("node 5 has left the cluster, and a number is used once")
    assert str(joins(Newcomer(7, "h"))).startswith("'h' is not an address")
    assert str(joins(Newcomer(7, "[::]:1"))).startswith("nobody can dial [::]:1")
    assert joins(Newcomer(7, "h:1", b"key")) == "the nodes of multipaxos have no keys: leave out that of node 7"
    why = "there is no node 5: the nodes of this cluster are 1, 2, 3, 4, 6"
    assert made.why_not(configuration.encode_change((1, 2), 3, [], [5]), GONE_5) == why
    assert made.why_not(configuration.encode_change((1, 5), 3), GONE_5) == why
    assert made.why_not(configuration.encode_change((1, 2), 3, [], [2]), GONE_5) == "node 2 cannot vote and leave"
    most = Nodes(tuple(Newcomer(node, f"h{node}:1") for node in range(8, 66)))
    assert made.why_not(configuration.encode_change((1,), 3, [SEVEN]), most) == (
        "a cluster has at most 63 nodes, and there are 63"
    )
    invites = configuration.encode_change((1,), 3, invitations=[Invitation(7, bytes(32))])
    assert made.why_not(invites, most) == "a cluster has at most 63 nodes, and there are 63, and 0 may join"


VOTERS = Voters((1, 2), (), 3)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (configuration.encode_change((1, 2), 3, [SEVEN], secret=SECRET), None),
        (configuration.encode_change((1, 2), 3, [SEVEN]), "not the token of node 7's newest invitation"),
        (configuration.encode_change((1, 2), 3, [SEVEN], secret=b"another"), "use the newest"),
        (configuration.encode_change((1, 2), 3, [Newcomer(8, "h:1")], secret=SECRET), "node 8 is not invited"),
        (configuration.encode_change((1, 2, 7), 3, [SEVEN], secret=SECRET), "1, 2 do: ask who votes, and join again"),
        (configuration.encode_change((1, 7), 3, [SEVEN], secret=SECRET), "1, 2 do: ask who votes, and join again"),
        (configuration.encode_change((1, 2), 3, [SEVEN], [6], secret=SECRET), "changes nothing else"),
        (configuration.encode_change((1, 2), None, [SEVEN], secret=SECRET), "changes nothing else"),
        (
            configuration.encode_change((1, 2), 3, [SEVEN], places=[NodePlace(7, "h7", "h7:2")], secret=SECRET),
            "'h7' is not",
        ),
        (
            configuration.encode_change((1, 2), 3, [SEVEN], places=[NodePlace(1, "h:1", "h:2")], secret=SECRET),
            "changes nothing else",
        ),
        (configuration.encode_change((1, 2), 3, leavers=[7]), None),
        (configuration.encode_change((1, 2), 3, invitations=[Invitation(7, bytes(32))]), None),
        (configuration.encode_change((1, 2), 3, invitations=[Invitation(6, bytes(32))]), "there is a node 6 already"),
        (configuration.encode_change((1, 2), 3, invitations=[Invitation(5, bytes(32))]), "a number is used once"),
        (configuration.encode_change((1, 2), 3, places=[NodePlace(6, "h:1", "h:2")]), None),
        (configuration.encode_change((1, 2), 3, places=[NodePlace(7, "h:1", "h:2")]), "there is no node 7"),
        (configuration.encode_change((1, 2), 3, places=[NodePlace(6, "h:1", "[::]:2")]), "nobody can dial [::]:2"),
    ],
)
def test_a_token_lets_its_node_in_and_nothing_else(change: bytes, why: str | None) -> None:
    found = rules("multipaxos").why_not(change, GONE_5, None, VOTERS)
    assert found is None if why is None else why in str(found)


def test_newcomers_that_sign() -> None:
    made, keyring = rules("pbft", admins=(ADMIN.public,)), SCHEME.keyring()
    invited = Nodes((), (), (Invitation(7, TOKEN.public),))

    def joins(key: bytes) -> str | None:
        value = signed.sign(TOKEN, [configuration.encode_change((1, 2, 3, 4), 0, [Newcomer(7, "h7:1", key)])])
        return made.why_not(value, invited, keyring)

    assert joins(SCHEME.client(7).public) is None
    nobody = signed.sign(TOKEN, [configuration.encode_change((1, 2, 3), 0)])
    assert str(made.why_not(nobody, invited, keyring)).startswith("this key is no administrator's")
    other = signed.sign(OTHER, [configuration.encode_change((1, 2, 3, 4), 0, [Newcomer(7, "h:1", b"x" * 32)])])
    assert "not a public key" in str(made.why_not(other, invited, keyring))
    other = signed.sign(OTHER, [configuration.encode_change((1, 2, 3, 4), 0, [Newcomer(7, "h:1", OTHER.public)])])
    assert "not the token of node 7's newest invitation" in str(made.why_not(other, invited, keyring))
    assert str(joins(b"")).startswith("node 7 has no public key")
    assert joins(b"of nobody") == f"node 7: {b'of nobody'.hex()} is not a public key"
    assert joins(SCHEME.signer(3).public) == "node 7 has the public key of node 3: give each its own"


def test_the_f_that_clients_expect_is_that_of_the_founders() -> None:
    made = rules("pbft", 7, admins=(ADMIN.public,), founders=(1, 2, 3, 4))
    assert made.faults == 1
    assert made.why_not(by(1, 2, 3, 4), FOUNDERS_ALONE) is None


def test_the_largest_change_fits() -> None:
    most = tuple(range(2**31 - configuration.MEMBERS_MAX, 2**31))
    long = [Newcomer(node, "n" * configuration.ADDRESS_CHARACTERS_MAX, bytes(64)) for node in most]
    most_of = slice(configuration.NEWCOMERS_MAX)
    name = "n" * configuration.ADDRESS_CHARACTERS_MAX
    invitations = [Invitation(node, bytes(64)) for node in most[most_of]]
    places = [NodePlace(node, name, name, bytes(64)) for node in most[most_of]]
    value = configuration.encode_change(most, 2**62 - 1, long[most_of], most, invitations, places, bytes(64))
    assert len(signed.sign(ADMIN, [value])) <= CHANGE_BYTES_MAX


# --- what clients believe ---


def says(node: int, voters: Voters | None, at: int = 0) -> tuple[str, Status]:
    return f"h{node}:1", Status(0, node, "p", "", None, 0, at, at, 1, None, voters)


OLD, NEW, LATER = Voters(FIVE), Voters((1, 2, 3), (), 1), Voters((1, 2, 3), (4, 5), 1)
GONE = ("h9:1", Unreachable("gone"))


def test_the_newest_epoch_that_enough_nodes_say_is_believed() -> None:
    said = [says(1, NEW, 5), says(2, NEW, 6), says(3, OLD, 9), says(4, OLD, 9), says(5, OLD, 9), GONE]
    assert believed(said, 0) == believed(said, 1) == NEW
    assert believed(said, 2) == OLD
    assert believed(said, 3) is None
    assert believed([says(1, None), GONE], 0) is None


def test_of_one_epoch_the_furthest_log_is_believed_as_f_plus_1_nodes_have_it() -> None:
    said = [says(1, NEW, 5), says(2, NEW, 5), says(3, LATER, 6), says(4, LATER, 6)]
    assert believed(said, 1) == LATER
    said = [says(1, NEW, 5), says(2, NEW, 5), says(3, LATER, 4), says(4, LATER, 10**9)]
    assert believed(said, 1) == NEW, "one of them may lie"


def test_a_change_is_over_when_a_quorum_of_the_new_members_says_so() -> None:
    three = (1, 2, 3)
    assert not is_over([says(1, NEW), says(2, OLD), says(4, NEW), says(5, NEW)], three, False)
    assert is_over([says(1, NEW), says(2, OLD), says(3, NEW), GONE], three, False)
    four = Voters((1, 2, 3, 4), (), 1)
    assert not is_over([says(1, four), says(2, four), GONE], four.members, True)
    assert is_over([says(1, four), says(2, four), says(4, four), GONE], four.members, True)
    assert is_over([says(5, NEW)], three, False), "nobody else is known to the client"


def test_what_is_waited_for_is_named() -> None:
    said = [says(1, NEW), says(2, OLD), says(5, OLD), GONE]
    why = "2 of the new members must say so, and 1 do (node 2 is not that far; h9:1: gone)"
    assert missing(said, (1, 2, 3), False) == why


def test_which_nodes_there_are_is_believed_of_enough_that_say_the_same() -> None:
    said = [
        (address, msgspec.structs.replace(status, nodes=nodes))
        for (address, status), nodes in zip(
            [says(1, NEW), says(2, NEW), says(3, NEW), says(4, OLD)],
            [(1, 2, 3), (1, 2, 3), (1, 9), (1, 2, 3, 4)],
            strict=True,
        )
    ]
    assert here(said, NEW, 0) == {1, 2, 3, 9}
    assert here(said, NEW, 1) == {1, 2, 3}
    assert here(said, OLD, 1) == set()


def test_who_has_caught_up() -> None:
    status = says(4, NEW, 7)[1]
    assert why_not_caught_up(status, 4, NEW, 7) is None
    assert why_not_caught_up(status, 4, NEW, 8) == "node 4 has applied 7 of 8 entries"
    assert why_not_caught_up(status, 4, LATER, 7) == "node 4 does not know yet who votes"
    assert why_not_caught_up(status, 5, NEW, 7) == "node 4 answers there, not node 5"
    assert why_not_caught_up(Unreachable("gone"), 4, NEW, 7) == "gone"
    said = [says(1, NEW, 5), says(2, NEW, 7), says(3, NEW, 10**9), says(4, OLD, 99)]
    assert furthest(said, NEW, 1) == 7, "one of them may lie"
    assert furthest(said, LATER, 0) == 0


def test_a_change_with_the_same_members_is_over_in_a_later_epoch() -> None:
    three, later = (1, 2, 3), Voters((1, 2, 3), (), 2)
    assert not is_over([says(1, later), says(2, NEW), says(3, NEW)], three, False, since=2)
    assert not is_over([says(1, later), says(2, Voters(three, three, 2)), GONE], three, False, since=2)
    assert is_over([says(1, later), says(2, later), says(3, NEW)], three, False, since=2)


# --- real servers ---

FAST = MultiPaxosConfig(heartbeat_s=0.04, election_timeout_s_min=0.2, alpha=32)
OPTIONS: dict[str, Any] = {"raft": RaftConfig(heartbeat_s=0.04, election_timeout_s_min=0.2), "multipaxos": FAST}
FAST_PBFT = PbftConfig(request_timeout_s=0.6, beat_s=0.1, window=16, checkpoint_batches=8)


def administered(cluster: Servers) -> Any:
    """The administrator's key, which the nodes know from now on."""
    key = read_private_key(cluster.folder / "keys" / "admin.key")
    options = msgspec.structs.replace(cluster.config.options, admins=(key.public,))
    cluster.config = msgspec.structs.replace(cluster.config, options=options)
    return key


def blocking(endpoints: list[str]) -> Voters:
    """The same from a client that blocks."""
    with Client(endpoints, timeout_s=20.0) as client:
        return client.set_members(client.members().members)


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_members_change_and_a_removed_leader_steps_aside(protocol: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            servers(tmp_path, 5, protocol=protocol, options=OPTIONS[protocol]) as cluster,
            cluster.client() as client,
        ):
            leader = await cluster.leader()
            before = await client.members()
            assert (before.members, before.next_members) == (FIVE, ())
            wanted = tuple(node for node in FIVE if node != leader)[:3]
            changed = await client.set_members(wanted)
            assert (changed.members, changed.next_members) == (wanted, ())
            assert changed.epoch > before.epoch
            assert await client.set_members(wanted[::-1]) == changed, "what is so already changes nothing"
            core = cluster.core(leader)
            log = core.log if protocol == "raft" else core.acceptor.log
            asked = [entry.data for entry in log.slice(1, log.last_index) if entry.kind == CONFIGURATION and entry.data]
            assert asked == [configuration.encode_change(wanted, before.epoch)], "for the epoch that was seen, and once"
            await until(lambda: cluster.core(leader).leader in wanted)
            await cluster.stop(*(node for node in FIVE if node not in wanted))
            assert await client.put(b"k", b"v") > 0
            roles = {status.role for _, status in await client.statuses() if isinstance(status, Status)}
            assert roles == {"leader", "follower"}

    run(main())


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_five_shrink_to_three_and_grow_again_while_clients_write(protocol: str, tmp_path: Path) -> None:
    """The leader is among those that go, and no write fails: a client tries again by itself."""

    async def main() -> None:
        options = OPTIONS[protocol]
        async with servers(tmp_path, 5, protocol=protocol, options=options) as cluster, cluster.client() as client:
            leader = await cluster.leader()
            three = tuple(node for node in FIVE if node != leader)[:3]
            is_over = False

            async def write(key: bytes) -> int:
                number = 0
                while not is_over:
                    number += 1
                    await client.put(key, b"%d" % number)
                return number

            writers = {key: asyncio.create_task(write(key)) for key in (b"a", b"b", b"c", b"d")}
            assert (await client.set_members(three)).members == three
            assert (await client.set_members(FIVE)).members == FIVE
            is_over = True
            for key, writer in writers.items():
                last = await writer
                assert last > 1
                assert (await client.get(key)).value == b"%d" % last

    run(main())


def test_a_node_that_does_not_vote_is_a_learner(tmp_path: Path) -> None:
    async def main() -> None:
        options = msgspec.structs.replace(FAST, members=(2, 3))
        async with servers(tmp_path, 3, protocol="multipaxos", options=options) as cluster, cluster.client() as client:
            await cluster.leader()
            # It may have stood, where the voters were slow to: one who hears nobody may be the only one who knows them.
            await until(lambda: cluster.running[1].status().role == "learner")
            # Who votes is told by one who has applied what the leader begins with.
            await until(lambda: cluster.running[1].status().voters == Voters((2, 3), (), 1))
            assert await client.members() == Voters((2, 3), (), 1)

    run(main())


def test_members_that_never_change_are_all_nodes(tmp_path: Path) -> None:
    async def main() -> None:
        async with servers(tmp_path, protocol="paxos", options=None) as cluster, cluster.client() as client:
            assert await client.members() == Voters((1, 2, 3))
            with pytest.raises(Refused, match="paxos has no membership change yet"):
                await client.set_members((1, 2))
            for nothing in ((), range(99)):
                with pytest.raises(ValueError, match="a configuration names 1 to 64"):
                    await client.set_members(nothing)
        async with cluster.client(timeout_s=0.5) as client:
            with pytest.raises(QuorateError):
                await client.members()

    run(main())


def test_without_a_quorum_no_members_change(tmp_path: Path) -> None:
    async def main() -> None:
        async with servers(tmp_path, protocol="multipaxos", options=FAST) as cluster:
            await cluster.leader()
            await cluster.stop(1, 2)
            async with cluster.client(timeout_s=1.0) as client:
                with pytest.raises((NoQuorum, OutcomeUnknown)):
                    await client.set_members((3,))
            async with cluster.client() as client:
                assert (await client.members()).members == (1, 2, 3)

    run(main())


def test_an_administrator_replaces_a_node_that_is_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async with servers(tmp_path, 5, start=False, protocol="pbft", options=FAST_PBFT) as cluster:
            key = administered(cluster)
            await cluster.start()
            async with cluster.client() as client:
                with pytest.raises(Refused, match="an administrator signs"):
                    await client.set_members((1, 2, 3, 4))
            async with cluster.client(key=Ed25519Signer(None, generate_secret())) as client:
                with pytest.raises(Refused, match="no administrator's"):
                    await client.set_members((1, 2, 3, 4))
            async with cluster.client(key=key) as client:
                assert await client.set_members((1, 2, 3, 4)) == Voters((1, 2, 3, 4), (), 1)
                with pytest.raises(Refused, match="too few"):
                    await client.set_members((1, 2, 3))
                await cluster.stop(4)
                assert await client.set_members((1, 2, 3, 5)) == Voters((1, 2, 3, 5), (), 2)
                assert await client.put(b"k", b"v") > 0
            assert await asyncio.to_thread(blocking, cluster.endpoints()) == Voters((1, 2, 3, 5), (), 2)

    run(main())


def test_two_administrators_do_not_undo_each_other_unseen(tmp_path: Path) -> None:
    """The slower one asks for the epoch that it saw, which is over."""

    async def main() -> None:
        async with servers(tmp_path, 5, protocol="multipaxos", options=FAST) as cluster, cluster.client() as client:
            await cluster.leader()
            before = await client.members()
            await client.set_members((1, 2, 3, 4))
            await client._reconfigure(configuration.encode_change((1, 2), before.epoch), time.monotonic() + PATIENCE_S)
            with pytest.raises(Refused, match="others have changed the members meanwhile, to 1,2,3,4"):
                await client._until_members((1, 2), before, None, float("inf"))
            assert (await client.members()).members == (1, 2, 3, 4)

    run(main())
