"""Subtrees by inputs, a step at a time: what is journaled for them, and what is not done again in a replay."""

from typing import Any

import pytest

from quorate.kernel import (
    Core,
    Done,
    Fired,
    Handed,
    Host,
    Known,
    Met,
    Parted,
    Path,
    Received,
    Record,
    Settled,
    Spawned,
    Stalled,
    Started,
    Stepped,
    Turn,
)
from quorate.sim.chance import streams

from tests.kernel.trees import (
    Act,
    Clerk,
    Deliver,
    Desk,
    Draw,
    Hand,
    Later,
    Look,
    Meet,
    Noise,
    Office,
    Opened,
    Part,
    Retire,
    Say,
    Shut,
    Spawn,
    Teller,
)

ROOM = ("desk", 1)
DESK: Path = (ROOM,)
CLERK: Path = (ROOM, ("clerk", 0))


def make(core: Any = Office, *, life: str = "first", **options: Any) -> Host:
    return Host(core, 1, (1, 2, 3), streams(life), **options)


def started(core: Any = Office, **options: Any) -> Host:
    host = make(core, **options)
    host.start(0.0)
    return host


def say(*verbs: Any, number: int = 1, to: Path = ()) -> Received:
    return Received(2, Say(number, verbs), to)


def restored(records: Any, core: Any = Office, **options: Any) -> Host:
    host = make(core, life="second", **options)
    for record in records:
        host.restore(record, 50.0)
    return host


def inputs_of(turn: Turn, path: Path = DESK) -> list[Any]:
    return [item for record in turn.records if record.path == path for item in getattr(record.value, "inputs", ())]


def log_of(host: Host, path: Path = DESK) -> list[Any]:
    core = host.cores[path]
    assert isinstance(core, Teller)
    return core.log


def heard_of(host: Host, word: Any, path: Path = DESK) -> list[Any]:
    """The entries of a log that begin with a word."""
    return [entry for entry in log_of(host, path) if isinstance(entry, tuple) and entry[0] == word]


# --- what is journaled ---


def test_what_its_cores_saw_when_made_is_recorded_first_and_their_inputs_last() -> None:
    host = started()
    turn = host.step([say(Spawn(ROOM, Say(7)))], 1.5, 9)
    spawned = turn.records[0].value
    assert turn.records == [
        Record(DESK, Spawned(spawned.seed, (1, 2, 3), 1.5, 9)),
        Record((), Opened(ROOM, Say(7))),
        Record(DESK, Stepped(1.5, (Started(),), wall_ns=9)),
    ]
    assert len(spawned.seed) == 16
    assert not turn.lazy


def test_all_that_comes_into_it_is_journaled_and_nothing_else() -> None:
    host = started()
    host.step([say(Spawn(ROOM))], 1.0)
    mine = [say(Spawn(("clerk", 0)), to=DESK), Fired("t", CLERK), Done("w", 3, DESK), say(number=4, to=CLERK)]
    turn = host.step([say(), mine[0], Fired("t"), *mine[1:]], 2.0)
    assert turn.records == [Record(DESK, Stepped(2.0, tuple(mine)))]
    assert host.step([say(), Fired("t")], 3.0).records == ()


def test_what_the_parent_hands_down_is_an_input_and_what_goes_on_inside_is_none() -> None:
    host = started()
    host.step([say(Spawn(ROOM, Say(0, (Spawn(("clerk", 0)),))))], 1.0)
    word = Say(5, (Hand(("clerk", 0), Say(6, (Deliver(Say(7)),))),))
    turn = host.step([say(Hand(ROOM, word))], 2.0)
    assert inputs_of(turn) == [Handed(word, DESK)]
    assert log_of(host, CLERK)[-2:] == [("handed", 6), "settle"]
    assert log_of(host)[-3:] == [("handed", 5), ("heard", ("clerk", 0), 7), "settle"]


