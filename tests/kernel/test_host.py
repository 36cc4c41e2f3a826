"""The Host: dispatch, upcalls, settling, timers, and what it does with what a peer should not have sent."""

import msgspec
import pytest

from quorate.kernel import (
    Asked,
    Blame,
    Core,
    Done,
    Failed,
    Fired,
    Host,
    Job,
    Output,
    Received,
    Record,
    Send,
    Stalled,
    Submitted,
    Timer,
    Turn,
)
from quorate.kernel.core import handler_name
from quorate.sim.chance import streams

from tests.kernel.cores import Puppet, do


class Vote(msgspec.Struct):
    """A message that a test class may or may not handle."""


class Handy(Puppet):
    """Notes what it is handed."""

    def on_handed(self, value):
        self.seen.append(("handed", value))


def make_host(on_start=None) -> Host:
    return Host(lambda env: Puppet(env, on_start), 1, (3, 1, 2), streams(0))


@pytest.fixture
def host() -> Host:
    host = make_host()
    host.start(0.0)
    host.root.seen.clear()
    return host


def run(host: Host, *inputs, now: float = 0.0) -> Turn:
    return host.step(inputs, now)


# --- handlers ---


def test_a_missing_handler_is_an_error_when_the_class_is_made():
    with pytest.raises(TypeError, match="Deaf has no handler on_vote"):
        type("Deaf", (Core,), {"messages": (Vote,)})


def test_a_subclass_may_replace_a_handler():
    base = type("Base", (Core,), {"messages": (Vote,), "on_vote": lambda self, sender, m: self.env.send(2, "base")})
    child = type("Child", (base,), {"on_vote": lambda self, sender, m: self.env.send(2, "child")})
    host = Host(child, 1, (1, 2), streams(0))
    assert run(host, Received(2, Vote())).sends[0].message == "child"


@pytest.mark.parametrize(
    ("name", "handler"), [("Vote", "on_vote"), ("AppendEntries", "on_append_entries"), ("Phase2Ack", "on_phase2_ack")]
)
def test_names_of_handlers(name, handler):
    assert handler_name(type(name, (), {})) == handler


def test_each_input_reaches_its_method(host):
    failed = Failed("disk")
    run(host, Submitted((b"v",)), Asked((7,)), Fired("tick"), Done("job", failed))
    assert host.root.seen == [("submit", (b"v",)), ("read", (7,)), ("timer", "tick"), ("done", "job", failed), "settle"]


def test_what_is_not_an_input_is_refused(host):
    with pytest.raises((TypeError, AttributeError)):
        run(host, "hello")


def test_a_core_refuses_what_it_does_not_take():
    core = Core(None)
    for call in (
        lambda: core.submit(()),
        lambda: core.read(()),
        lambda: core.restore(1),
        lambda: core.revive(("a", 1)),
    ):
        with pytest.raises(NotImplementedError):
            call()


# --- effects ---


def test_verbs_become_a_turn_of_plain_values(host):
    def act(core):
        env = core.env
        env.send(2, "a")
        env.broadcast("b")
        env.send_now((2, 3), "c")
        env.send_now((), "to nobody is no effect")
        env.set_timer("t", 1.5)
        env.cancel_timer(("u", 4))
        env.work("k", "sums")
        env.work_now("now", "checks")
        env.deliver("out")
        env.deliver_now("told")
        env.blame(3, "lied")

    assert run(host, do(act), now=10.0) == Turn(
        early=[Send((2, 3), (), "c")],
        at_once=[Job((), "now", "checks"), "told"],
        sends=[Send((2,), (), "a"), Send((1, 2, 3), (), "b")],
        timers=[Timer((), "t", 11.5), Timer((), ("u", 4), None)],
        jobs=[Job((), "k", "sums")],
        outputs=["out"],
        blames=[Blame(3, "lied")],
    )
    assert run(host) == Turn(), "effects are handed over once"


def test_timers_are_in_local_time_which_stands_still_during_a_step(host):
    moments = []
    turn = run(
        host,
        do(lambda core: (moments.append(core.env.now), core.env.set_timer("a", 1.0))),
        do(lambda core: (moments.append(core.env.now), core.env.set_timer("a", 2.0))),
        now=100.0,
    )
    assert moments == [100.0, 100.0]
    assert turn.timers == [Timer((), "a", 101.0), Timer((), "a", 102.0)]


def test_the_worlds_clock_stands_still_during_a_step_too(host):
    moments = []
    for wall_ns in (7, 5):
        host.step([do(lambda core: moments.append((core.env.now, core.env.wall_ns)))] * 2, 1.0, wall_ns)
    assert moments == [(1.0, 7), (1.0, 7), (1.0, 5), (1.0, 5)], "it may go back"


