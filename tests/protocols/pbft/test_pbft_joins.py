"""Nodes that join and leave: when they are met, with which keys, and whom a newcomer believes."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from quorate.kernel import Blame, Core, Failed, Meet, Part
from quorate.kernel.inputs import Done
from quorate.parts import requests
from quorate.parts.crypto.keys import Keys, Symbolic
from quorate.parts.log.configuration import Invitation, Newcomer, NodePlace, Nodes, Voters, decode_change, encode_change
from quorate.parts.log.entries import COMMAND, CONFIGURATION
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.pbft import Pbft
from quorate.protocols.pbft.messages import (
    CHECKPOINT,
    COMMIT,
    OFFER,
    Commit,
    Executed,
    FetchImage,
    Image,
    OfferAmong,
    Taken,
    TakenAmong,
    checkpoint_statement,
    digest_of,
    offer_among_statement,
    order_statement,
)
from quorate.protocols.pbft.mutants import MUTANTS

from tests.protocols.cluster import Cluster, Member
from tests.protocols.pbft.pbft_nodes import CONFIG, FOUR, SCHEME, Node, X, in_pieces

ADMIN = SCHEME.client(8)
ADMINISTERED = msgspec.structs.replace(CONFIG, admins=(ADMIN.public,), founders=FOUR)


class Founders(Symbolic):
    """Keys of nodes 1 to 4, and of those that join."""

    def __init__(self) -> None:
        super().__init__(FOUR)
        for client in (0, 8):  # that of requests, and the administrator
            self.client(client)


def newcomer(scheme: Symbolic, node: int) -> Newcomer:
    """As its administrator introduces it."""
    return Newcomer(node, f"n{node}:1", scheme.signer(node).public)


def five() -> tuple[Symbolic, Newcomer]:
    """Keys of four nodes and a fifth that joins."""
    scheme = Founders()
    scheme.join(5)
    return scheme, newcomer(scheme, 5)


def change(
    *members: int, newcomers: Sequence[Newcomer] = (), leavers: Sequence[int] = (), epoch: int | None = None
) -> bytes:
    """A signed change."""
    return requests.sign(ADMIN, [encode_change(members, epoch, newcomers, leavers)])


def node_of(scheme: Symbolic, records: Sequence[Any] = ()) -> Node:
    """Node 2, which knows four keys."""
    return Node(
        config=ADMINISTERED, records=records, make=lambda env, config, _: Pbft(env, config, scheme.keys(env.id))
    )


# --- one node ---


def test_a_newcomer_is_met_with_its_key_when_the_request_is_executed() -> None:
    scheme, fifth = five()
    node = node_of(scheme)
    turn = node.order(1, change(*FOUR, newcomers=[fifth]))
    assert turn.roster == [Meet("n5:1", fifth.key, 5)]
    assert [entry.kind for entry in turn.outputs[0].entries] == [CONFIGURATION]
    assert node.core.view.keys.verify(5, "any", b"thing", scheme.signer(5).sign("any", b"thing"))
    assert node.core.in_force().voters == Voters(FOUR, FOUR, 0), "it does not vote by that"


TOKEN = SCHEME.client(78)
AT_5 = NodePlace(5, "n5:1", "n5:2", b"folder of 5")


def inviting() -> tuple[Node, Newcomer]:
    """A node that executed the invitation of node 5."""
    scheme, fifth = five()
    scheme.client(78)
    node = node_of(scheme)
    invites = encode_change(FOUR, None, invitations=[Invitation(5, TOKEN.public)])
    turn = node.order(1, requests.sign(ADMIN, [invites]))
    assert [entry.kind for entry in turn.outputs[0].entries] == [CONFIGURATION]
    assert node.core.in_force().nodes.invited == (Invitation(5, TOKEN.public),)
    return node, fifth


def test_who_was_invited_joins_with_its_token_and_once() -> None:
    node, fifth = inviting()
    join = encode_change(FOUR, 0, [fifth], places=[AT_5])
    turn = node.order(2, requests.sign(TOKEN, [join]))
    assert turn.roster == [Meet("n5:1", fifth.key, 5)]
    assert [entry.kind for entry in turn.outputs[0].entries] == [CONFIGURATION]
    assert node.core.in_force().voters == Voters(FOUR, FOUR, 0), "it follows, and does not vote"
    assert node.core.in_force().nodes == Nodes((fifth,), (), (), (AT_5,))
    other = Newcomer(5, "m5:1", SCHEME.client(79).public)
    turn = node.order(3, requests.sign(TOKEN, [encode_change(FOUR, 0, [other])]))
    assert (turn.roster, [entry.kind for entry in turn.outputs[0].entries]) == ((), [COMMAND])


@pytest.mark.parametrize(
    "wrong",
    [
        {"members": (*FOUR, 5)},
        {"members": (1, 2, 3)},
        {"leavers": (4,), "members": (1, 2, 3)},
        {"invitations": (Invitation(6, bytes(32)),)},
        {"places": (NodePlace(1, "m1:1", "m1:2"),)},
        {"epoch": None},
        {"newcomers": ()},
        {"signer": SCHEME.client(79)},
        {"secret": b"of no use here"},
    ],
    ids=repr,
)
def test_a_token_lets_nobody_vote_or_change_anything_else(wrong: dict[str, Any]) -> None:
    node, fifth = inviting()
    said = {"members": FOUR, "epoch": 0, "newcomers": [fifth], "places": [AT_5], "signer": TOKEN, **wrong}
    signer = said.pop("signer")
    turn = node.order(2, requests.sign(signer, [encode_change(**said)]))
    assert turn.roster == ()
    assert [entry.kind for entry in turn.outputs[0].entries] == [COMMAND]
    assert node.core.in_force().voters == Voters(FOUR, FOUR, 0)


def test_a_token_does_not_undo_what_an_administrator_has_just_decided() -> None:
    """Of several changes before one checkpoint the last holds, so a join names those who will vote."""
    node, fifth = inviting()
    node.order(2, change(1, 2, 3, epoch=0))
    turn = node.order(3, requests.sign(TOKEN, [encode_change(FOUR, 0, [fifth], places=[AT_5])]))
    assert [entry.kind for entry in turn.outputs[0].entries] == [COMMAND]
    turn = node.order(4, requests.sign(TOKEN, [encode_change((1, 2, 3), 0, [fifth], places=[AT_5])]))
    assert [entry.kind for entry in turn.outputs[0].entries] == [CONFIGURATION]
    assert node.core.in_force().voters == Voters(FOUR, (1, 2, 3), 0)


def test_others_keep_their_own_keyring() -> None:
    """What one node learns by its log no other learns with it."""
    scheme, fifth = five()
    one, other = node_of(scheme), node_of(scheme)
    one.order(1, change(*FOUR, newcomers=[fifth]))
    assert 5 in one.core.view.keys.keyring.nodes
    assert 5 not in other.core.view.keys.keyring.nodes
    fork = one.host.fork()
    assert 5 in fork.root.view.keys.keyring.nodes  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "key", [b"", b"short", SCHEME.signer(3).public, bytes(32)], ids=["none", "no key", "3's", "nobody's"]
)
def test_a_key_that_is_none_or_anothers_makes_the_change_void(key: bytes) -> None:
    node = node_of(SCHEME)
    turn = node.order(1, change(*FOUR, newcomers=[Newcomer(9, "n9:1", key)]))
    assert turn.roster == ()
    assert [entry.kind for entry in turn.outputs[0].entries] == [COMMAND]
    assert node.core.in_force().voters == Voters(FOUR)


def test_whoever_leaves_is_known_until_others_vote() -> None:
    node = node_of(SCHEME)
    turn = node.order(1, change(1, 2, 3, leavers=[4]))
    assert turn.roster == ()
    assert node.core.env.peers == FOUR
    node.core.members.begin_epoch(type(node.core.view.group)((1, 2, 3), node.core.view.keys, 1, 4, FOUR))
    assert node.core.env.peers == (1, 2, 3)
    assert node.core.view.keys.keyring.public(4), "what it signed may have to be checked"


def test_a_commit_is_proven_to_a_node_that_knows_fewer_nodes() -> None:
    """The sender has met the fifth node already: its vector has one MAC more, and this node's is in it."""
    scheme, fifth = five()
    knowing = scheme.keys(3).knowing(5, fifth.key)
    node = node_of(scheme)
    statement = order_statement(0, 1, digest_of((X,)))
    macs = knowing.macs(COMMIT, statement, (1, 2, 3, 4, 5))
    assert node.on(3, Commit(0, 1, digest_of((X,)), macs)).blames == ()
    others = knowing.macs(COMMIT, statement, (1, 3, 4, 5))
    assert node.on(1, Commit(0, 1, digest_of((X,)), others)).blames == [
        Blame(1, "commits without a vote, or with a proof that is wrong")
    ]


