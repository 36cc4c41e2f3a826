"""The tree of cores: spawning, retiring, parking for cores to come, and forks."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.kernel import Blame, Fired, Host, Received, Send, Turn
from quorate.kernel.ids import PATH_DEPTH_MAX, mask_of, nodes_of
from quorate.kernel.parking import Parking, ParkingLimits, Retired
from quorate.sim.chance import streams

from tests.kernel.cores import Board, Close, Do, Open, Puppet, Put, do, state_of

CHILD = ("child", 1)
PARKED_MAX = ParkingLimits().messages_max


def make_host() -> Host:
    host = Host(Puppet, 1, (1, 2, 3), streams(0))
    host.start(0.0)
    return host


def retire(number: int, *above: int) -> Received:
    return do(lambda core: core.env.retire(("child", number)), *above)


# --- paths ---


def test_effects_of_a_child_carry_its_path():
    host = make_host()
    host.step([do(lambda core: core.hatch(1))], 0.0)
    host.step([do(lambda core: core.hatch(2), 1)], 0.0)
    path = (CHILD, ("child", 2))
    act = do(lambda core: (core.env.send(2, "a"), core.env.persist("r"), core.env.set_timer("t", 1.0)), 1, 2)
    turn = host.step([act], 0.0)
    assert {turn.sends[0].path, turn.records[0].path, turn.timers[0].path} == {path}


def test_a_child_is_started_when_it_is_spawned_after_the_host_was():
    host = make_host()
    host.step([do(lambda core: core.hatch(1))], 0.0)
    assert host.cores[CHILD,].seen == ["start", "settle"]


def test_a_child_of_the_constructor_is_started_once():
    order = []

    class Parent(Puppet):
        def __init__(self, env):
            super().__init__(env)
            self.hatch(1, on_start=lambda core: order.append("child"))

        def start(self):
            order.append("parent")

    Host(Parent, 1, (1, 2), streams(0)).start(0.0)
    assert sorted(order) == ["child", "parent"]


def test_a_child_that_its_parents_start_retires_is_not_started():
    class Parent(Puppet):
        def start(self):
            self.env.retire(CHILD)

        def revive(self, name):
            self.hatch(name[1])

    host = Host(Parent, 1, (1, 2), streams(0))
    host.root.revive(CHILD)
    child = host.cores[CHILD,]
    host.start(0.0)
    assert child.seen == []


def test_a_name_is_used_once():
    host = make_host()
    host.step([do(lambda core: core.hatch(1))], 0.0)
    with pytest.raises(ValueError, match="used once"):
        host.step([do(lambda core: core.hatch(1))], 0.0)
    host = make_host()
    host.step([do(lambda core: core.hatch(1)), retire(1)], 0.0)
    with pytest.raises(ValueError, match="used once"):
        host.step([do(lambda core: core.hatch(1))], 0.0)


def test_depth_is_bounded():
    host = make_host()
    for depth in range(PATH_DEPTH_MAX):
        host.step([do(lambda core: core.hatch(1), *[1] * depth)], 0.0)
    with pytest.raises(ValueError, match="deeper than"):
        host.step([do(lambda core: core.hatch(1), *[1] * PATH_DEPTH_MAX)], 0.0)


def test_retiring_takes_all_below():
    host = make_host()
    host.step([do(lambda core: core.hatch(1)), do(lambda core: core.hatch(2), 1)], 0.0)
    host.step([retire(1)], 0.0)
    assert list(host.cores) == [()]
    late = [Received(2, Do(print), (CHILD, ("child", 2)))] * (PARKED_MAX + 1)
    assert host.step([*late, Fired("t", (CHILD,))], 0.0) == Turn(), "late messages are dropped, not parked, not blamed"


# --- parking ---


def test_messages_for_a_core_to_come_are_handled_right_after_it_is_spawned():
    host = make_host()
    early = [do(lambda core, n=n: core.seen.append(n), 1, sender=2 + n % 2) for n in range(4)]
    assert host.step(early, 0.0) == Turn()

    def act(core):
        core.hatch(1)
        core.seen.append("handler returns")

    turn = host.step([do(act), do(lambda core: core.seen.append("next"), 1)], 0.0)
    assert turn == Turn()
    assert host.cores[CHILD,].seen == ["start", 0, 1, 2, 3, "next", "settle"], "not before the spawning handler is done"


def test_parking_is_bounded_for_each_sender():
    host = make_host()
    flood = [Received(2, Do(print), (("child", n),)) for n in range(PARKED_MAX)]
    assert host.step(flood, 0.0) == Turn()
    assert host.step([flood[0]], 0.0) == Turn(), "one too many is dropped: who is far ahead is no liar"
    act = do(lambda core: core.env.send(3, "hello"), 1, sender=3)
    assert host.step([act], 0.0) == Turn(), "another sender has room"
    host.step([retire(number) for number in range(2, PARKED_MAX)], 0.0)
    assert host.step([flood[0]], 0.0) == Turn(), "what retiring and spawning free can be used again"
    turn = host.step([do(lambda core: core.hatch(1))], 0.0)
    assert turn.sends == [Send((3,), (CHILD,), "hello")]


def test_a_parked_message_of_a_type_that_the_core_does_not_take_is_blamed_when_it_comes():
    host = make_host()
    assert host.step([Received(2, Open(1), (CHILD,))], 0.0) == Turn()
    turn = host.step([do(lambda core: core.hatch(1))], 0.0)
    assert turn.blames == [Blame(2, f"sent a Open to {(CHILD,)}")]


@given(st.lists(st.tuples(st.sampled_from("pcd"), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))))
def test_parking_against_a_plain_list(steps):
    parking, model, limits = Parking(), [], ParkingLimits(messages_max=3)
    for serial, (verb, sender, a, b) in enumerate(steps):
        path = (("a", a), ("b", b))
        if verb == "p":
            room = sum(s == sender for _, s, _ in model) < 3
            assert parking.park(path, sender, serial, (), limits) is room
            if room:
                model.append((path, sender, serial))
        elif verb == "c":
            assert parking.claim(path) == [Received(s, m, p) for p, s, m in model if p == path]
            model = [item for item in model if item[0] != path]
        else:
            parking.claim_below(path[:1])
            model = [item for item in model if item[0][:1] != path[:1]]
        assert len(parking) == len(model)


# --- the memory of what was retired ---


@given(st.permutations(range(20)), st.integers(0, 20))
def test_retired_numbers_merge_into_ranges(numbers, count):
    retired, model = Retired(), set(numbers[:count])
    for number in numbers[:count]:
        retired.add((("slot", number),))
    for number in range(-1, 22):
        assert ((("slot", number),) in retired) is (number in model)
        assert ((("slot", number), ("below", 3)) in retired) is (number in model)
        assert (("other", number),) not in retired
    runs = sum(number - 1 not in model for number in model)
    assert sum(len(ranges) for ranges in retired._ranges.values()) == runs


def test_a_retired_path_stands_for_all_below_it():
    """An epoch retires its rounds and is then retired itself: memory must not grow with the epochs."""
    retired = Retired()
    for epoch in range(100):
        for number in (1, 3, 5):
            retired.add((("epoch", epoch), ("round", number)))
        retired.add((("epoch", epoch),))
        assert (("epoch", epoch), ("round", 3)) in retired
    assert sum(len(ranges) for ranges in retired._ranges.values()) == 1


def test_no_path_is_retired_by_a_longer_one():
    retired = Retired()
    retired.add((("epoch", 1), ("round", 1)))
    assert (("epoch", 1),) not in retired
    assert () not in retired


# --- masks ---


@given(st.sets(st.integers(0, 1023)))
def test_masks_and_nodes_are_two_views_of_a_set(nodes):
    assert nodes_of(mask_of(frozenset(nodes))) == tuple(sorted(nodes))


# --- forks ---

board_messages = st.one_of(
    st.builds(lambda n: Received(2, Open(n)), st.integers(0, 5)),
    st.builds(lambda n: Received(3, Close(n)), st.integers(0, 5)),
    st.builds(lambda n, v: Received(2, Put(v), (("cell", n),)), st.integers(0, 5), st.integers(0, 9)),
)
board_steps = st.lists(st.lists(board_messages, max_size=4), max_size=12)


@given(board_steps, board_steps, board_steps)
def test_a_fork_gives_equal_turns_and_leaves_the_original_alone(before, after, elsewhere):
    host = Host(Board, 1, (1, 2, 3), streams(5))
    host.start(0.0)
    for now, inputs in enumerate(before):
        host.step(inputs, now)
    fork, other = host.fork(), host.fork()
    for inputs in elsewhere:
        other.step(inputs, 50.0)
    turns = [fork.step(inputs, now) for now, inputs in enumerate(after, 60)]
    assert turns == [host.step(inputs, now) for now, inputs in enumerate(after, 60)]
    assert state_of(fork) == state_of(host)


def test_an_upcall_that_a_fork_would_share_is_refused():
    host = make_host()

    def act(core):
        core.env.spawn(CHILD, Puppet, upcall=lambda value: core.heard(value))

    with pytest.raises(TypeError, match="closure"):
        host.step([do(act)], 0.0)
    host.step([do(lambda core: core.env.spawn(("child", 2), Puppet, upcall=partial(core.heard)))], 0.0)
    fork = host.fork()
    fork.step([do(lambda core: core.env.deliver("news"), 2)], 0.0)
    assert ("heard", "news") in fork.root.seen
    assert ("heard", "news") not in host.root.seen