def test_a_mark_stands_where_its_cores_settled_before_more_was_handed_down() -> None:
    host = started()
    host.step([say(Spawn(ROOM))], 1.0)
    late = Say(2)
    turn = host.step([say(Deliver(Say(1, (Hand(ROOM, late),))), to=DESK)], 2.0)
    assert inputs_of(turn) == [turn.records[0].value.inputs[0], Handed(late, DESK)], "handed down before it settled"
    turn = host.step([say(Later(Say(0, (Deliver(Say(1, (Hand(ROOM, late),))),))), to=DESK)], 3.0)
    assert inputs_of(turn)[1:] == [Settled(), Handed(late, DESK)]
    turn = host.step([say(Later(Say(1, (Hand(ROOM, late),)))), say(to=DESK)], 4.0)
    assert inputs_of(turn)[1:] == [Settled(), Handed(late, DESK)], "the parent handed it down when it settled itself"


def test_what_waited_for_it_is_an_input_when_it_comes() -> None:
    host = started()
    early = [say(Draw(), number=3, to=DESK), say(Draw(), number=4, to=CLERK)]
    assert host.step(early, 1.0).records == ()
    turn = host.step([say(Spawn(ROOM, Say(0)))], 2.0)
    assert inputs_of(turn) == [Started(), *early]
    again = restored(turn.records)
    again.start(60.0)
    for each in (host, again):  # the message for the clerk waits in both
        each.step([say(Spawn(("clerk", 0)), to=DESK)], 70.0)
    assert log_of(again, CLERK) == log_of(host, CLERK)
    assert ("say", 2, 4) in log_of(host, CLERK)


def test_its_cores_hear_together_and_once_what_all_cores_hear() -> None:
    host = started()
    host.step([say(Spawn(ROOM, Say(0, (Spawn(("clerk", 0)),))))], 1.0)
    turn = host.step([Stalled("disk full")], 2.0)
    assert inputs_of(turn)[0] == Stalled("disk full")
    assert inputs_of(turn).count(Stalled("disk full")) == 1
    for path in (DESK, CLERK):
        assert heard_of(host, "stalled", path) == [("stalled", "disk full")]


def test_a_step_whose_inputs_are_journaled_is_not_lazy() -> None:
    class Chain(Office):
        def on_say(self, sender: int, message: Say) -> None:
            self.env.note(Opened(("block", 1), None))
            super().on_say(sender, message)

    host = started(Chain)
    assert not host.step([say(Spawn(ROOM))], 1.0).lazy
    assert host.step([say()], 2.0).lazy
    assert not host.step([say(), say(to=DESK)], 3.0).lazy


def test_a_stranger_and_a_message_that_it_does_not_take_are_blamed_as_ever() -> None:
    host = started()
    host.step([say(Spawn(ROOM))], 1.0)
    turn = host.step([Received(9, Say(0), DESK), Received(2, Noise(), DESK)], 2.0)
    assert [(blame.node, blame.why) for blame in turn.blames] == [
        (9, "is not a member of the group"),
        (2, f"sent a Noise to {DESK}"),
    ]
    assert inputs_of(turn) == [Received(2, Noise(), DESK)]


# --- retiring ---


def test_what_was_journaled_goes_with_the_subtree() -> None:
    host = started()
    records = list(host.step([say(Spawn(ROOM), Spawn(("desk", 0)))], 1.0).records)
    assert [record.path for record in host.checkpoint() if record.path] == [(("desk", 1),), (("desk", 0),)] * 2
    turn = host.step([say(to=DESK), say(Retire(ROOM))], 2.0)
    assert turn.records == [Record((), Shut(ROOM))], "not even the inputs of its last step"
    assert {record.path for record in host.checkpoint()} == {(), (("desk", 0),)}
    again = restored([*records, *turn.records, Record(DESK, Stepped(3.0, ()))])
    assert DESK not in again.cores, "what the journal still says of it is stale"
    assert again.start(60.0).records != ()