def test_an_administrator_who_gives_a_node_another_key_stops_it() -> None:
    scheme = Founders()
    scheme.join(5)
    keys = scheme.keys(5)
    node = Node(5, (*FOUR, 5), config=ADMINISTERED, make=lambda env, config, _: Pbft(env, config, keys))
    wrong = Newcomer(5, "n5:1", SCHEME.client(77).public)
    with pytest.raises(ValueError, match="introduced with a public key that is not its own"):
        node.core.members.check_own(_decoded(change(*FOUR, newcomers=[wrong])))
    unaware = msgspec.structs.replace(ADMINISTERED, founders=())
    node = Node(5, (*FOUR, 5), config=unaware, make=lambda env, config, _: Pbft(env, config, keys))
    with pytest.raises(ValueError, match="write in founders which nodes the cluster began with"):
        node.core.members.check_own(_decoded(change(*FOUR, newcomers=[newcomer(scheme, 5)])))


def _decoded(value: bytes) -> Any:
    request_ = requests.decode_signed_request(value)
    assert request_ is not None
    return decode_change(request_.commands[0])


def test_founders_without_a_key_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no key for nodes \[6\], which the cluster began with"):
        Node(config=msgspec.structs.replace(ADMINISTERED, founders=(*FOUR, 6)), make=_with(Founders().keys(2)))


