"""Recovery by records and by inputs: what comes back is what was, and coming back has no effects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.kernel import Host, Received, Record, Turn
from quorate.kernel.host import Stepped
from quorate.sim.chance import streams

from tests.kernel.cores import Board, Close, Open, Puppet, Put, do, state_of
from tests.kernel.machine import OneNode
from tests.kernel.test_tree import board_steps

PEERS = (1, 2, 3)


def make_board(by_inputs: bool = False) -> Host:
    return Host(Board, 1, PEERS, streams(5), by_inputs=by_inputs)


def restored(records: list[Record], by_inputs: bool = False) -> Host:
    host = make_board(by_inputs)
    for record in records:
        host.restore(record)
    return host


def run(host: Host, steps, first_now: float = 1.0) -> list[Turn]:
    return [host.step(inputs, first_now + number) for number, inputs in enumerate(steps)]


def records_of(*turns: Turn) -> list[Record]:
    return [record for turn in turns for record in turn.records]


# --- by records ---


@given(board_steps)
def test_restoring_all_records_gives_the_same_state(steps):
    host = make_board()
    turns = [host.start(0.0), *run(host, steps)]
    assert state_of(restored(records_of(*turns))) == state_of(host)


@given(board_steps, board_steps)
def test_a_checkpoint_stands_for_all_records_before_it(before, after):
    host = make_board()
    host.start(0.0)
    run(host, before)
    checkpoint = host.checkpoint()
    assert state_of(restored(checkpoint)) == state_of(host)
    turns = run(host, after)
    assert state_of(restored(checkpoint + records_of(*turns))) == state_of(host)


def test_children_are_revived_before_their_records_and_started_with_the_rest():
    class Parent(Puppet):
        def revive(self, name):
            self.seen.append(("revive", name))
            self.env.spawn(name, Parent, upcall=self.heard)

        def restore(self, record):
            self.seen.append(("restore", record))
            self.env.deliver(record)

    host = Host(Parent, 1, PEERS, streams(0))
    path = (("child", 1), ("child", 2))
    host.restore(Record(path, "a"))
    host.restore(Record(path, "b"))
    assert host.root.seen == [("revive", ("child", 1))]
    assert host.cores[path[:1]].seen == [("revive", ("child", 2)), ("heard", "a"), ("heard", "b")]
    assert host.cores[path].seen == [("restore", "a"), ("restore", "b")]
    assert host.start(0.0) == Turn(), "what restoring made cores do is muted"
    assert all("start" in core.seen for core in host.cores.values())


def test_a_core_without_children_refuses_a_record_of_one():
    with pytest.raises(NotImplementedError, match="no child"):
        Host(Puppet, 1, PEERS, streams(0)).restore(Record((("cell", 1),), "x"))


# --- by inputs ---


@given(board_steps, board_steps, st.booleans())
def test_a_replayed_host_gives_equal_turns_afterwards(before, after, restart):
    host = make_board(by_inputs=True)
    turns = [host.start(0.0), *run(host, before)]
    if restart:  # a journal that spans two lives, each with its own start
        host = restored(records_of(*turns), by_inputs=True)
        turns += [host.start(100.0), *run(host, before, 101.0)]
    replayed = restored(records_of(*turns), by_inputs=True)
    assert state_of(replayed) == state_of(host)
    assert replayed.root.lottery == host.root.lottery, "the start is replayed as well, with its choices"
    assert run(replayed, after, 200.0) == run(host, after, 200.0)


def test_each_step_persists_its_inputs_and_nothing_else():
    host = make_board(by_inputs=True)
    assert host.start(7.0).records == [Record((), Stepped(7.0, (), start=True))]
    inputs = [Received(2, Open(1)), Received(2, Put(3), (("cell", 1),))]
    turn = host.step(inputs, 8.0)
    assert turn.records == [Record((), Stepped(8.0, tuple(inputs)))]
    assert turn.sends, "other effects are as ever"
    assert host.checkpoint() == []


def test_replay_is_muted():
    host = Host(Puppet, 1, PEERS, streams(0), by_inputs=True)
    act = do(lambda core: (core.env.send(2, "a"), core.env.set_timer("t", 1.0), core.env.deliver("b")))
    for record in [Record((), Stepped(0.0, (), start=True)), Record((), Stepped(1.0, (act,)))]:
        host.restore(record)
    assert host.step([], 2.0) == Turn()


def test_what_was_not_durable_never_happened():
    """The machine loses the step that was not synced; nothing of it had left."""
    machine = OneNode(Board, 1, PEERS, by_inputs=True)
    machine.step(Received(2, Open(1)))
    machine.sync()
    state = state_of(machine.host)
    machine.step(Received(2, Put(3), (("cell", 1),)), Received(2, Close(1)))
    assert state_of(machine.host) != state
    assert machine.sent == []
    machine.crash()
    machine.boot()
    assert state_of(machine.host) == state
