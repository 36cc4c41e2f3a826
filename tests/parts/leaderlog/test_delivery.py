"""What is committed goes up in portions: a restart, or the end of a partition, hands over a whole log."""

from typing import Any

import pytest

from quorate.kernel import Turn
from quorate.parts.leaderlog import delivery
from quorate.parts.leaderlog.delivery import DELIVER
from quorate.parts.log.entries import Entry
from quorate.parts.log.replicated import Decided, ReadReady
from quorate.protocols.multipaxos import messages as multipaxos
from quorate.protocols.multipaxos.messages import Accept
from quorate.protocols.raft import messages as raft
from quorate.protocols.raft.messages import AppendEntries

from tests.protocols.multipaxos import multipaxos_nodes
from tests.protocols.raft import raft_nodes


@pytest.fixture(params=["raft", "multipaxos"])
def committed(request: pytest.FixtureRequest) -> Any:
    """A follower, and the step in which it hears that entries of these sizes are committed."""

    def hear(*sizes: int) -> tuple[Any, Turn]:
        log = tuple(Entry(1, bytes(size)) for size in sizes)
        if request.param == "raft":
            node: Any = raft_nodes.follower()
            return node, node.on(2, AppendEntries(1, 0, 0, log, len(log)))
        node = multipaxos_nodes.follower()
        return node, node.on(2, Accept(node.core.ballot, 1, log, len(log)))

    return hear


def portions(node: Any, turn: Turn) -> list[tuple[int, int]]:
    """First index and number of entries of each, to the end."""
    found = []
    while decided := [output for output in turn.outputs if isinstance(output, Decided)]:
        found += [(output.first_index, len(output.entries)) for output in decided]
        if not [timer for timer in turn.timers if timer.key == DELIVER]:
            break
        turn = node.fire(DELIVER)
    return found


def test_usually_a_portion_is_all(committed: Any) -> None:
    assert portions(*committed(10, 10, 10)) == [(1, 3)]


def test_so_many_entries_go_up_at_a_time(committed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "ENTRIES_MAX", 4)
    assert portions(*committed(*[10] * 10)) == [(1, 4), (5, 4), (9, 2)]


def test_so_many_bytes_go_up_at_a_time_and_one_entry_at_least(committed: Any) -> None:
    large = delivery.BYTES_MAX
    assert portions(*committed(10, large // 2, large // 2, large + 1, 10, 10)) == [(1, 2), (3, 1), (4, 1), (5, 2)]


def test_what_comes_meanwhile_goes_up_as_well(committed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any step hands over a portion; a timer that finds nothing left does nothing."""
    monkeypatch.setattr(delivery, "ENTRIES_MAX", 4)
    node, turn = committed(*[10] * 6)
    assert [output.first_index for output in turn.outputs if isinstance(output, Decided)] == [1]
    turn = node.fire("heartbeat")  # which does nothing else in a follower
    assert [output.first_index for output in turn.outputs if isinstance(output, Decided)] == [5]
    assert not node.fire(DELIVER).outputs


@pytest.mark.parametrize("protocol", ["raft", "multipaxos"])
def test_a_read_waits_for_all_that_was_committed_when_it_came(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it is certain at once that the leader still leads."""
    monkeypatch.setattr(delivery, "ENTRIES_MAX", 1)
    if protocol == "raft":
        node: Any = raft_nodes.leader(log=[1] * 7)
        term, last_index = node.core.term, node.core.log.last_index
        node.on(1, raft.Appended(term, last_index))
        node.on(2, raft.Appended(term, last_index))
        confirmed: Any = raft.HeartbeatReply(term, node.core._reads.rounds.number + 1)
    else:
        node = multipaxos_nodes.leader()
        node.submit(*[b"%d" % number for number in range(8)])
        multipaxos_nodes.agreed(node, 2)
        last_index = node.core.acceptor.chosen_index
        confirmed = multipaxos.HeartbeatReply(node.core.ballot, node.core._reads.rounds.number + 1)
    assert last_index == 8
    turns = [node.read(7), node.on(2, confirmed), *[node.fire(DELIVER) for _ in range(8)]]
    outputs = [output for turn in turns for output in turn.outputs]
    assert outputs[-1] == ReadReady((7,))
    assert outputs[-2].first_index + len(outputs[-2].entries) - 1 == last_index
