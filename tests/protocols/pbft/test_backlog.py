"""A backlog that takes longer than the timeout deposes nobody, and a primary that starves one client is left."""

from typing import Any

import pytest
from msgspec.structs import replace

from quorate.kernel import Env, Received
from quorate.protocols.pbft import Pbft
from quorate.protocols.pbft.messages import Forward, PbftConfig
from quorate.protocols.pbft.waiting import WaitingRequests

from tests.protocols.pbft.pbft_nodes import CONFIG, PbftCluster, request

ONE_BY_ONE = replace(
    CONFIG,
    batch_count_max=1,
    inflight_batches=1,
    checkpoint_batches=8,
    window=16,
    snapshot_batches=64,
    request_timeout_s=1.0,
    beat_s=0.1,
)
BACKLOG = [request(f"{number}", client=number) for number in range(60)]
"""At 0.06 s for each: more than three timeouts."""
STARVED = request("starved", client=70)


class Impatient(WaitingRequests):
    """Planted: the timer is that of the oldest request alone."""

    def _is_in_turn(self, came: float, oldest_came: float) -> bool:
        return False


class OneLine(WaitingRequests):
    """Planted: what others pass on stands behind all that is here."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        turns, own = self.turns, parts[0].id
        add = turns.add
        turns.add = lambda node, digest: None if digest in turns else add(own, digest)  # type: ignore[method-assign]


class ImpatientLine(Impatient, OneLine):
    """Planted: both."""


class Indulgent(WaitingRequests):
    """Planted: the timer starts again with whatever is executed."""

    def _is_in_turn(self, came: float, oldest_came: float) -> bool:
        return True


class Starving(WaitingRequests):
    """A primary that proposes all but one request."""

    def next_batch(self) -> tuple[bytes, ...]:
        return tuple(value for value in super().next_batch() if value != STARVED)


def cluster(kind: type[WaitingRequests] = WaitingRequests, primary: type[WaitingRequests] | None = None) -> PbftCluster:
    """Four nodes, of which the first leads; each message takes 20 ms."""

    def make(env: Env, config: PbftConfig, keys: Any) -> Pbft:
        chosen = primary or kind if env.id == 1 else kind
        return type("Made", (Pbft,), {"waiting_class": chosen})(env, config, keys)

    return PbftCluster(config=ONE_BY_ONE, make=make, delay_s=(0.02, 0.02))  # type: ignore[arg-type]


def views(group: PbftCluster) -> list[int]:
    return [group[node].core.view.number for node in group.peers]


@pytest.mark.parametrize("kind", [WaitingRequests, ImpatientLine])
def test_a_backlog_deposes_nobody(kind: type[WaitingRequests]) -> None:
    group = cluster(kind)
    for node in group.peers:  # a client's message may overtake another's: the primary has the oldest of a backup last
        order = BACKLOG if node == 1 else [*BACKLOG[-3:], *BACKLOG[:-3]]
        group.submit(node, *order)
    group.run(0.06 * 50)
    assert group.now > 2 * ONE_BY_ONE.request_timeout_s
    assert (max(views(group)) == 0) is (kind is WaitingRequests), "with the old rule it did"
    group.run(10.0)
    assert [group[node].core.history.index for node in group.peers] == [len(BACKLOG)] * 4


@pytest.mark.parametrize("kind", [WaitingRequests, OneLine])
def test_a_backlog_that_others_never_saw_deposes_nobody(kind: type[WaitingRequests]) -> None:
    """A primary may have more requests than the others, as they were away or had no room."""
    group = cluster(kind)
    group.submit(1, *BACKLOG)
    for node in group.peers:
        group.submit(node, STARVED)
    group.run(0.06 * 50)
    assert (max(views(group)) == 0) is (kind is WaitingRequests), "in one line it did"
    assert STARVED in group[2].applied


@pytest.mark.parametrize("kind", [WaitingRequests, OneLine])
def test_a_backup_that_floods_the_primary_fills_its_own_line(kind: type[WaitingRequests]) -> None:
    group = cluster(kind)
    group.step(1, Received(2, Forward(tuple(BACKLOG))))
    group.submit(3, STARVED)
    group.run(0.06 * 15)
    assert (STARVED in group[4].applied) is (kind is WaitingRequests)


def test_what_was_executed_takes_no_room() -> None:
    group = cluster()
    for node in group.peers:
        group.submit(node, *BACKLOG)
    group.run(10.0)
    for node in group.peers:
        waiting = group[node].core.waiting
        assert (len(waiting.pending), waiting.pending_bytes, list(waiting.turns)) == (0, 0, [])


@pytest.mark.parametrize("kind", [WaitingRequests, Indulgent])
def test_a_primary_that_starves_one_client_is_left(kind: type[WaitingRequests]) -> None:
    group = cluster(kind, Starving)
    for node in group.peers:
        group.submit(node, STARVED)
    for number in range(50):  # others are served all the while
        value = request(f"other {number}", client=number)
        for node in group.peers:
            group.submit(node, value)
        group.run(0.1)
    assert group.now > 4 * ONE_BY_ONE.request_timeout_s
    is_left = min(views(group)) > 0
    assert is_left is (kind is WaitingRequests), "with the paper's rule it was not"
    assert any(STARVED in group[node].applied for node in (2, 3, 4)) is is_left