def test_one_that_is_spawned_and_retired_in_one_step_leaves_nothing() -> None:
    host = started()
    turn = host.step([say(Spawn(ROOM), Retire(ROOM))], 1.0)
    assert turn.records == [Record((), Opened(ROOM, None)), Record((), Shut(ROOM))]
    assert restored(turn.records).start(60.0).records == ()


# --- coming back ---


def test_a_replay_has_no_effects_and_the_parent_hears_nothing_twice() -> None:
    host = started()
    busy = Say(1, (Act(), Deliver(Say(2, (Act(), Spawn(("desk", 0)))))))
    turns = [host.step([say(Spawn(ROOM, busy))], 1.0), host.step([Received(2, busy, DESK), Fired("t", DESK)], 2.0)]
    again = restored([record for turn in turns for record in turn.records])
    assert heard_of(again, "heard", ()) == []
    assert again.step([], 60.0) == Turn()
    assert log_of(again) == log_of(host)


def test_what_a_parent_hands_down_while_it_is_restored_has_come_already() -> None:
    class Prompt(Office):
        def open(self, name: Any, say: Any) -> None:
            super().open(name, say)
            self.env.hand(name, Say(8))

        def restore(self, record: Any) -> None:
            super().restore(record)
            self.env.hand(record.name, Say(8))

    host = started(Prompt)
    turn = host.step([say(Spawn(ROOM))], 1.0)
    again = restored(turn.records, Prompt)
    assert log_of(again) == log_of(host)
    assert log_of(host).count(("handed", 8)) == 1


def test_chance_is_that_of_its_seed_whatever_the_life() -> None:
    host = started()
    other = ("desk", 0)
    turns = [host.step([say(*(Spawn(name, Say(0, (Draw(),))) for name in (ROOM, other)))], 1.0)]
    seeds = {record.value.seed for record in turns[0].records if isinstance(record.value, Spawned)}
    assert len(seeds) == 2
    again = restored(turns[0].records)
    for each in (host, again):
        each.step([say(Draw(), to=DESK)], 70.0)
    draws = [entry for entry in log_of(host) if isinstance(entry, int)]
    assert draws == [entry for entry in log_of(again) if isinstance(entry, int)]
    assert len(set(draws)) == 3
    assert restored([]).start(0.0) == Turn()


def test_a_parent_that_records_nothing_of_it_is_asked_to_revive_it() -> None:
    class Forgetful(Office):
        def open(self, name: Any, say: Any) -> None:
            super()._open(name, say)

        def revive(self, name: Any) -> None:
            super()._open(name, Say(0, (Draw(), Look())))

    host = started(Forgetful)
    turn = host.step([say(Spawn(ROOM, Say(0, (Draw(), Look()))))], 1.0, 9)
    assert [type(record.value) for record in turn.records] == [Spawned, Stepped]
    assert restored(turn.records, Forgetful).cores[DESK].log == log_of(host)


def test_its_constructor_sees_what_it_saw_the_first_time_though_the_parent_makes_it_later() -> None:
    host = started()
    turn = host.step([say(Meet(5), Spawn(ROOM, Say(0, (Look(), Draw()))), Part(3))], 1.0, 9)
    log = log_of(host)
    assert log[1] == (1.0, 9, (1, 2, 3, 5), (2, 3, 5))
    assert restored(host.checkpoint()).cores[DESK].log == log
    assert restored(turn.records).cores[DESK].log == log


def test_it_follows_the_roster_and_in_a_replay_what_the_roster_was() -> None:
    host = started()
    host.step([say(Spawn(ROOM))], 1.0)
    turn = host.step([say(Look(), to=DESK), say(Meet(5)), say(Look(), to=DESK)], 2.0)
    assert inputs_of(turn)[1] == Known((1, 2, 3, 5))
    looks = [entry[2] for entry in log_of(host) if len(entry) == 4]
    assert looks == [(1, 2, 3), (1, 2, 3, 5)]
    host.step([say(Part(5)), say(Part(3))], 3.0)
    again = restored(host.checkpoint())
    assert log_of(again) == log_of(host)
    assert again.cores[DESK].env.peers == again.root.env.peers == (1, 2)


