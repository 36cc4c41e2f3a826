"""Quorum systems against brute force: any two quorums meet, and ``reached`` is the best that some quorum has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.kernel import mask_of
from quorate.parts.quorum import Joint, Majority, QuorumSystem
from quorate.parts.votes.tally import Tally

NODES = 8

majorities = st.sets(st.integers(0, NODES - 1), min_size=1, max_size=5).map(lambda nodes: Majority(sorted(nodes)))
systems = st.one_of(majorities, st.builds(Joint, majorities, majorities))
masks = st.integers(0, 2**NODES - 1)


def quorums_of(system: QuorumSystem) -> list[int]:
    return [mask for mask in range(2**NODES) if mask & ~system.members == 0 and system.is_quorum(mask)]


@given(systems)
def test_any_two_quorums_meet(system):
    quorums = quorums_of(system)
    assert quorums, "all members together are one"
    assert all(a & b for a in quorums for b in quorums)


@given(majorities, majorities)
def test_a_joint_quorum_meets_every_quorum_of_both(old, new):
    assert all(a & b for a in quorums_of(Joint(old, new)) for b in quorums_of(old) + quorums_of(new))


@given(systems, masks, masks)
def test_more_nodes_never_unmake_a_quorum_and_strangers_never_make_one(system, nodes, more):
    assert system.is_quorum(nodes) <= system.is_quorum(nodes | more)
    assert system.is_quorum(nodes) == system.is_quorum(nodes & system.members)


@given(systems, st.dictionaries(st.integers(0, NODES - 1), st.integers(0, 6)))
def test_reached_is_the_best_of_all_subsets(system, progress):
    def lowest(quorum):
        return min(progress.get(node, 0) for node in range(NODES) if quorum >> node & 1)

    best = max(lowest(quorum) for quorum in quorums_of(system))
    assert system.reached(progress) == best
    assert QuorumSystem.reached(system, progress) == best, "the general way and the short cut agree"


@given(systems, masks)
def test_blocking_sets_touch_every_quorum(system, nodes):
    assert system.is_blocking(nodes) == all(quorum & nodes for quorum in quorums_of(system))


@pytest.mark.parametrize(("size", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_a_majority_is_more_than_half(size, needed):
    system = Majority(range(10, 10 + size))
    assert system.is_quorum(mask_of(tuple(range(10, 10 + needed))))
    assert not system.is_quorum(mask_of(tuple(range(10, 10 + needed - 1))))


def test_a_member_named_twice_counts_once():
    system = Majority([1, 1, 2, 3])
    assert repr(system) == "Majority([1, 2, 3])"
    assert system.is_quorum(0b0110)


def test_nobody_is_no_majority():
    with pytest.raises(ValueError, match="at least one member"):
        Majority([])


def test_a_joint_system_names_both():
    assert repr(Joint(Majority([1]), Majority([2, 3]))) == "Joint(Majority([1]), Majority([2, 3]))"


@given(systems, st.lists(st.integers(0, NODES - 1)))
def test_a_tally_fires_once_for_the_vote_that_completes_the_quorum(system, votes):
    tally, mask, fired = Tally(system), 0, 0
    for node in votes:
        was = system.is_quorum(mask)
        mask |= 1 << node
        fires = tally.add(node)
        assert fires == (system.is_quorum(mask) and not was)
        fired += fires
    assert fired == system.is_quorum(mask)
    assert tally.nodes == mask
    assert all((node in tally) == (node in votes) for node in range(NODES))
