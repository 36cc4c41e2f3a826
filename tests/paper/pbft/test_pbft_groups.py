"""Whole groups in virtual time: what §4 promises, and how many messages it takes (docs/protocols/pbft.md)."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from quorate.kernel import Turn
from quorate.protocols.pbft.messages import (
    Checkpoint,
    Commit,
    Forward,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    digest_of,
)

from tests.protocols.cluster import Flight
from tests.protocols.pbft.pbft_nodes import CONFIG, PbftCluster, X, Y, pre_prepare, request

SIZES = [4, 7, 10, 13]
DELAY_S = (0.001, 0.005)


def everywhere(cluster: PbftCluster, *values: bytes, nodes: tuple[int, ...] = ()) -> None:
    """A client sends to all nodes."""
    for node in nodes or cluster.peers:
        if cluster[node].up:
            cluster.submit(node, *values)


def applied(cluster: PbftCluster, count: int, nodes: tuple[int, ...] = ()) -> Callable[[], bool]:
    return lambda: all(len(cluster[node].applied) >= count for node in nodes or cluster.peers)


def is_a(*types: type) -> Callable[[Flight], bool]:
    return lambda flight: isinstance(flight.message, types)


# --- the normal case ---


@pytest.mark.parametrize("size", SIZES)
def test_a_decision_costs_2n_times_n_minus_1_messages(size: int) -> None:
    """n - 1 pre-prepares, (n - 1) squared prepares, n (n - 1) commits; and n (n - 1) checkpoints every K decisions."""
    cluster = PbftCluster(size, delay_s=(0.001, 0.001))
    counted: Counter[type] = Counter()

    def count(node: int, turn: Turn) -> None:
        for send in [*turn.early, *turn.sends]:
            counted[type(send.message)] += len([to for to in send.to if to != node])

    cluster.watch = count
    decisions = 2 * CONFIG.checkpoint_batches
    for number in range(decisions):
        everywhere(cluster, request(f"r{number}"))
        assert cluster.run(0.1, applied(cluster, number + 1))
        cluster.run(0.003)
    counted.pop(Status, None)  # one a beat, whatever is decided
    n = size
    assert counted == {
        PrePrepare: decisions * (n - 1),
        Prepare: decisions * (n - 1) ** 2,
        Commit: decisions * n * (n - 1),
        Checkpoint: decisions // CONFIG.checkpoint_batches * n * (n - 1),
    }
    rounds = counted[PrePrepare] + counted[Prepare] + counted[Commit]
    assert rounds == decisions * 2 * n * (n - 1)


def test_a_decision_takes_three_message_delays() -> None:
    """Pre-prepare, prepare, commit; the request and the reply besides."""
    cluster = PbftCluster(delay_s=(1.0, 1.0), config=msgspec.structs.replace(CONFIG, request_timeout_s=9.0, beat_s=4.0))
    everywhere(cluster, X)
    assert not cluster.run(2.9, lambda: any(member.applied for member in cluster.members.values()))
    assert cluster.run(0.2, applied(cluster, 1))


@pytest.mark.parametrize("size", SIZES)
def test_f_nodes_that_are_down_stop_nothing(size: int) -> None:
    """§3: 3f + 1 nodes bear f. The primary of view 0 is among those down."""
    cluster = PbftCluster(size, delay_s=DELAY_S)
    faults = (size - 1) // 3
    for node in range(1, faults + 1):
        cluster.crash(node)
    alive = tuple(range(faults + 1, size + 1))
    everywhere(cluster, X, Y)
    assert cluster.run(60, applied(cluster, 2, alive))
    assert {cluster[node].core.view.primary for node in alive} == {faults + 1}


def test_f_plus_1_nodes_that_are_down_stop_it_until_one_is_back() -> None:
    cluster = PbftCluster(delay_s=DELAY_S)
    cluster.crash(3)
    cluster.crash(4)
    everywhere(cluster, X)
    assert not cluster.run(30, applied(cluster, 1, (1, 2)))
    cluster.restart(3)
    assert cluster.run(60, applied(cluster, 1, (1, 2, 3)))


# --- views ---


def test_what_prepared_at_one_correct_node_survives_two_view_changes_in_a_row() -> None:
    """§4.4. Node 4 alone prepared X. View 1 begins with its word for it and ends before anything commits; so in view 2
    it is proposed again, by a primary that never saw it prepared."""
    cluster = PbftCluster(delay_s=DELAY_S)
    cluster.loses = lambda flight: (
        isinstance(flight.message, Commit) or (isinstance(flight.message, Prepare) and flight.to != 4)
    )
    everywhere(cluster, X, nodes=(1,))
    cluster.run(0.1)
    assert [1 in cluster[node].core.log.prepared for node in cluster.peers] == [False, False, False, True]

    cluster.loses = is_a(Prepare, Commit)
    everywhere(cluster, X)
    assert cluster.run(
        20, lambda: all(member.core.view.number == 1 and not member.core.view.is_changing for member in _all(cluster))
    )
    assert {member.core.log.accepted[1].digest for member in _all(cluster)} == {digest_of((X,))}
    cluster.cut((4,), (1, 2, 3))  # whoever prepared it is away; all others know it by view 1 alone
    assert not cluster.run(1, applied(cluster, 1, (1,)))
    cluster.heal()
    assert cluster.run(30, lambda: all(member.core.view.number >= 2 for member in _all(cluster)))
    cluster.loses = lambda flight: False
    assert cluster.run(60, applied(cluster, 1))
    assert cluster[1].core.history.digests[1] == digest_of((X,)), "at the number that it had"


def _all(cluster: PbftCluster) -> list[Any]:
    return list(cluster.members.values())


def test_a_gap_below_what_prepared_is_filled_and_execution_goes_on() -> None:
    """§4.4: X was never heard of; Y, one number later, prepared. The null request takes X's number."""
    cluster = PbftCluster(delay_s=DELAY_S)
    cluster.loses = lambda flight: isinstance(flight.message, PrePrepare) and flight.message.sequence == 1
    cluster.submit(1, X)
    cluster.submit(1, Y)
    cluster.run(0.1)
    assert [sorted(member.core.log.prepared) for member in _all(cluster)] == [[2], [2], [2], [2]]
    cluster.crash(1)
    cluster.loses = lambda flight: False
    everywhere(cluster, X)
    assert cluster.run(30, applied(cluster, 2, (2, 3, 4)))
    assert cluster[2].applied == [Y, X]
    assert cluster[2].core.history.digests[1] == digest_of(())


