"""Rosters that change: members of a closed one as cores decide, links of an open one as the shell reports them."""

from functools import partial
from typing import Any

import pytest

from quorate.kernel import (
    Blame,
    Fired,
    Host,
    Meet,
    Met,
    Misbehaved,
    Part,
    Parted,
    Received,
    Record,
    Send,
    Stalled,
    Turn,
    Unmet,
)
from quorate.kernel.roster import Roster
from quorate.sim.chance import streams

from tests.kernel.cores import Open, Puppet, do

CHILD = (("child", 1),)

# --- closed ---


class Member(Puppet):
    """Meets and parts from nodes as its records say."""

    def restore(self, record: Any) -> None:
        node, is_met = record
        if is_met:
            self.env.meet(f"host:{node}", b"key", node)
        else:
            self.env.part(node, "was removed")


def closed(core: Any = Member) -> Host:
    host = Host(core, 1, (1, 2, 3), streams(0))
    host.start(0.0)
    return host


def act(host: Host, verb: Any, *numbers: int) -> Turn:
    return host.step([do(verb, *numbers)], 1.0)


def meet(node: int) -> Any:
    return lambda core: core.env.meet(f"host:{node}", b"key", node)


def part(node: int) -> Any:
    return lambda core: core.env.part(node, "was removed")


def test_a_member_that_is_met_is_a_peer_of_all_cores_at_once() -> None:
    host = closed()
    act(host, lambda core: core.hatch(1))
    seen: list[Any] = []

    def grow(core: Puppet) -> None:
        core.env.broadcast("before")
        meet(5)(core)
        core.env.broadcast("after")
        seen.append((core.env.peers, core.env.others))

    turn = act(host, grow)
    assert turn == Turn(
        sends=[Send((1, 2, 3), (), "before"), Send((1, 2, 3, 5), (), "after")], roster=[Meet("host:5", b"key", 5)]
    )
    assert seen == [((1, 2, 3, 5), (2, 3, 5))]
    assert host.cores[CHILD].env.peers == (1, 2, 3, 5)
    turn = act(host, lambda core: core.env.broadcast("child"), 1)
    assert turn.sends == [Send((1, 2, 3, 5), CHILD, "child")]
    assert host.step([do(lambda core: core.env.send(5, "hello"), sender=5)], 2.0).sends == [Send((5,), (), "hello")]


def test_what_a_member_that_has_left_still_says_is_dropped_without_blame_and_a_stranger_is_blamed() -> None:
    host = closed()
    turn = act(host, part(3))
    assert turn == Turn(roster=[Part(3, "was removed")])
    assert host.root.env.peers == (1, 2)
    assert host.step([do(lambda core: core.seen.append("late"), sender=3)], 2.0) == Turn()
    assert "late" not in host.root.seen
    assert host.step([do(lambda core: None, sender=9)], 2.0).blames == [Blame(9, "is not a member of the group")]


def test_a_member_that_is_met_again_is_heard_again() -> None:
    host = closed()
    act(host, part(3))
    turn = act(host, meet(3))
    assert turn.roster == [Meet("host:3", b"key", 3)]
    assert host.root.env.peers == (1, 2, 3)
    host.step([do(lambda core: core.seen.append("back"), sender=3)], 2.0)
    assert "back" in host.root.seen


def test_what_a_member_said_before_it_left_does_not_wait_for_a_core_to_come() -> None:
    host = closed()
    host.step([do(lambda core, n=n: core.seen.append(n), 1, sender=n) for n in (2, 3)], 1.0)
    act(host, part(3))
    act(host, meet(3))
    act(host, lambda core: core.hatch(1))
    assert host.cores[CHILD].seen == ["start", 2, "settle"]


def test_an_address_that_changes_is_met_once_more() -> None:
    host = closed()
    turn = act(host, lambda core: (core.env.meet("old:3", b"k", 3), core.env.meet("new:3", b"k", 3)))
    assert turn.roster == [Meet("old:3", b"k", 3), Meet("new:3", b"k", 3)]
    assert host.root.env.peers == (1, 2, 3)
    assert host.roster.changes() == (Meet("new:3", b"k", 3),)


