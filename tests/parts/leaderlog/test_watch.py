"""Watch: whom a node follows, and how long it waits for it. And where proposals go meanwhile."""

from quorate.kernel import Env, Send
from quorate.parts.leaderlog.config import LeaderConfig
from quorate.parts.leaderlog.proposals import Propose, forward
from quorate.parts.leaderlog.reads import Reads
from quorate.parts.leaderlog.watch import Watch
from quorate.parts.log.replicated import Dropped, Leads, ReadFailed

from tests.protocols.alone import Alone

CONFIG = LeaderConfig(heartbeat_s=0.1, election_timeout_s_min=1.0, message_entries_max=2)


def build(env: Env) -> Watch:
    return Watch(env, "election", CONFIG, Reads(env, 10, 2.0))


def test_a_leader_is_announced_once_for_each_number() -> None:
    made = Alone(build)
    assert made.do(made.part.follow, 3, 3, 2).outputs == [Leads(3, 2)]
    assert made.returned
    assert not made.do(made.part.follow, 3, 3, 2).outputs
    assert not made.returned
    assert made.do(made.part.follow, (4, 2), 4, 2).outputs == [Leads(4, 2)]
    assert made.part.leader == 2


def test_reads_asked_of_another_leader_fail_first() -> None:
    kept = []

    def with_reads(env: Env) -> Watch:
        kept.append(Reads(env, 10, 2.0))
        return Watch(env, "election", CONFIG, kept[0])

    made = Alone(with_reads)
    made.do(kept[0].forward, [7], 2)
    assert made.do(made.part.follow, 4, 4, 3).outputs == [ReadFailed((7,), "the leader changed"), Leads(4, 3)]


def test_the_wait_is_drawn_anew_when_it_rests_and_kept_when_the_leader_is_heard() -> None:
    made = Alone(build)
    delays = []
    for _ in range(20):
        made.do(made.part.rest)
        delays.append(made.part.delay_s)
    assert len(set(delays)) == 20
    assert all(1.0 <= delay <= 2.0 for delay in delays)
    assert not made.part.heard_lately()
    made.now += 0.5
    made.do(made.part.heard)
    assert made.part.delay_s == delays[-1]
    assert made.part.alarm.deadline == made.now + delays[-1]
    assert made.part.heard_lately()
    made.now += 1.0
    made.do(made.part.put_off)
    assert not made.part.heard_lately()
    assert made.part.alarm.deadline == made.now + delays[-1]


def test_proposals_go_to_the_leader_in_messages_or_are_dropped_with_a_reason() -> None:
    made = Alone(lambda env: env)
    values = [b"a", b"b", b"c"]
    assert made.do(forward, made.part, CONFIG, values, 2, None).early == [
        Send((2,), (), Propose([b"a", b"b"])),
        Send((2,), (), Propose([b"c"])),
    ]
    for leader, stalled, why in [(None, None, "no leader is known"), (2, "disk full", "disk full")]:
        turn = made.do(forward, made.part, CONFIG, values, leader, stalled)
        assert turn.outputs == [Dropped((b"a", b"b", b"c"), why)]
        assert not turn.early
