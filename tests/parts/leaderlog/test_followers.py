"""Followers: what each holds, in one place; what is on its way; what to send next."""

from quorate.kernel import Env
from quorate.parts.leaderlog.config import LeaderConfig
from quorate.parts.leaderlog.followers import Followers
from quorate.parts.leaderlog.sending import outgoing
from quorate.parts.leaderlog.transfers import Transfers, Wanted
from quorate.parts.log.entries import Entry, Log

from tests.protocols.alone import Alone
from tests.protocols.raft.raft_nodes import NOTHING

ENTRIES = [Entry(1, b"%d" % index) for index in range(1, 6)]
CONFIG = LeaderConfig(message_entries_max=2, inflight_messages_max=2)


def log_of(base_index: int = 0) -> Log:
    log = Log()
    log.append(ENTRIES)
    log.compact(base_index, 1 if base_index else 0)
    return log


def test_what_is_held_only_grows_and_the_leaders_own_disk_counts() -> None:
    followers = Followers((2, 3), 1, 0.0)
    for node, index in [(1, 4), (2, 3), (2, 1), (3, 0)]:
        followers.acknowledged(node, index, 7.0)
    assert followers.match == {1: 4, 2: 3, 3: 0}
    assert followers.heard_since(6.0) == 0b1100
    followers.installed(3, 5)
    assert (followers.match[3], followers[3].next_index) == (5, 6)
    followers.installed(3, 2)
    assert followers.match[3] == 5


def test_a_probe_is_one_message_and_its_answer_lets_more_go() -> None:
    followers = Followers((2,), 1, 0.0)
    assert followers.wanting(5, 2, 1000) == {1: [2]}
    followers.sent([2], 2, 50, 0)
    assert followers.wanting(5, 2, 1000) == {}
    followers.acknowledged(2, 2, 1.0)
    assert followers.wanting(5, 2, 1000) == {3: [2]}
    followers.sent([2], 4, 50, 0)
    assert followers.wanting(5, 2, 1000) == {5: [2]}
    followers.sent([2], 5, 1000, 0)
    assert followers.wanting(9, 2, 9999) == {}, "two are out"


def test_what_is_out_goes_again_if_a_heartbeat_finds_no_progress() -> None:
    followers = Followers((2,), 1, 0.0)
    followers.sent([2], 2, 50, 0)
    followers.acknowledged(2, 2, 1.0)
    followers.sent([2], 4, 50, 0)
    followers.beat(2)
    assert followers.wanting(4, 2, 1000) == {}, "it moved since the last one"
    followers.beat(2)
    assert followers.wanting(4, 2, 1000) == {3: [2]}


def test_who_is_told_what_is_committed_is_told_once_and_no_more_than_it_holds() -> None:
    followers = Followers((2, 3), 1, 0.0)
    followers.acknowledged(2, 3, 1.0)
    assert list(followers.knowing(2)) == [(2, 2), (3, 0)]
    assert followers.uninformed(2) == {2: [2]}
    assert followers.uninformed(2) == {}
    followers.told(3, 2)
    followers.acknowledged(3, 5, 1.0)
    assert followers.uninformed(2) == {}


def test_nodes_come_and_go() -> None:
    followers = Followers((2,), 1, 0.0)
    followers.met(4, 3, 5.0)
    followers.acknowledged(4, 3, 6.0)
    followers.parted(4)
    followers.parted(9)
    assert (list(followers), followers.match) == ([2], {2: 0})


def test_those_that_want_the_same_get_one_message_and_who_lags_behind_the_log_the_snapshot() -> None:
    made = Alone(lambda env: Sender(env))
    turn = made.do(made.part.send)
    assert made.returned == [((2, 3), 3, ENTRIES[2:4])]
    assert turn == NOTHING
    assert made.part.asked == [(1, Wanted(4, 0, 0, 2, 5))]
    assert made.part.followers[2].commit_sent == 2
    made.part.followers.acknowledged(2, 4, 0.0)
    made.do(made.part.send)
    assert made.returned == [((2,), 5, ENTRIES[4:])]


class Sender:
    """A leader's log that begins after a snapshot at 2, two followers at its beginning and one behind it."""

    def __init__(self, env: Env) -> None:
        self.followers = Followers((2, 3), 3, 0.0)
        self.followers.met(4, 1, 0.0)
        self.asked: list[tuple[int, Wanted]] = []
        self.log = log_of(base_index=2)
        self.transfers = Transfers(env, self.log, lambda source, wanted: self.asked.append((source, wanted)))

    def send(self) -> list[tuple[tuple[int, ...], int, list[Entry]]]:
        return outgoing(CONFIG, self.log, 2, self.followers, self.transfers)
