"""VoteKeeper: what counts as a vote, and when a quorum of them is a certificate."""

import pytest
from msgspec.structs import replace

from quorate.parts.crypto.keys import Symbolic
from quorate.parts.quorum import Byzantine
from quorate.parts.votes.keeper import VoteKeeper, statement_of

SCHEME = Symbolic(range(4))
A, B = b"a" * 32, b"b" * 32


def keeper(node: int = 0, kind: str = "prevote") -> VoteKeeper:
    return VoteKeeper(kind, SCHEME.keys(node), Byzantine(range(4)))


def keep(votes: VoteKeeper, node: int, height: int, round: int, digest: bytes) -> bool:
    """A vote that the node did sign."""
    return votes.keep(node, height, round, digest, keeper(node).sign(height, round, digest))


def test_a_quorum_that_votes_alike_is_a_certificate() -> None:
    votes = keeper()
    for node in (3, 1):
        assert keep(votes, node, 5, 2, A)
    assert keep(votes, 2, 5, 2, B)
    assert list(votes.certificates(5)) == []
    assert keep(votes, 0, 5, 2, A)
    ((round, digest, proof),) = votes.certificates(5)
    assert (round, digest, proof.context, proof.nodes()) == (2, A, "prevote", (0, 1, 3))
    assert proof.statement == statement_of(5, 2, A)
    assert list(votes.certificates(4)) == []


def test_votes_of_two_rounds_are_not_counted_together() -> None:
    votes = keeper()
    assert all(keep(votes, node, 5, round, A) for node, round in ((0, 1), (1, 1), (2, 2), (3, 2)))
    assert list(votes.certificates(5)) == []


def test_of_a_node_the_newest_vote_counts_and_of_a_round_the_first() -> None:
    votes = keeper()
    assert keep(votes, 1, 5, 2, A)
    for height, round, digest in ((5, 2, B), (5, 1, B), (4, 9, B)):
        assert keep(votes, 1, height, round, digest), "nothing is wrong with it"
    assert all(keep(votes, node, 5, 2, A) for node in (0, 2))
    assert [found[:2] for found in votes.certificates(5)] == [(2, A)]
    assert keep(votes, 1, 6, 0, B)
    assert list(votes.certificates(5)) == []


@pytest.mark.parametrize(
    ("node", "kind", "height", "round", "digest"),
    [
        (2, "prevote", 5, 2, A),
        (1, "precommit", 5, 2, A),
        (1, "prevote", 6, 2, A),
        (1, "prevote", 5, 3, A),
        (1, "prevote", 5, 2, B),
    ],
)
def test_a_vote_that_is_not_signed_does_not_count(node: int, kind: str, height: int, round: int, digest: bytes) -> None:
    """Signed by another, under another kind, or for something else."""
    votes = keeper()
    assert not votes.keep(1, 5, 2, A, keeper(node, kind).sign(height, round, digest))
    assert keep(votes, 1, 5, 2, A), "it did not take the place of the right one"


def test_a_certificate_proves_what_it_says_and_nothing_else() -> None:
    votes = keeper()
    assert all(keep(votes, node, 5, 2, A) for node in range(3))
    ((_, _, proof),) = votes.certificates(5)
    assert votes.proves(proof, 5, 2, A)
    assert not votes.proves(None, 5, 2, A)
    for height, round, digest in ((6, 2, A), (5, 1, A), (5, 2, B)):
        assert not votes.proves(proof, height, round, digest)
    assert not keeper(kind="precommit").proves(proof, 5, 2, A)
    assert not votes.proves(replace(proof, signatures=proof.signatures[:2]), 5, 2, A)
    forged = (*proof.signatures[:2], (2, bytes(16)))
    assert not votes.proves(replace(proof, signatures=forged), 5, 2, A)