def test_what_is_noted_is_written_in_order_with_what_is_persisted_and_is_lazy_alone(host):
    turn = run(host, do(lambda core: (core.env.note("a"), core.env.send(2, "b"))))
    assert turn == Turn(records=[Record((), "a")], sends=[Send((2,), (), "b")], lazy=True)
    turn = run(host, do(lambda core: (core.env.note("a"), core.env.persist("b"), core.env.note("c"))))
    assert turn == Turn(records=[Record((), "a"), Record((), "b"), Record((), "c")])


def test_outputs_of_a_child_without_a_parent_to_hear_them_have_its_path(host):
    run(host, do(lambda core: core.env.spawn(("child", 1), Puppet, upcall=None)))
    turn = run(host, do(lambda core: core.env.deliver("a"), 1), do(lambda core: core.env.deliver("b")))
    assert turn.outputs == [Output((("child", 1),), "a"), "b"]


def test_a_job_may_be_cancelled_in_the_step_that_asks_for_it(host):
    turn = run(host, do(lambda core: (core.env.work("k", "sums"), core.env.cancel_work("k"))))
    assert turn.jobs == [Job((), "k", "sums"), Job((), "k", None)]


def test_what_is_handed_down_comes_when_the_handler_has_returned(host):
    run(host, do(lambda core: core.env.spawn(("child", 1), Handy, upcall=core.heard)))
    child = host.cores[("child", 1),]

    def act(core):
        core.env.hand(("child", 1), "value")
        core.env.hand(("child", 2), "to nobody")
        core.seen.append(list(child.seen))

    run(host, do(act))
    assert host.root.seen[-2:] == [["start", "settle"], "settle"]
    assert child.seen[2:] == [("handed", "value"), "settle"]
    with pytest.raises(NotImplementedError, match="takes nothing from its parent"):
        Core(None).on_handed(1)


def test_a_core_knows_its_peers(host):
    env = host.root.env
    assert (env.id, env.peers, env.others, env.path) == (1, (1, 2, 3), (2, 3), ())


# --- peers that do what they should not ---


def test_an_unknown_type_is_blamed_and_dropped(host):
    assert run(host, Received(2, Vote())) == Turn(blames=[Blame(2, "sent a Vote to ()")])
    assert host.root.seen == []


def test_a_node_outside_the_group_is_blamed_and_dropped(host):
    for path in ((), (("child", 1),)):
        turn = run(host, Received(9, Vote(), path))
        assert turn == Turn(blames=[Blame(9, "is not a member of the group")])
    run(host, do(lambda core: core.hatch(1)))
    assert host.cores[("child", 1),].seen == ["start", "settle"]


# --- upcalls ---


def test_a_child_that_delivers_does_not_enter_its_parent(host):
    """The parent is in its handler when the child, spawned there, delivers; a Puppet entered twice says so."""

    def act(core):
        core.hatch(1, on_start=lambda child: child.env.deliver("born"))
        core.seen.append("handler returns")

    run(host, do(act))
    assert host.root.seen == ["handler returns", ("heard", "born"), "settle"]


def test_a_cascade_through_three_layers_is_one_turn_and_in_order(host):
    run(host, do(lambda core: core.hatch(1)))
    run(host, do(lambda core: core.hatch(2), 1))
    host.root.seen.clear()

    def relay(number):
        """What the leaf delivers makes the middle deliver, which makes the root send."""
        return lambda middle: middle.env.deliver(lambda root: root.env.send(2, number))

    def act(leaf):
        leaf.env.deliver(relay(1))
        leaf.env.deliver(relay(2))
        leaf.env.send(2, 0)

    turn = run(host, do(act, 1, 2), do(lambda root: root.env.send(2, 3)))
    assert [send.message for send in turn.sends] == [0, 1, 2, 3]


def test_upcalls_of_one_input_run_before_the_next_input(host):
    run(host, do(lambda core: core.hatch(1)))
    host.root.seen.clear()
    deliver = do(lambda child: (child.env.deliver("a"), child.env.deliver("b")), 1)
    run(host, deliver, do(lambda core: core.seen.append("next")))
    assert host.root.seen == [("heard", "a"), ("heard", "b"), "next", "settle"]