def test_a_start_after_recovery_tells_all_that_differs_from_what_was_given() -> None:
    host = Host(Member, 1, (1, 2, 3), streams(0))
    for record in ((4, True), (5, True), (3, False), (5, False), (2, False), (2, True)):
        host.restore(Record((), record))
    assert host.root.env.peers == (1, 2, 4)
    turn = host.start(1.0)
    assert sorted(turn.roster, key=repr) == [
        Meet("host:2", b"key", 2),
        Meet("host:4", b"key", 4),
        Part(3, "was removed"),
        Part(5, "was removed"),
    ]
    assert act(host, lambda core: None).roster == (), "and once"
    assert host.step([do(lambda core: None, sender=5)], 2.0) == Turn(), "who left in an earlier life is late as well"


def test_what_is_met_in_a_start_is_told_once() -> None:
    host = Host(lambda env: Puppet(env, meet(4)), 1, (1, 2, 3), streams(0))
    assert host.start(1.0).roster == [Meet("host:4", b"key", 4)]


def test_what_the_constructor_meets_is_told_by_the_start() -> None:
    class Eager(Puppet):
        def __init__(self, env: Any) -> None:
            super().__init__(env)
            meet(4)(self)

    host = Host(Eager, 1, (1, 2, 3), streams(0))
    assert host.root.env.peers == (1, 2, 3, 4)
    assert host.start(1.0).roster == [Meet("host:4", b"key", 4)]


def test_members_of_a_closed_roster_have_numbers_and_a_node_stays_with_itself() -> None:
    host = closed()
    with pytest.raises(AssertionError, match="has no number"):
        act(host, lambda core: core.env.meet("host:4"))
    with pytest.raises(AssertionError, match="part from itself"):
        act(closed(), part(1))


def test_a_fork_has_a_roster_of_its_own() -> None:
    host = closed()
    fork = host.fork()
    act(fork, meet(5))
    assert fork.root.env.peers == (1, 2, 3, 5)
    assert host.root.env.peers == (1, 2, 3)


def test_a_roster_is_sorted_and_has_each_node_once() -> None:
    roster = Roster(2, (3, 1, 2, 3))
    roster.add(0)
    roster.add(3)
    roster.remove(1)
    roster.remove(9)
    assert (roster.peers, roster.others, roster.members) == ((0, 2, 3), (0, 3), frozenset((0, 2, 3)))
    roster.replace((1000, 16, 8, 2, 64))
    assert roster.peers == (2, 8, 16, 64, 1000)


# --- open ---


class Stranger(Puppet):
    """Notes what it hears of links, and whom it knows then."""

    def on_met(self, node: int, key: bytes, address: str, outbound: bool) -> None:
        self.seen.append(("met", node, key, address, outbound, self.env.peers))

    def on_parted(self, node: int, why: str) -> None:
        self.seen.append(("parted", node, why, self.env.peers))

    def on_unmet(self, address: str, why: str) -> None:
        self.seen.append(("unmet", address, why))

    def on_misbehaved(self, node: int, why: str) -> None:
        self.seen.append(("misbehaved", node, why))

    def hatch(self, number: int, on_start: Any = None) -> Puppet:
        child = self.env.spawn(("child", number), Stranger, on_start, upcall=self.heard)
        assert isinstance(child, Puppet)
        return child


LINK = Met(3, b"key", "host:3", outbound=True)


def opened(*links: Met) -> Host:
    """With a child; what was seen so far is forgotten."""
    host = Host(Stranger, 0, (), streams(0), is_open=True)
    host.start(0.0)
    host.step([Met(2, b"k2", "host:2", outbound=False), do(lambda core: core.hatch(1), sender=2), *links], 1.0)
    for core in host.cores.values():
        core.seen.clear()
    return host


def test_a_link_is_told_to_all_cores_the_roster_first() -> None:
    host = opened()
    assert host.root.env.peers == (2,)
    turn = host.step([LINK, do(lambda core: core.env.broadcast("hello"), sender=3)], 2.0)
    met = ("met", 3, b"key", "host:3", True, (2, 3))
    assert host.root.seen == [met, "settle"]
    assert host.cores[CHILD].seen == [met, "settle"]
    assert turn.sends == [Send((2, 3), (), "hello")], "the node itself is no peer"


def test_a_link_that_is_gone_is_told_to_all_cores_the_roster_first() -> None:
    host = opened(LINK)
    host.step([Parted(3, "hung up")], 2.0)
    for core in host.cores.values():
        assert core.seen == [("parted", 3, "hung up", (2,)), "settle"]