def _with(keys: Keys, core: Any = Pbft) -> Any:
    return lambda env, config, _: core(env, config, keys)


# --- snapshots ---

IMAGE = in_pieces(Image(4, 4, bytes(32), 8, b"d" * 32, FOUR), b"snapshot")


def test_a_recorded_snapshot_brings_the_nodes_back() -> None:
    scheme, fifth = five()
    nodes = Nodes((fifth,), (4,))
    image = msgspec.structs.replace(IMAGE, members=(1, 2, 3, 5), epoch=1, began_at=4, past_members=FOUR)
    node = node_of(scheme, [TakenAmong(image, True, nodes)])
    assert node.started.roster == [Meet("n5:1", fifth.key, 5), Part(4, "it has left the cluster")]
    assert node.core.env.peers == (1, 2, 3, 5)
    assert node.records[0] == TakenAmong(image, True, nodes)
    assert node_of(scheme, [Taken(IMAGE, True)]).records[0] == Taken(IMAGE, True), "as it always was"


def offer(keys: Keys, image: Image, nodes: Nodes, to: Sequence[int]) -> OfferAmong:
    """A node's word for a snapshot, and for who is there after it."""
    statement = offer_among_statement((image,), (nodes,))
    return OfferAmong((image,), (nodes,), keys.macs(OFFER, statement, to))


def evolved() -> tuple[Symbolic, list[Newcomer], Image, Nodes]:
    """Founders 1 to 4 are gone, 5 to 8 have taken their places, and 9 joins."""
    scheme = Founders()
    for node in range(5, 10):
        scheme.join(node)
    joined = [newcomer(scheme, node) for node in range(5, 9)]
    image = msgspec.structs.replace(
        IMAGE, sequence=96, members=(5, 6, 7, 8), epoch=8, began_at=94, past_members=(4, 5, 6, 7)
    )
    return scheme, joined, image, Nodes(tuple(joined), FOUR)