def test_nothing_is_delivered_to_a_core_that_is_gone(host):
    run(host, do(lambda core: core.hatch(1)))
    run(host, do(lambda core: core.hatch(2), 1))
    middle = host.cores[("child", 1),]
    leaf = host.cores[("child", 1), ("child", 2)]
    middle.seen.clear()

    def act(root):
        leaf.env.deliver("on its way when the root retires the middle")
        root.env.retire(("child", 1))

    assert run(host, do(act), do(lambda core: None, 1), Fired("t", (("child", 1),))) == Turn()
    assert middle.seen == []


# --- settle ---


def test_a_core_settles_once_a_step_however_its_inputs_alternate(host):
    run(host, do(lambda core: core.hatch(1)))
    child = host.cores[("child", 1),]
    host.root.seen.clear()
    child.seen.clear()
    run(host, Fired("a"), Fired("b", (("child", 1),)), Fired("c"), Fired("d", (("child", 1),)))
    assert host.root.seen == [("timer", "a"), ("timer", "c"), "settle"]
    assert child.seen == [("timer", "b"), ("timer", "d"), "settle"]


def test_a_parent_that_hears_a_child_settles(host):
    run(host, do(lambda core: core.hatch(1)))
    host.root.seen.clear()
    run(host, do(lambda child: child.env.deliver("news"), 1))
    assert host.root.seen == [("heard", "news"), "settle"]


def test_what_a_child_delivers_while_settling_settles_the_parent():
    class Late(Puppet):
        def settle(self):
            if "settled" not in self.seen:
                self.seen.append("settled")
                self.env.deliver("settled")

    host = make_host(lambda core: core.env.spawn(("late", 1), Late, upcall=core.heard))
    host.start(0.0)
    assert host.root.seen == ["start", "settle", ("heard", "settled"), "settle"]


def test_a_core_that_is_called_from_above_settles_with_those_that_call_it(host):
    """A call is no input; whoever may have been called counts as touched, at any depth, but nobody else."""
    run(host, do(lambda core: (core.hatch(1), core.hatch(2))))
    run(host, do(lambda core: core.hatch(3), 1))
    below = host.cores[("child", 1), ("child", 3)]
    for core in host.cores.values():
        core.seen.clear()
    run(host, do(lambda core: below.seen.append("called")))
    assert [core.seen for core in host.cores.values()] == [["settle"], ["settle"], ["settle"], ["called", "settle"]]
    run(host, Fired("t", (("child", 1),)))
    assert host.root.seen == host.cores[("child", 2),].seen == ["settle"]
    assert below.seen == ["called", "settle", "settle"]


def test_a_core_settles_with_those_above_though_one_between_has_nothing_to_settle():
    class Plain(Core):
        def start(self):
            self.leaf = self.env.spawn(("leaf", 1), Puppet, upcall=None)

    host = make_host(lambda core: core.env.spawn(("plain", 1), Plain, upcall=None))
    host.start(0.0)
    leaf = host.cores[("plain", 1), ("leaf", 1)]
    leaf.seen.clear()
    run(host, Fired("t"))
    assert leaf.seen == ["settle"]
    run(host, do(lambda core: core.env.retire(("plain", 1))))
    run(host, Fired("t"))
    assert leaf.seen == ["settle"], "and no more when it is gone"


def test_a_core_that_nothing_touched_does_not_settle(host):
    run(host, do(lambda core: core.hatch(1)))
    host.root.seen.clear()
    run(host, Fired("t", (("child", 1),)))
    assert host.root.seen == []


def test_a_retired_core_does_not_settle(host):
    run(host, do(lambda core: core.hatch(1)))
    child = host.cores[("child", 1),]
    child.seen.clear()
    run(host, Fired("t", (("child", 1),)), do(lambda core: core.env.retire(("child", 1))))
    assert child.seen == [("timer", "t")]


# --- storage stalls ---


def test_stalled_reaches_all_cores(host):
    run(host, do(lambda core: (core.hatch(1), core.hatch(2))))
    run(host, do(lambda core: core.hatch(3), 1))
    for core in host.cores.values():
        core.seen.clear()
    run(host, Stalled("disk full"), Stalled(None))
    assert len(host.cores) == 4
    for core in host.cores.values():
        assert core.seen == [("stalled", "disk full"), ("stalled", None), "settle"]


def test_a_core_that_is_retired_by_a_stall_hears_no_more_of_it(host):
    class Strict(Puppet):
        def on_stalled(self, why):
            self.env.retire(("child", 1))

    host = Host(Strict, 1, (1, 2), streams(0))
    host.start(0.0)
    run(host, do(lambda core: core.hatch(1)))
    child = host.cores[("child", 1),]
    run(host, Stalled("disk full"))
    assert ("stalled", "disk full") not in child.seen
