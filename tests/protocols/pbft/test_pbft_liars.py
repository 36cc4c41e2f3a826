"""PBFT's own liars: what goes in and what comes out, rightly signed."""

from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import Received, Turn
from quorate.parts.crypto.keys import Symbolic
from quorate.parts.votes.certificate import Certificate
from quorate.protocols.pbft.liars import (
    LIARS,
    Agreeable,
    Censoring,
    ConflictingVotes,
    LyingViewChange,
    OtherViews,
    TwoFaced,
    resign_pbft,
)
from quorate.protocols.pbft.messages import (
    CHECKPOINT,
    COMMIT,
    NEW_VIEW,
    PREPARE,
    VIEW_CHANGE,
    Checkpoint,
    Commit,
    Forward,
    NewView,
    Prepare,
    PrePrepare,
    Proposal,
    ViewChange,
    checkpoint_statement,
    digest_of,
    new_view_statement,
    order_statement,
    view_change_statement,
)
from quorate.sim.adversary.liar import Liar, Means
from quorate.sim.adversary.mutate import passes

from tests.sim.liars import Dice, hear, send, throw, told

SCHEME = Symbolic(range(4))
BATCH = (b"one", b"two")
DIGEST = digest_of(BATCH)
PROPOSAL = SCHEME.signer(0).sign(PREPARE, order_statement(3, 5, DIGEST))
PROPOSED = PrePrepare(3, 5, DIGEST, PROPOSAL, BATCH)


def liar(kind: type[Liar], node: int = 0) -> Any:
    """At its work all the time."""
    made = kind(Means(node, range(4), Dice(), SCHEME.keys(node), resign_pbft))
    if hasattr(made, "rate"):
        made.rate = 1.0
    return made


def is_signed(m: Any, node: int = 0, to: int = 1) -> bool:
    """As that node would have."""
    keys = SCHEME.keys(to)
    match m:
        case PrePrepare():
            statement = order_statement(m.view, m.sequence, m.digest)
            return m.digest == digest_of(m.batch) and keys.verify(node, PREPARE, statement, m.signature)
        case Prepare():
            return keys.verify(node, PREPARE, order_statement(m.view, m.sequence, m.digest), m.signature)
        case Commit():
            statement = order_statement(m.view, m.sequence, m.digest)
            if len(m.proofs) == 1:
                return keys.verify(node, COMMIT, statement, m.proofs[0])
            return keys.verify_mac(node, COMMIT, statement, m.proofs[to])
        case Checkpoint():
            statement = checkpoint_statement(m.sequence, m.index, m.history)
            return keys.verify(node, CHECKPOINT, statement, m.signature)
        case ViewChange():
            statement = view_change_statement(m.view, m.stable, m.prepared)
            return keys.verify(node, VIEW_CHANGE, statement, m.signature)
        case NewView():
            statement = new_view_statement(m.view, m.changes, m.proposals)
            return keys.verify(node, NEW_VIEW, statement, m.signature)
    raise AssertionError(m)


def prepared(view: int, sequence: int, digest: bytes = DIGEST) -> Certificate:
    """Proven."""
    statement = order_statement(view, sequence, digest)
    return Certificate(
        PREPARE, statement, tuple((node, SCHEME.signer(node).sign(PREPARE, statement)) for node in range(3))
    )


@pytest.mark.parametrize(
    "message",
    [
        replace(PROPOSED, batch=(b"else",), signature=b""),
        Prepare(3, 5, DIGEST, b"", b"of the primary"),
        Commit(3, 5, DIGEST, (b"",) * 4),
        Commit(3, 5, DIGEST, (b"",)),
        Checkpoint(8, 12, DIGEST, b""),
        ViewChange(4, None, (prepared(3, 5),), b""),
        NewView(4, ((1, ViewChange(4, None, (), b"")),), (), b""),
    ],
)
def test_what_is_signed_anew_is_signed_rightly(message: Any) -> None:
    signed = resign_pbft(SCHEME.keys(0), message)
    assert is_signed(signed)
    assert not is_signed(signed, node=1)
    assert passes(signed) == signed
    assert resign_pbft(SCHEME.keys(0), Forward(BATCH)) == Forward(BATCH)


def test_a_two_faced_primary_gives_one_number_to_two_batches() -> None:
    primary = liar(TwoFaced)
    # it lies; to the node with the least draw, which is 3; the batch turned round
    throw(primary, 0.0, 0.9, 0.9, 0.1, 0.0)
    throw(primary, 0.0, 0.5, 0.9, 0.9, 0.1, 0.0)
    found = told(primary, send(PROPOSED))
    assert found[:2] == [((0,), PROPOSED), ((1, 2), PROPOSED)]
    (to, other), (same, commit) = found[2:]
    assert to == same == (3,)
    assert other.batch == BATCH[::-1]
    assert is_signed(other)
    assert (commit.view, commit.sequence, commit.digest) == (3, 5, other.digest)
    assert is_signed(commit, to=3)
    # it stays with it: the commit that each gets is that of his batch
    mine = resign_pbft(SCHEME.keys(0), Commit(3, 5, DIGEST, (b"",) * 4))
    assert [(to, m.digest) for to, m in told(primary, send(mine))] == [
        ((0,), DIGEST),
        ((1, 2), DIGEST),
        ((3,), other.digest),
    ]
    assert told(primary, send(PROPOSED, 3)) == []
    assert told(primary, send(PROPOSED, 1)) == [((1,), PROPOSED)]