def test_nothing_is_executed_twice_over_a_view_change() -> None:
    """§4.4: half of the nodes executed it before the view changed, the rest after."""
    cluster = PbftCluster(delay_s=DELAY_S)
    cluster.loses = lambda flight: isinstance(flight.message, Commit) and flight.to in (3, 4)
    everywhere(cluster, X)
    cluster.run(0.1)
    assert [len(member.applied) for member in _all(cluster)] == [1, 1, 0, 0]
    cluster.crash(1)
    cluster.loses = lambda flight: False
    everywhere(cluster, Y)
    assert cluster.run(30, applied(cluster, 2, (2, 3, 4)))
    assert [cluster[node].applied for node in (2, 3, 4)] == [[X, Y]] * 3


def test_a_primary_that_tells_two_stories_is_found_blamed_and_replaced() -> None:
    """§4.2 and deviation 2: X to nodes 2 and 3, Y to node 4, at one number. No time-out is waited for."""
    cluster = PbftCluster(delay_s=DELAY_S)
    blamed: set[tuple[int, int, str]] = set()

    def watch(node: int, turn: Turn) -> None:
        blamed.update((node, blame.node, blame.why) for blame in turn.blames)

    cluster.watch = watch
    cluster.crash(1)
    everywhere(cluster, X, Y, nodes=(2, 3, 4))
    for node, batch in ((2, (X,)), (3, (X,)), (4, (Y,))):
        cluster.network.append(Flight(cluster.now, 1, node, pre_prepare(1, *batch)))
    assert cluster.run(CONFIG.request_timeout_s / 2, applied(cluster, 2, (2, 3, 4)))
    assert {who for who, liar, why in blamed if (liar, why) == (1, "proposes two batches at one number")} >= {2, 4}
    assert {liar for _, liar, _ in blamed} == {1}
    assert {cluster[node].core.view.number for node in (2, 3, 4)} == {1}


def test_a_primary_that_leaves_out_one_request_is_replaced() -> None:
    """Deviation 5: others' requests are executed all the while."""
    cluster = PbftCluster(delay_s=DELAY_S)
    everywhere(cluster, X, nodes=(2, 3, 4))
    cluster.loses = lambda flight: isinstance(flight.message, Forward)
    for number in range(20):
        everywhere(cluster, request(f"r{number}"))
        cluster.run(0.2)
    assert cluster.run(10, lambda: all(X in cluster[node].applied for node in (2, 3, 4)))
    assert cluster[2].core.view.number >= 1