def test_an_address_where_nobody_is_is_told_to_all_cores() -> None:
    host = opened()
    turn = host.step([Unmet("host:9", "refused")], 2.0)
    assert turn == Turn()
    for core in host.cores.values():
        assert core.seen == [("unmet", "host:9", "refused"), "settle"]


def test_misbehaviour_is_told_to_the_root_alone() -> None:
    host = opened()
    turn = host.step([Misbehaved(2, "does not decode"), Received(2, Open(1), CHILD), Received(2, Open(1))], 2.0)
    assert turn == Turn(), "nobody is blamed"
    assert host.root.seen == [
        ("misbehaved", 2, "does not decode"),
        ("misbehaved", 2, f"sent a Open to {CHILD}"),
        ("misbehaved", 2, "sent a Open to ()"),
        "settle",
    ]
    assert host.cores[CHILD].seen == ["settle"], "as its parent was touched"


def test_a_message_of_a_link_that_is_gone_or_never_was_is_dropped_in_silence() -> None:
    host = opened(LINK)
    say = partial(do, lambda core: core.seen.append("heard"))
    assert host.step([Parted(3, "hung up"), say(sender=3), say(sender=9), say(1, sender=9)], 2.0) == Turn()
    assert "heard" not in [*host.root.seen, *host.cores[CHILD].seen]


def test_a_number_that_is_used_again_is_another_stranger() -> None:
    """What the one before said and what waits of it goes with the link."""
    host = opened(LINK)
    wait = [do(lambda core, n=n: core.seen.append(n), 2, sender=n) for n in (2, 3)]
    host.step(wait, 2.0)
    host.step([Parted(3, "hung up"), LINK], 3.0)
    host.step([do(lambda core: core.hatch(2), sender=2)], 4.0)
    assert host.cores[("child", 2),].seen == ["start", 2, "settle"]


def test_to_meet_and_to_part_are_wishes_until_the_shell_reports() -> None:
    host = opened(LINK)

    def wish(core: Puppet) -> None:
        core.env.meet("host:7", b"k7")
        core.env.part(3, "useless", ban_s=60.0)

    turn = host.step([do(wish, sender=2)], 2.0)
    assert turn == Turn(roster=[Meet("host:7", b"k7"), Part(3, "useless", 60.0)])
    assert host.root.env.peers == (2, 3)


def test_a_node_hears_itself_though_it_is_no_peer() -> None:
    host = opened()
    assert host.root.env.others == host.root.env.peers == (2,)
    host.step([do(lambda core: core.seen.append("self"), sender=host.node)], 2.0)
    assert "self" in host.root.seen


def test_strangers_are_not_blamed() -> None:
    with pytest.raises(AssertionError, match="scored, not blamed"):
        opened().step([do(lambda core: core.env.blame(2, "lied"), sender=2)], 2.0)


def test_a_core_that_a_report_retires_hears_no_more_of_it() -> None:
    class Strict(Stranger):
        def on_met(self, node: int, key: bytes, address: str, outbound: bool) -> None:
            self.env.retire(("child", 1))

    host = Host(Strict, 0, (), streams(0), is_open=True)
    host.start(0.0)
    host.root.hatch(1)
    child = host.cores[CHILD]
    host.step([LINK, Fired("t", CHILD)], 1.0)
    assert child.seen == ["start"]


def test_where_the_whole_host_is_recovered_by_inputs_a_restart_parts_from_the_links_of_the_life_before() -> None:
    def make() -> Host:
        return Host(Stranger, 0, (), streams(0), is_open=True, by_inputs=True)

    host = make()
    records = list(host.start(0.0).records)
    records += host.step([Met(2, b"k2", "host:2", outbound=False), LINK, Stalled("disk full")], 1.0).records
    again = make()
    for record in records:
        again.restore(record)
    assert again.root.env.peers == (2, 3)
    turn = again.start(5.0)
    assert again.root.env.peers == ()
    why = "this node was started again"
    assert again.root.seen[-5:-1] == [("stalled", None), ("parted", 2, why, (3,)), ("parted", 3, why, ()), "start"]
    assert turn.roster == ()
    third = make()
    for record in [*records, *turn.records]:
        third.restore(record)
    assert third.root.seen == again.root.seen