def test_a_newcomer_believes_f_plus_1_of_those_it_was_told_of() -> None:
    scheme, _, image, nodes = evolved()
    node = Node(9, (5, 6, 7, 8, 9), config=ADMINISTERED, make=_with(scheme.keys(9)))
    assert node.on(5, offer(scheme.keys(8).knowing(9, scheme.signer(9).public), image, nodes, (9,))).blames != ()
    keys = {n: Keys(scheme.signer(n), scheme.keys(9).keyring) for n in (5, 6)}
    turn = node.on(5, offer(keys[5], image, nodes, (9,)))
    assert [(send.to, type(send.message).__name__) for send in turn.sends] == [((6, 7, 8), "FetchLog")]
    turn = node.on(6, offer(keys[6], image, nodes, (9,)))
    assert [type(send.message).__name__ for send in turn.sends] == ["FetchImage"]


@pytest.mark.parametrize("is_introduced", [False, True])
def test_a_newcomer_believes_them_until_it_has_the_state_in_which_it_was_introduced(is_introduced: bool) -> None:
    assert believes_them(is_introduced, Pbft) is not is_introduced


def test_one_that_forgets_what_it_was_told_once_it_has_proven_a_checkpoint_is_stuck() -> None:
    """Planted. In a simulated run it takes hundreds of seeds to show (``RARE`` in tests/sim/test_world_campaign.py)."""
    planted = next(mutant.core for mutant in MUTANTS if mutant.name == "forgets-advice")
    assert planted is not None
    assert not believes_them(False, planted)


def believes_them(is_introduced: bool, core: type[Core]) -> bool:
    """It has caught up with an epoch that is over, and proved a checkpoint there: of its members too few are left."""
    scheme, joined, image, nodes = evolved()
    known = Nodes((*joined, newcomer(scheme, 9)) if is_introduced else tuple(joined), (1, 2))
    earlier = msgspec.structs.replace(
        IMAGE, sequence=48, members=(3, 4, 5, 6), epoch=4, began_at=46, past_members=(2, 3, 4, 5)
    )
    records = [TakenAmong(earlier, True, known), Executed(stable_at(earlier, scheme), 49, ())]
    node = Node(9, (5, 6, 7, 8, 9), config=ADMINISTERED, records=records, make=_with(scheme.keys(9), core))
    assert node.core.history.low == 48
    assert node.core.view.group.members == (3, 4, 5, 6)
    for n in (7, 8):
        turn = node.on(n, offer(Keys(scheme.signer(n), scheme.keys(9).keyring), image, nodes, (9,)))
    return [type(send.message).__name__ for send in turn.sends] == ["FetchImage"]


def stable_at(image: Image, scheme: Symbolic) -> Certificate:
    """A quorum's word for the checkpoint at which a snapshot stands."""
    statement = checkpoint_statement(image.sequence, image.index, image.history)
    makers = image.members[:3]
    signatures = tuple((node, scheme.signer(node).sign(CHECKPOINT, statement)) for node in makers)
    return Certificate(CHECKPOINT, statement, signatures)


def test_who_has_left_while_a_piece_was_read_for_it_is_told_what_convinces_it() -> None:
    """It is no peer by then. What its source sends it bears a MAC for it, or it would blame an honest node."""
    scheme, fifth = five()
    node = node_of(scheme)
    history, view = node.core.history, node.core.view
    for sequence, among in ((4, Nodes((fifth,))), (8, nodes := Nodes((fifth,), (4,)))):
        image = msgspec.structs.replace(IMAGE, sequence=sequence, index=sequence)
        history.record_image(image, among, fetched=False)
    (job,) = node.on(4, FetchImage(8, 0)).jobs
    history.nodes = nodes
    node.core.members.begin_epoch(type(view.group)((1, 2, 3), view.keys, 1, 4, FOUR))
    assert node.core.env.peers == (1, 2, 3)
    (send,) = node.step(Done(job.key, Failed("input/output error"))).sends
    assert send.to == (4,)
    m = send.message
    assert scheme.keys(4).has_mac(2, OFFER, offer_among_statement(m.images, m.nodes), m.proofs)


