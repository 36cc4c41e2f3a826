"""The durability rule: what a Turn says leaves after its records and those of every earlier Turn, in order."""

from hypothesis import given
from hypothesis import strategies as st

from quorate.kernel import Barrier, Job, Received, Record, Send, Turn

from tests.kernel.cores import Puppet, do
from tests.kernel.machine import OneNode


def say(word: str) -> Turn:
    return Turn(sends=[Send((2,), (), word)])


def test_without_records_nothing_holds_a_turn_back():
    barrier = Barrier()
    assert barrier.add(say("a"), None)
    assert len(barrier) == 0


def test_a_turn_waits_for_its_own_records():
    barrier = Barrier()
    turn = say("a")
    assert not barrier.add(turn, 1)
    assert barrier.durable(1) == [turn]
    assert barrier.durable(1) == []


def test_a_turn_without_records_waits_for_earlier_ones():
    barrier = Barrier()
    first, second, third = say("a"), say("b"), say("c")
    assert not barrier.add(first, 1)
    assert not barrier.add(second, None)
    assert not barrier.add(third, 2)
    assert barrier.durable(1) == [first, second]
    assert barrier.durable(2) == [third]
    assert barrier.add(say("d"), None)


def test_outputs_and_jobs_wait_as_sends_do_and_a_silent_turn_is_not_kept():
    barrier = Barrier()
    output, job = Turn(outputs=["x"]), Turn(jobs=[Job((), "j", 1)])
    barrier.add(output, 1)
    barrier.add(job, None)
    barrier.add(Turn(records=[Record((), 1)]), 2)
    assert len(barrier) == 2
    assert barrier.durable(2) == [output, job]


def test_records_that_are_durable_before_the_turn_comes_hold_nothing_back():
    barrier = Barrier()
    assert barrier.durable(1) == []
    assert barrier.add(say("a"), 1), "or it would wait for a sync that never comes, and the next would overtake it"
    assert barrier.add(say("b"), None)


# A step of the interleaving: a Turn with records whose write is durable at once (a fast disk), one with records,
# one without, or the disk catching up with all but the last few writes.
interleavings = st.lists(st.one_of(st.sampled_from(["fast", "records", "plain"]), st.integers(0, 3)), max_size=60)


@given(interleavings)
def test_whatever_the_interleaving_turns_leave_in_order_and_never_before_their_records(steps):
    barrier = Barrier()
    written = durable = 0
    needs: list[int] = []  # by Turn, the sequence that must be durable before it leaves
    left: list[int] = []

    def leave(turns):
        for turn in turns:
            number = turn.sends[0].message
            assert needs[number] <= durable
            left.append(number)

    for step in steps:
        if isinstance(step, int):
            durable = max(durable, written - step)
            leave(barrier.durable(durable))
            continue
        if step != "plain":
            written += 1
        if step == "fast":
            durable = written
            leave(barrier.durable(durable))
        needs.append(written)
        turn = Turn(sends=[Send((1,), (), len(needs) - 1)])
        if barrier.add(turn, None if step == "plain" else written):
            leave([turn])
    durable = written
    leave(barrier.durable(durable))
    assert left == list(range(len(needs))), "each left once, in order"


def test_send_now_never_waits():
    machine = OneNode(Puppet, 1, (1, 2))
    machine.step(do(lambda core: (core.env.persist("vote"), core.env.send_now(2, "early"), core.env.send(2, "late"))))
    assert [send.message for send in machine.sent] == ["early"]
    machine.sync()
    assert [send.message for send in machine.sent] == ["early", "late"]


def test_a_message_to_oneself_passes_the_barrier():
    machine = OneNode(Puppet, 1, (1, 2))
    turn = machine.step(do(lambda core: (core.env.persist("vote"), core.env.send(1, "ack"), core.env.broadcast("all"))))
    assert turn.sends == [Send((1,), (), "ack"), Send((1, 2), (), "all")]
    assert machine.sent == []
    machine.sync()
    assert machine.sent == turn.sends


def test_the_records_of_a_step_are_one_write():
    """Two inputs, three records: a crash keeps all or none."""
    machine = OneNode(Puppet, 1, (1, 2))
    persist_two = do(lambda core: (core.env.persist("a"), core.env.persist("b")))
    machine.step(persist_two, do(lambda core: core.env.persist("c")))
    assert machine.journal == [[Record((), "a"), Record((), "b"), Record((), "c")]]
    machine.step(do(lambda core: core.env.persist("d")), Received(2, "junk"))
    machine.crash(lucky=1)
    assert [record.value for records in machine.journal for record in records] == ["a", "b", "c"]
