"""A node without any client's key passes on requests that clients signed once: they are not ordered again."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from quorate.kernel import Received
from quorate.parts.log.replicated import Dropped
from quorate.protocols.pbft import Pbft
from quorate.protocols.pbft.messages import Forward
from quorate.protocols.pbft.mutants import OrdersAgain

from tests.protocols.pbft.pbft_nodes import CONFIG, Node, PbftCluster, X, Y, pre_prepare, request

HONEST = (1, 2, 3)
LARGE = replace(CONFIG, checkpoint_batches=128, window=256, snapshot_batches=8192)
OLD = [request(f"old {number}", client=number % 3) for number in range(60)]


class OrdersOldOnes(Pbft):
    """The old rule."""

    waiting_class = OrdersAgain


def storm(cluster: PbftCluster, times: int, each_s: float) -> None:
    """Node 4 passes them on again and again."""
    for _ in range(times):
        for node in HONEST:
            cluster.step(node, Received(4, Forward(tuple(OLD))))
        cluster.run(each_s)


def ordered_again(make: Callable[..., Any]) -> int:
    """Requests that are ordered of old ones."""
    cluster = PbftCluster(config=replace(LARGE, batch_count_max=64), delay_s=(0.001, 0.005), make=make)
    for node in HONEST:
        cluster.submit(node, *OLD)
    cluster.run(1.0)
    before = cluster[1].core.history.index
    assert before == len(OLD)
    storm(cluster, 10, 0.2)
    return int(cluster[1].core.history.index) - before


def test_old_requests_are_not_ordered_again() -> None:
    assert ordered_again(Pbft) == 0
    assert ordered_again(OrdersOldOnes) > 300, "with the old rule they are"


def refused(make: Callable[..., Any]) -> int:
    """Of 20 requests of an honest client those that no honest node has room for, in a storm of old ones."""
    config = replace(LARGE, batch_count_max=8, inflight_batches=1, pending_max=len(OLD))
    cluster = PbftCluster(config=config, delay_s=(0.02, 0.03), make=make)
    for node in HONEST:
        cluster.submit(node, *OLD)
    cluster.run(3.0)
    count = 0
    for number in range(20):
        fresh = request(f"fresh {number}")
        before = {node: len(cluster[node].outputs) for node in HONEST}
        for node in HONEST:
            cluster.submit(node, fresh)
        count += all(any(isinstance(o, Dropped) for o in cluster[node].outputs[at:]) for node, at in before.items())
        storm(cluster, 10, 0.01)
    return count


def test_nor_do_they_take_room_from_others() -> None:
    assert refused(Pbft) == 0
    assert refused(OrdersOldOnes) > 0, "with the old rule they do"


def test_the_sessions_are_asked_for_what_was_executed_long_ago() -> None:
    node = Node(1)
    node.spent = {X}
    turn = node.on(4, Forward((X, Y)))
    assert list(node.core.waiting.pending.values()) == [Y]
    (proposal, *_) = [send.message for send in turn.sends]
    assert proposal == pre_prepare(1, Y)
    assert turn.blames == (), "a node that is behind may pass it on too"