def test_a_roster_that_was_given_otherwise_at_a_restart_is_known_from_then_on() -> None:
    host = started()
    records = host.step([say(Spawn(ROOM, Say(0, (Look(),))))], 1.0).records
    again = Host(Office, 1, (1, 2, 3, 4), streams(0))
    for record in records:
        again.restore(record)
    assert again.cores[DESK].env.peers == (1, 2, 3)
    turn = again.start(60.0)
    assert inputs_of(turn)[:2] == [Known((1, 2, 3, 4)), Started()]
    assert log_of(again)[-5] == (60.0, 0, (1, 2, 3, 4), (2, 3, 4))


def test_a_stall_that_the_process_did_not_outlive_is_over() -> None:
    """The journal of the new life takes records; nobody else tells a core that believes the old one's."""
    host = started()
    records = list(host.step([say(Spawn(ROOM))], 1.0).records)
    records += host.step([Stalled("disk full")], 2.0).records
    again = restored(records)
    assert ("stalled", "disk full") in log_of(again)
    assert ("stalled", None) not in log_of(again)
    records += again.start(60.0).records
    assert ("stalled", None) in log_of(again)
    assert restored(records).cores[DESK].log == log_of(again)
    whole = started(by_inputs=True)
    turns = [make(by_inputs=True).start(0.0), whole.step([Stalled("disk full")], 1.0)]
    again = restored([record for turn in turns for record in turn.records], by_inputs=True)
    again.start(60.0)
    assert heard_of(again, "stalled", ()) == [("stalled", "disk full"), ("stalled", None)]


def test_links_that_the_process_did_not_outlive_are_gone() -> None:
    host = Host(Office, 0, (), streams(0), is_open=True)
    host.start(0.0)
    host.step([Met(2, b"k", "a:1", True), say(Spawn(ROOM))], 1.0)
    host.step([Met(3, b"k", "a:2", False)], 2.0)
    again = Host(Office, 0, (), streams(0), is_open=True)
    for record in host.checkpoint():
        again.restore(record)
    assert again.cores[DESK].env.peers == (2, 3)
    assert again.root.env.peers == (), "it was told of no links in this life"
    turn = again.start(60.0)
    assert again.cores[DESK].env.peers == ()
    why = "this node was started again"
    assert heard_of(again, "parted") == [("parted", 2, why), ("parted", 3, why)]
    assert inputs_of(turn)[0] == Started(), "that follows from the start, and is not journaled"
    again.step([Met(2, b"k", "a:1", True), Parted(2, "bye")], 61.0)
    assert again.cores[DESK].env.peers == ()


def test_the_root_is_not_told_again_of_a_stranger_that_misbehaved_inside() -> None:
    host = Host(Office, 0, (), streams(0), is_open=True)
    host.start(0.0)
    records = list(host.step([Met(2, b"k", "a:1", True), say(Spawn(ROOM))], 1.0).records)
    records += host.step([Received(2, Noise(), DESK)], 2.0).records
    again = Host(Office, 0, (), streams(0), is_open=True)
    for record in records:
        again.restore(record)
    assert heard_of(host, "misbehaved", ()) == [("misbehaved", 2, f"sent a Noise to {DESK}")]
    assert heard_of(again, "misbehaved", ()) == []


def test_what_the_root_hands_down_because_of_a_stranger_inside_comes_after_what_goes_on_there() -> None:
    """The root is told in the middle of it; in a replay it is not there at all."""
    host = Host(Office, 0, (), streams(0), is_open=True)
    host.start(0.0)
    records = list(host.step([Met(2, b"k", "a:1", True), say(Spawn(ROOM))], 1.0).records)
    early = [Received(2, Noise(), CLERK), say(Deliver(Say(9)), to=CLERK)]
    turn = host.step([*early, say(Spawn(("clerk", 0)), to=DESK)], 2.0)
    assert [entry[-1] for entry in log_of(host)[-4:-1]] == [1, 9, -3], "told to spawn, heard its clerk, handed a value"
    again = Host(Office, 0, (), streams(0), is_open=True)
    for record in [*records, *turn.records]:
        again.restore(record)
    assert log_of(again) == log_of(host)


