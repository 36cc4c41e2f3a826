"""The leader's connection ends: its process has ended, perhaps. One step at a time."""

import msgspec

from quorate.kernel import HungUp
from quorate.protocols.multipaxos.messages import Poll, PollReply

from tests.protocols.multipaxos.multipaxos_nodes import CONFIG, follower, messages
from tests.protocols.raft.raft_nodes import NOTHING


def test_a_follower_asks_soon_whether_it_could_lead_and_lets_others() -> None:
    node = follower(2)
    node.step(HungUp(3))
    assert messages(node.on(3, Poll(1, 0))) == [PollReply(1, False, (1, 2))], "that was not the leader's"
    node.step(HungUp(2))
    assert messages(node.on(3, Poll(1, 0))) == [PollReply(1, True, (1, 2))]
    assert [type(m) for m in messages(node.fire("election", 2 * CONFIG.hang_up_s))] == [Poll]


def test_what_was_promised_for_a_lease_holds() -> None:
    node = follower(2, config=msgspec.structs.replace(CONFIG, lease_s=1.0))
    assert node.step(HungUp(2)) == NOTHING
    assert messages(node.on(3, Poll(1, 0))) == [PollReply(1, False, (1, 2))]
