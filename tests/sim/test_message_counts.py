"""What a decision costs in messages, against the formula; the normal case, without faults.

Heartbeats of the clock are counted too, one a node each tenth of a second, so small numbers are let go.
"""

import pytest

from tests.sim.message_counts import DELAY_S, count

OVERLAPPING_S = DELAY_S / 2
"""The next value comes while the last is on its way."""
ALONE_S = DELAY_S * 10


@pytest.mark.parametrize("nodes", [3, 4, 5, 7])
def test_multi_paxos_needs_two_messages_a_node_where_values_follow_each_other(nodes: int) -> None:
    """2(n - 1): Accept and Accepted. That a value is chosen travels with a later one; phase 1 is over."""
    counts = count("multipaxos", nodes, 100, OVERLAPPING_S)
    assert counts.pop("Accept") == counts.pop("Accepted") == nodes - 1
    assert sum(counts.values()) == pytest.approx(0, abs=0.1 * (nodes - 1))


@pytest.mark.parametrize("nodes", [3, 4, 5, 7])
def test_raft_needs_two_messages_a_node_and_says_at_once_what_is_committed(nodes: int) -> None:
    """3(n - 1): AppendEntries and Appended, and a Heartbeat with the commit index for who was sent nothing since."""
    counts = count("raft", nodes, 100, OVERLAPPING_S)
    assert counts.pop("AppendEntries") == counts.pop("Appended") == nodes - 1
    assert sum(counts.values()) == pytest.approx(nodes - 1, abs=0.1 * (nodes - 1))


@pytest.mark.parametrize("nodes", [3, 5])
@pytest.mark.parametrize("protocol", ["multipaxos", "raft"])
def test_a_value_alone_is_announced_at_once(protocol: str, nodes: int) -> None:
    """3(n - 1) where no next value comes that could say so: nobody has to wait for a heartbeat."""
    counts = count(protocol, nodes, 20, ALONE_S)
    assert counts.pop("HeartbeatReply", 0) < nodes - 1
    assert sum(counts.values()) == pytest.approx(3 * (nodes - 1), abs=0.5 * (nodes - 1))