def test_a_new_primary_that_makes_no_view_is_passed_over() -> None:
    """§4.5.2: after the time of view 1, view 2."""
    cluster = PbftCluster(7, delay_s=DELAY_S)
    cluster.crash(1)
    cluster.loses = lambda flight: isinstance(flight.message, NewView) and flight.sender == 2
    everywhere(cluster, X)
    assert cluster.run(60, applied(cluster, 1, (3, 4, 5, 6, 7)))
    assert {cluster[node].core.view.number for node in (3, 4, 5)} == {2}


def test_f_nodes_that_want_another_view_get_none() -> None:
    """§4.5.2: the rest go on, and the one learns what they decide."""
    cluster = PbftCluster(delay_s=DELAY_S)
    cluster.cut((4,), (1, 2, 3))
    cluster.submit(4, X)
    cluster.run(CONFIG.request_timeout_s + 0.1)
    assert cluster[4].core.view.is_changing
    cluster.heal()
    everywhere(cluster, Y, nodes=(1, 2, 3))
    assert cluster.run(5, applied(cluster, 1))
    assert [cluster[node].core.view.number for node in (1, 2, 3)] == [0, 0, 0]


def test_a_node_outside_the_view_learns_what_a_liar_helped_to_decide() -> None:
    """Node 4 wants another view alone. Node 1 commits to all but node 4 and says nothing else to it; nobody waits for
    anything, so no view changes."""
    cluster = PbftCluster(delay_s=DELAY_S)
    cluster.cut((4,), (1, 2, 3))
    cluster.submit(4, X)
    cluster.run(CONFIG.request_timeout_s + 0.1)
    cluster.heal()
    cluster.cut((4,), (1,))
    everywhere(cluster, X, nodes=(1, 2, 3))
    assert cluster.run(5, applied(cluster, 1))
    assert [member.core.view.number for member in _all(cluster)] == [0, 0, 0, 1]


# --- memory ---


def test_the_log_is_bounded_while_one_node_lags() -> None:
    """§4.3. It is cut off for 40 batches, ten windows; the rest keep two snapshots and what follows the older."""
    config = msgspec.structs.replace(CONFIG, inflight_batches=1)
    cluster = PbftCluster(delay_s=DELAY_S, config=config)
    cluster.cut((4,), (1, 2, 3))
    for number in range(40):
        everywhere(cluster, request(f"r{number}"), nodes=(1, 2, 3))
        assert cluster.run(5, applied(cluster, number + 1, (1, 2, 3)))
        cluster.run(0.02)
        for node in (1, 2, 3):
            core = cluster[node].core
            assert (
                max(map(len, (core.log.slots, core.log.commits, core.log.accepted, core.log.prepared))) <= config.window
            )
            assert len(core.history.images) <= 2
            assert len(core.history.digests) <= 2 * config.snapshot_batches + config.window
            assert len(core.log.batches) <= len(core.history.digests) + 2 * config.window + 1
            assert len(core.checkpoints.points) <= config.window // config.checkpoint_batches + 1
    cluster.heal()
    assert cluster.run(30, lambda: cluster[4].core.history.executed >= 40 - config.checkpoint_batches)
    everywhere(cluster, X)
    assert cluster.run(30, applied(cluster, 41))


def test_who_was_down_gets_the_log_by_digests_or_a_snapshot() -> None:
    """Thesis §5.3: a short absence costs batches, a long one a snapshot."""
    for absent, kind in ((4, "LogOf"), (24, "ImagePiece")):
        cluster = PbftCluster(delay_s=DELAY_S)
        seen: Counter[str] = Counter()
        cluster.crash(4)
        for number in range(absent):
            everywhere(cluster, request(f"r{number}"))
            assert cluster.run(5, applied(cluster, number + 1, (1, 2, 3)))
            cluster.run(0.02)
        cluster.restart(4)
        cluster.loses = lambda flight, seen=seen: bool(seen.update([type(flight.message).__name__]))  # type: ignore[misc]
        assert cluster.run(30, applied(cluster, absent, (4,)))
        assert seen[kind], seen


def test_a_group_of_which_all_crash_goes_on() -> None:
    cluster = PbftCluster(delay_s=DELAY_S, sync_s=0.002)
    everywhere(cluster, X)
    cluster.run(0.004)
    for node in cluster.peers:
        cluster.crash(node)
    for node in cluster.peers:
        cluster.restart(node)
    everywhere(cluster, X, Y)
    assert cluster.run(30, lambda: all({X, Y} <= set(member.applied) for member in _all(cluster)))