def test_two_that_say_other_nodes_are_not_believed() -> None:
    scheme, joined, image, nodes = evolved()
    node = Node(9, (5, 6, 7, 8, 9), config=ADMINISTERED, make=_with(scheme.keys(9)))
    keys = {n: Keys(scheme.signer(n), scheme.keys(9).keyring) for n in (5, 6)}
    node.on(5, offer(keys[5], image, nodes, (9,)))
    assert node.on(6, offer(keys[6], image, Nodes(tuple(joined[1:]), FOUR), (9,))).sends == ()


def test_a_founder_believes_no_strangers() -> None:
    scheme, _, image, nodes = evolved()
    node = Node(2, (1, 2, 5, 6, 7), config=ADMINISTERED, make=_with(Keys(scheme.signer(2), scheme.keys(9).keyring)))
    for n in (5, 6):
        turn = node.on(n, offer(Keys(scheme.signer(n), scheme.keys(9).keyring), image, nodes, (2,)))
    assert turn.sends == ()


def test_nodes_that_cannot_be_are_blamed() -> None:
    scheme, fifth = five()
    node = node_of(scheme)
    for nodes in (Nodes((fifth, fifth)), Nodes((Newcomer(3, "n3:1", fifth.key),))):
        turn = node.on(3, offer(scheme.keys(3), IMAGE, nodes, FOUR))
        assert turn.blames == [Blame(3, "offers snapshots with nodes that cannot be")]


# --- a whole group ---


@pytest.mark.parametrize("before", [1, 40], ids=["from the log", "from a snapshot"])
def test_a_group_is_replaced_node_by_node(before: int) -> None:
    scheme = Founders()
    config = msgspec.structs.replace(ADMINISTERED, request_timeout_s=1.0, beat_s=0.1)
    cluster = Cluster(
        lambda env: Pbft(env, config, scheme.keys(env.id)),
        4,
        keyring=scheme.keyring(),
        delay_s=(0.001, 0.002),
        sync_s=0.001,
    )

    def order(value: bytes) -> None:
        for node, member in cluster.members.items():
            if member.up:
                cluster.submit(node, value)

    for number in range(before):
        order(requests.sign(scheme.client(0), [b"%d" % number]))
        cluster.run(0.05)
    for new, old in ((5, 1), (6, 2), (7, 3), (8, 4)):
        scheme.join(new)
        member = cluster.join(new)
        voters = cluster[new - 1].core.in_force().voters
        order(change(*voters.members, newcomers=[newcomer(scheme, new)], epoch=voters.epoch))
        assert cluster.run(20.0, lambda it=member, at=voters.epoch: it.core.in_force().voters.epoch > at)
        rest = tuple(node for node in (*voters.members, new) if node != old)
        order(change(*rest, leavers=[old], epoch=member.core.in_force().voters.epoch))
        assert cluster.run(20.0, lambda rest=rest: all(is_one_of(cluster[node], rest) for node in rest))
        cluster.crash(old)
    last = requests.sign(scheme.client(0), [b"last"])
    order(last)
    assert cluster.run(20.0, lambda: all(last in cluster[node].applied for node in (5, 6, 7, 8)))
    assert cluster[8].core.in_force().voters == Voters((5, 6, 7, 8), (), 8)


def is_one_of(member: Member, members: tuple[int, ...]) -> bool:
    """Whether it knows these and no others, as members and as nodes."""
    voters = member.core.in_force().voters
    return bool(voters == Voters(members, (), voters.epoch) and member.host.roster.peers == members)