def test_what_a_member_said_that_has_left_does_not_wait_any_longer() -> None:
    host = started()
    records = list(host.step([say(Spawn(ROOM)), Received(3, Say(8), CLERK), say(Part(3))], 1.0).records)
    again = restored(records)
    again.start(60.0)
    for each in (host, again):
        each.step([say(Meet(3)), say(Spawn(("clerk", 0)), to=DESK)], 70.0)
        assert heard_of(each, "say", CLERK) == []
    assert log_of(again, CLERK) == log_of(host, CLERK)


# --- what is refused ---


def test_a_subtree_leaves_a_closed_roster_to_its_parent() -> None:
    class Rebel(Desk):
        def roster(self, verb: Any) -> None:
            self.env.meet("host:9", node=9)

    class Rebels(Office):
        kinds = {"desk": Rebel}

    host = started(Rebels)
    with pytest.raises(AssertionError, match="its parent has the roster"):
        host.step([say(Spawn(ROOM, Say(0, (Meet(9),))))], 1.0)


def test_it_is_spawned_as_the_class_itself() -> None:
    class Wrapping(Core):
        def start(self) -> None:
            self.env.spawn(ROOM, lambda env: Desk(env), upcall=None)

    with pytest.raises(AssertionError, match="spawn the class itself"):
        make(Wrapping).start(0.0)


def test_inputs_of_a_core_that_is_recovered_by_records_are_refused() -> None:
    with pytest.raises(ValueError, match="recovered by records"):
        restored([Record((), Stepped(1.0, ()))])


class Fixed(Office):
    """Has its desk from the beginning."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self._open(ROOM, Say(0, (Look(),)))


def test_one_that_its_parents_constructor_makes_has_its_chance_from_the_first_life() -> None:
    host = make(Fixed)
    records = list(host.start(1.0).records)
    records += host.step([say(Draw(), to=DESK)], 2.0).records
    again = restored(records, Fixed)
    records += again.start(60.0).records
    for each in (again, restored(records, Fixed)):
        assert log_of(each)[: len(log_of(host))] == log_of(host)


def test_one_that_its_parents_constructor_makes_has_the_peers_of_the_first_life_in_a_replay() -> None:
    host = make(Fixed)
    records = [*host.start(1.0).records, *host.step([say(Look(), to=DESK)], 2.0).records]
    again = Host(Fixed, 1, (1, 2, 3, 4), streams(0))
    for record in records:
        again.restore(record)
    assert heard_of(again, 2.0) == [(2.0, 0, (1, 2, 3), (2, 3))]
    assert again.start(60.0).records[0].value.inputs[0] == Known((1, 2, 3, 4))


def test_one_that_draws_before_its_parents_constructor_returns_is_refused_when_it_comes_back() -> None:
    class Hasty(Office):
        def __init__(self, env: Any) -> None:
            super().__init__(env)
            self._open(ROOM, Say(0, (Draw(),)))

    records = make(Hasty).start(1.0).records
    with pytest.raises(ValueError, match="drew from chance before its start"):
        restored(records, Hasty)


def test_where_the_whole_host_is_recovered_by_inputs_no_subtree_is_apart() -> None:
    host = make(Fixed, by_inputs=True)
    assert host.start(1.0).records == [Record((), Stepped(1.0, (), start=True))]
    assert host.cores[DESK].env.peers is host.root.env.peers
    item = say(Spawn(("desk", 0)), Hand(ROOM, Say(4)), number=3)
    assert host.step([item], 2.0).records == [Record((), Stepped(2.0, (item,)))]
    assert isinstance(host.cores[(("desk", 0),)], Desk)
    assert Clerk.by_inputs is False