def test_an_agreeable_node_votes_for_what_each_votes_for() -> None:
    node = liar(Agreeable, node=1)
    mine = Prepare(3, 5, DIGEST, b"mine", PROPOSAL)
    hear(node, 2, [Prepare(3, 5, DIGEST, b"hers", PROPOSAL)] * 2)
    hear(node, 0, [replace(PROPOSED, view=4)])
    sends = [(out.to, out.message) for out in node.lie(Turn(sends=[send(mine)])).sends]
    assert sends[0] == ((1,), mine)
    assert [(to, type(m), m.view, m.digest) for to, m in sends[1:]] == [
        ((2,), Prepare, 3, DIGEST),
        ((2,), Commit, 3, DIGEST),
        ((0,), Prepare, 4, DIGEST),
        ((0,), Commit, 4, DIGEST),
    ]
    assert all(is_signed(m, node=1, to=to[0]) for to, m in sends[1:])
    assert sends[1][1].proposal == PROPOSAL
    hear(node, 2, [Prepare(3, 5, DIGEST, b"hers", PROPOSAL)])
    assert node.lie(Turn()).sends == []


def test_votes_that_conflict() -> None:
    node = liar(ConflictingVotes, node=1)
    hear(node, 0, [PROPOSED])
    mine = resign_pbft(SCHEME.keys(1), Prepare(3, 5, digest_of(()), b"", PROPOSAL))
    throw(node, 0.0, 0.0, 0.0, 0.9, 0.9, 0.9, 0.1, 0.0)
    found = told(node, send(mine))
    assert found[:2] == [((1,), mine), ((0, 2), mine)]
    assert found[2][0] == (3,)
    assert found[2][1].digest == DIGEST
    assert is_signed(found[2][1], node=1)
    checkpoint = resign_pbft(SCHEME.keys(1), Checkpoint(8, 12, digest_of(()), b""))
    throw(node, 0.0, 0.0, 0.0, 0.1)
    (_, own), (_, same), (to, other) = told(node, send(checkpoint))
    assert own == same == checkpoint
    assert (to, other.history) == ((0, 2, 3), DIGEST)
    assert is_signed(other, node=1, to=2)
    assert told(node, send(Forward(BATCH))) == [((1,), Forward(BATCH)), ((0, 2, 3), Forward(BATCH))]


def test_other_views() -> None:
    node = liar(OtherViews, node=1)
    mine = resign_pbft(SCHEME.keys(1), Commit(3, 5, DIGEST, (b"",) * 4))
    throw(node, 0.0, 0.4, 0.1, 0.9)  # two views off, stale
    assert [(to, m.view) for to, m in told(node, send(mine))] == [((1,), 3), ((0, 2, 3), 3), ((0, 2, 3), 1)]
    throw(node, 0.0, 0.99, 0.9, 0.1)  # far ahead: a view-change
    far = told(node, send(mine))[2][1]
    assert type(far) is ViewChange
    assert far.view == 3 + (1 << 61)
    assert is_signed(far, node=1)
    assert passes(far) == far


def test_view_changes_that_lie() -> None:
    node = liar(LyingViewChange)
    good = resign_pbft(SCHEME.keys(0), ViewChange(4, None, (prepared(2, 5), prepared(3, 6)), b""))
    found = set()
    for draws in range(200):
        throw(node, 0.0, *[(draws * 37 + number * 61) % 101 / 101 for number in range(6)])
        for _, message in told(node, send(good, 1)):
            assert is_signed(message)
            found.add(message)
    assert good not in found
    kept = {tuple(certificate in good.prepared for certificate in message.prepared) for message in found}
    assert kept >= {(), (True,), (False, True), (True, False)}


def test_new_views_that_lie() -> None:
    node = liar(LyingViewChange)
    change = resign_pbft(SCHEME.keys(0), ViewChange(4, None, (prepared(3, 5),), b""))
    signature = SCHEME.signer(0).sign(PREPARE, order_statement(4, 5, DIGEST))
    good = resign_pbft(
        SCHEME.keys(0), NewView(4, ((0, change), (1, change), (2, change)), (Proposal(5, DIGEST, signature),), b"")
    )
    found = set()
    for draws in range(100):
        throw(node, 0.0, *[(draws * 37 + number * 61) % 101 / 101 for number in range(6)])
        found.update(message for _, message in told(node, send(good, 1)))
    assert good not in found
    assert all(map(is_signed, found))
    assert {len(message.changes) for message in found} == {2, 3}
    assert {tuple(p.digest for p in message.proposals) for message in found} == {(), (DIGEST,), (digest_of(()),)}


def test_a_censor_leaves_out_what_it_does_not_like() -> None:
    node = liar(Censoring)
    node._bit = 0
    liked, disliked = bytes(12), b"\1" * 12
    proposed = resign_pbft(SCHEME.keys(0), replace(PROPOSED, batch=(disliked, liked)))
    (_, own), (to, other) = told(node, send(proposed))
    assert own == proposed
    assert (to, other.batch) == ((1, 2, 3), (liked,))
    assert is_signed(other)
    fine = resign_pbft(SCHEME.keys(0), replace(PROPOSED, batch=(liked,)))
    assert told(node, send(fine, 1)) == [((1,), fine)]


@pytest.mark.parametrize("kind", LIARS)
def test_no_liar_lies_to_itself(kind: type[Liar]) -> None:
    node = liar(kind)
    node.hear(Received(1, Prepare(3, 5, DIGEST, b"", PROPOSAL)))
    for message in (PROPOSED, resign_pbft(SCHEME.keys(0), ViewChange(4, None, (prepared(3, 5),), b""))):
        for draws in range(40):
            throw(node, *[(draws * 37 + number * 61) % 101 / 101 for number in range(12)])
            assert [m for to, m in told(node, send(message)) if 0 in to] == [message]
