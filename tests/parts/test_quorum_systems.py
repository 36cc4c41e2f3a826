"""Byzantine, weighted, listed and flexible systems against brute force; pairs that do not meet are refused."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from quorate.kernel import mask_of, nodes_of
from quorate.parts.quorum import (
    Byzantine,
    Flexible,
    Grid,
    Joint,
    Listed,
    Majority,
    QuorumSystem,
    Threshold,
    Weighted,
    disjoint_quorums,
)
from quorate.parts.quorum.meet import SHARED_MEMBERS_MAX

NODES = 7

nodes = st.integers(0, NODES - 1)
members = st.sets(nodes, min_size=1).map(sorted)
byzantine = members.map(Byzantine)
weighted = st.builds(
    Weighted,
    st.dictionaries(nodes, st.integers(1, 5), min_size=1),
    st.sampled_from([Fraction(1, 2), Fraction(2, 3), Fraction(3, 4)]),
)
safe = st.one_of(members.map(Majority), byzantine, weighted, st.builds(Joint, byzantine, weighted))
thresholds = members.flatmap(lambda some: st.integers(1, len(some)).map(lambda size: Threshold(some, size)))
listed = st.lists(members, min_size=1, max_size=4).map(Listed)
systems = st.one_of(safe, thresholds, listed, st.builds(Joint, thresholds, listed))
masks = st.integers(0, 2**NODES - 1)


def quorums_of(system: QuorumSystem) -> list[int]:
    return [mask for mask in range(2**NODES) if mask & ~system.members == 0 and system.is_quorum(mask)]


def weigh(weights: dict[int, int], mask: int) -> int:
    return sum(weight for node, weight in weights.items() if mask >> node & 1)


@given(safe)
def test_any_two_quorums_meet(system: QuorumSystem) -> None:
    quorums = quorums_of(system)
    assert quorums, "all members together are one"
    assert all(a & b for a in quorums for b in quorums)
    assert disjoint_quorums(system, system) is None


@given(systems, masks, masks)
def test_more_nodes_never_unmake_a_quorum_and_strangers_never_make_one(system, some, more):
    assert system.is_quorum(some) <= system.is_quorum(some | more)
    assert system.is_quorum(some) == system.is_quorum(some & system.members)


@given(systems, st.dictionaries(nodes, st.integers(0, 6)))
def test_reached_is_the_best_of_all_subsets(system, progress):
    best = max(min(progress.get(node, 0) for node in nodes_of(quorum)) for quorum in quorums_of(system))
    assert system.reached(progress) == best


@given(byzantine)
def test_two_byzantine_quorums_share_a_correct_node_and_the_correct_ones_are_enough(system: Byzantine) -> None:
    quorums = quorums_of(system)
    assert min((a & b).bit_count() for a in quorums for b in quorums) >= system.faults + 1
    correct = mask_of(nodes_of(system.members)[system.faults :])
    assert system.is_quorum(correct)
    assert min(weak.bit_count() for weak in quorums_of(system.weak)) == system.faults + 1


@pytest.mark.parametrize(
    ("count", "faults", "size"),
    [(1, 0, 1), (3, 0, 2), (4, 1, 3), (5, 1, 4), (6, 1, 4), (7, 2, 5), (10, 3, 7), (13, 4, 9)],
)
def test_the_sizes_of_byzantine_quorums(count: int, faults: int, size: int) -> None:
    system = Byzantine(range(count))
    assert (system.faults, system.size, system.weak.size) == (faults, size, faults + 1)
    assert repr(system) == f"Byzantine({list(range(count))}, {faults})"


def test_fewer_faults_than_could_be_borne_make_smaller_quorums() -> None:
    assert Byzantine(range(7), faults=1).size == 5 == Byzantine(range(7)).size
    assert Byzantine(range(10), faults=1).size == 6


@given(weighted, masks)
def test_weights_decide(system: Weighted, some: int) -> None:
    others = weigh(system.weights, system.members & ~some)
    assert not (system.is_quorum(some) and others >= weigh(system.weights, some))


@pytest.mark.parametrize(
    ("total", "share", "needed"),
    [(9, Fraction(1, 2), 5), (10, Fraction(1, 2), 6), (9, Fraction(2, 3), 7), (10, Fraction(2, 3), 7)],
)
def test_more_than_the_share_is_needed(total: int, share: Fraction, needed: int) -> None:
    system = Weighted({0: needed, 1: total - needed}, share)
    assert system.is_quorum(0b01)
    assert not Weighted({0: needed - 1, 1: total - needed + 1}, share).is_quorum(0b01)


@given(systems, systems)
def test_disjoint_quorums_are_found_if_and_only_if_there_are_some(a: QuorumSystem, b: QuorumSystem) -> None:
    found = disjoint_quorums(a, b)
    assert (found is not None) == any(one & two == 0 for one in quorums_of(a) for two in quorums_of(b))
    if found is not None:
        one, two = found
        assert one & two == 0
        for system, quorum in ((a, one), (b, two)):
            assert quorum & ~system.members == 0
            assert system.is_quorum(quorum)
            assert not any(system.is_quorum(quorum & ~(1 << node)) for node in nodes_of(quorum)), "minimal"


@given(systems, systems)
def test_a_flexible_pair_meets_or_is_refused(phase1: QuorumSystem, phase2: QuorumSystem) -> None:
    try:
        pair = Flexible(phase1, phase2)
    except ValueError:
        assert disjoint_quorums(phase1, phase2) is not None
    else:
        assert all(one & two for one in quorums_of(pair.phase1) for two in quorums_of(pair.phase2))


@given(members, st.integers(1, NODES), st.integers(1, NODES))
def test_sizes_meet_if_their_sum_exceeds_all(some: list[int], one: int, two: int) -> None:
    assume(max(one, two) <= len(some))
    if one + two > len(some):
        assert Flexible.of_sizes(some, one, two).phase2.is_quorum(mask_of(some[:two]))
    else:
        with pytest.raises(ValueError, match="share no node"):
            Flexible.of_sizes(some, one, two)


def test_the_refusal_names_two_disjoint_quorums() -> None:
    with pytest.raises(ValueError, match=r"phase-1 quorum \[1, 2\] and phase-2 quorum \[3, 4, 5\] share no node"):
        Flexible.of_sizes([1, 2, 3, 4, 5], 2, 3)
    with pytest.raises(ValueError, match=r"phase-1 quorum \[1\] and phase-2 quorum \[2\]"):
        Flexible(Majority([1]), Majority([2]))


def test_a_grid_has_rows_in_one_phase_and_columns_in_the_other() -> None:
    grid = Grid([[1, 2, 3], [4, 5, 6]])
    assert grid.phase1.is_quorum(mask_of((4, 5, 6)))
    assert grid.phase2.is_quorum(mask_of((3, 6)))
    assert not grid.phase1.is_quorum(mask_of((1, 2, 6)))
    turned = Grid([[1, 2, 3], [4, 5, 6]], columns_first=True)
    assert turned.phase1.is_quorum(mask_of((3, 6)))
    assert turned.phase2.is_quorum(mask_of((1, 2, 3)))
    assert grid.members == turned.members == mask_of((1, 2, 3, 4, 5, 6))
    assert repr(grid) == "Flexible(Listed([[1, 2, 3], [4, 5, 6]]), Listed([[1, 4], [2, 5], [3, 6]]))"


def test_two_rows_do_not_meet() -> None:
    rows = Grid([[1, 2], [3, 4]]).phase1
    assert disjoint_quorums(rows, rows) == (mask_of((1, 2)), mask_of((3, 4)))


def test_large_systems_by_count_list_and_equal_weight_are_decided() -> None:
    many = range(1000)
    assert Flexible.of_sizes(many, 900, 101).members == mask_of(tuple(many))
    assert Grid([list(range(row, row + 30)) for row in range(0, 900, 30)]).phase1.is_quorum(mask_of(tuple(range(30))))
    stake = Weighted({node: node + 1 for node in range(100)})
    assert disjoint_quorums(stake, stake) is None
    assert disjoint_quorums(Listed([[0], [1, 2]]), Majority(many)) is not None


def test_a_search_that_would_not_end_is_refused() -> None:
    count = SHARED_MEMBERS_MAX + 1
    with pytest.raises(ValueError, match=f"{count} nodes count in both Weighted and Majority: .* at most"):
        Flexible(Weighted({node: node + 1 for node in range(count)}), Majority(range(count)))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Byzantine([]), "at least one member"),
        (lambda: Byzantine(range(6), faults=2), "6 members bear 0 to 1 Byzantine faults, not 2"),
        (lambda: Byzantine(range(6), faults=-1), "not -1"),
        (lambda: Threshold([1, 2], 3), "quorums of 3 among 2 members"),
        (lambda: Threshold([1, 2], 0), "quorums of 0"),
        (lambda: Weighted({}), "at least one member"),
        (lambda: Weighted({1: 1, 2: 0}), "node 2 weighs 0"),
        (lambda: Weighted({1: 1}, Fraction(1, 3)), "more than 1/3"),
        (lambda: Weighted({1: 1}, Fraction(1)), "more than 1 of"),
        (lambda: Listed([]), "at least one quorum"),
        (lambda: Listed([[1], []]), "at least one node in each"),
        (lambda: Grid([]), "rows of one length"),
        (lambda: Grid([[]]), "rows of one length"),
        (lambda: Grid([[1, 2], [3]]), r"rows of one length; these have \[2, 1\]"),
        (lambda: Grid([[1, 2], [3, 1]]), "node 1 has more than one place"),
    ],
)
def test_what_makes_no_system_is_refused(make, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make()
