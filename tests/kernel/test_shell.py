"""The Shell: what is done with a Turn and in which order, and that each planted fault shows in it."""

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import pytest

from quorate.kernel import (
    ROOT,
    App,
    Blame,
    Host,
    Job,
    Machine,
    Meet,
    Output,
    Path,
    Record,
    Requester,
    RosterChange,
    Send,
    Shell,
    Timer,
    Turn,
)
from quorate.sim.chance import streams
from quorate.sim.shells import EmptyCheckpoint, JobsFirst, NoBarrier, OutOfOrder, Overtaking

from tests.kernel.cores import Puppet, do

LEFT: Path = (("left", 1),)
RIGHT: Path = (("right", 1),)
BELOW: Path = (*LEFT, ("below", 1))
Event = tuple[Any, ...]


class Load(str):
    """An output of this type names a snapshot."""


class Recorder(Machine, App):
    """A Machine and the App above it, which list all that they are asked for in one line of ``events``."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.written = 0
        self.checkpoint_due = False
        self.pauses_after: int | None = None
        """How many things go up before a pause; None: there is none."""

    def add(self, *event: Any) -> None:
        self.events.append(event)

    def take(self) -> list[Event]:
        """What happened since the last time."""
        events, self.events = self.events, []
        return events

    # --- Machine ---

    def send(self, sends: Sequence[Send]) -> None:
        for send in sends:
            self.add("send", send.message)

    def append(self, records: Sequence[Record]) -> int:
        return self._write("append", records)

    def replace(self, state: Sequence[Record], records: Sequence[Record]) -> int:
        return self._write("replace", state)

    def _write(self, how: str, records: Sequence[Record]) -> int:
        self.add(how, *(record.value for record in records))
        self.written += 1
        return self.written

    def is_checkpoint_due(self) -> bool:
        return self.checkpoint_due

    def set_timers(self, timers: Sequence[Timer]) -> None:
        for timer in timers:
            self.add("timer", timer.key)

    def change_roster(self, change: RosterChange) -> None:
        self.add("roster", change)

    def blame(self, blame: Blame) -> None:
        self.add("blame", blame.node)

    def begin(self, job: Job) -> None:
        self.add("job", job.work)

    def load(self, value: Any, path: Path) -> None:
        self.add("load", value, path)

    def pauses(self) -> bool:
        if self.pauses_after is None:
            return False
        self.pauses_after -= 1
        return self.pauses_after <= 0

    def holds(self, turn: Turn) -> None:
        self.add("holds")

    def releases(self, turn: Turn, was_held: bool) -> None:
        self.add("releases", was_held)

    # --- App ---

    def output(self, value: Any, path: Path = ROOT) -> None:
        self.add("output", value, path)

    def settle(self) -> None:
        self.add("settle")

    def request(self, client: Requester, request: Any) -> None:
        raise NotImplementedError

    def snapshot(self, path: Path = ROOT) -> Callable[[BinaryIO], None]:
        raise NotImplementedError

    def restore(self, file: BinaryIO, path: Path = ROOT) -> Callable[[], None]:
        raise NotImplementedError


class Bench:
    """A Shell around a Puppet."""

    def __init__(self, kind: type[Shell] = Shell, core: Any = Puppet, recorder: Recorder | None = None) -> None:
        self.recorder = recorder or Recorder()
        self.host = Host(core, 1, (1, 2, 3), streams(0))
        self.shell = kind(self.host, self.recorder, self.recorder, Load)
        self.shell.start(0.0)
        self.take()

    def take(self) -> list[Event]:
        return self.recorder.take()

    def act(self, **effects: Any) -> list[Event]:
        """What a Turn brings about at once."""
        self.shell.act(Turn(**effects))
        return self.take()

    def durable(self, sequence: int) -> list[Event]:
        self.shell.durable(sequence)
        return self.take()

    def loaded(self, path: Path = ROOT) -> list[Event]:
        self.shell.loaded(lambda: self.recorder.add("adopts", path), path)
        return self.take()


def say(word: str) -> list[Send]:
    return [Send((2,), (), word)]


def record(word: str) -> list[Record]:
    return [Record((), word)]


def job(word: str, path: Path = ROOT) -> Job:
    return Job(path, "key", word)


FULL: dict[str, Any] = {
    "early": say("early"),
    "at_once": [job("at once"), "said"],
    "timers": [Timer((), "t", 1.0), Timer((), "u", None)],
    "roster": [Meet("host:4", node=4)],
    "blames": [Blame(3, "lied")],
    "sends": say("late"),
    "outputs": ["out"],
    "jobs": [job("work")],
}
AT_ONCE = [("send", "early"), ("timer", "t"), ("timer", "u"), ("roster", Meet("host:4", node=4)), ("blame", 3)]
AT_ONCE += [("job", "at once"), ("output", "said", ()), ("settle",)]
BEHIND = [("send", "late"), ("output", "out", ()), ("job", "work"), ("settle",)]

# --- the order of effects ---


def test_a_turn_without_records_is_done_in_order_at_once() -> None:
    assert Bench().act(**FULL) == [*AT_ONCE, ("releases", False), *BEHIND]


def test_what_rests_on_records_waits_and_the_rest_does_not() -> None:
    bench = Bench()
    events = bench.act(**FULL, records=record("r"))
    assert events == [AT_ONCE[0], ("append", "r"), *AT_ONCE[1:], ("holds",)], "written before the rest is done"
    assert bench.durable(0) == []
    assert bench.durable(1) == [("releases", True), *BEHIND]
    assert bench.durable(1) == []


def test_what_rests_on_nothing_overtakes_what_is_held_but_not_a_snapshot() -> None:
    bench = Bench()
    bench.act(records=record("vote"), outputs=["decided"])
    assert bench.act(at_once=["checked"]) == [("output", "checked", ()), ("settle",)]
    assert bench.durable(1) == [("releases", True), ("output", "decided", ()), ("settle",)]
    bench.act(outputs=[Load("s")])
    assert bench.act(at_once=["checked"]) == [("settle",)]
    assert bench.loaded() == [("adopts", ()), ("output", "checked", ()), ("settle",)]


def test_turns_leave_in_order() -> None:
    bench = Bench()
    bench.act(records=record("a"), sends=say("a"))
    assert bench.act(sends=say("b")) == [("holds",)], "what it says may rest on what the first recorded"
    bench.act(records=record("c"), sends=say("c"))
    assert bench.durable(1) == [("releases", True), ("send", "a"), ("releases", True), ("send", "b")]
    assert bench.durable(2) == [("releases", True), ("send", "c")]


def test_a_turn_that_says_nothing_is_not_held() -> None:
    bench = Bench()
    assert bench.act(records=record("a"), timers=FULL["timers"]) == [("append", "a"), *AT_ONCE[1:3]]
    assert bench.durable(1) == []


def test_an_app_settles_once_a_turn_and_only_after_outputs_or_jobs() -> None:
    bench = Bench()
    assert ("settle",) not in bench.act(sends=say("a"))
    events = bench.act(outputs=["a", "b"], jobs=[job("c"), job("d")])
    assert events.count(("settle",)) == 1
    assert events[-1] == ("settle",)


def test_outputs_of_other_cores_go_up_with_their_paths() -> None:
    events = Bench().act(outputs=["a", Output(LEFT, "b"), Output(BELOW, "c")])
    assert events[1:-1] == [("output", "a", ()), ("output", "b", LEFT), ("output", "c", BELOW)]


# --- lazy Turns ---


def test_nothing_waits_for_a_lazy_turn() -> None:
    bench = Bench()
    assert bench.act(records=record("block"), sends=say("a"), lazy=True) == [
        ("append", "block"),
        ("releases", False),
        ("send", "a"),
    ]
    assert bench.act(sends=say("b")) == [("releases", False), ("send", "b")], "nor for one before it"


def test_a_lazy_turn_waits_for_strict_ones_before_it() -> None:
    bench = Bench()
    bench.act(records=record("vote"), sends=say("a"))
    assert bench.act(records=record("block"), sends=say("b"), lazy=True)[-1] == ("holds",)
    assert [event[1] for event in bench.durable(1) if event[0] == "send"] == ["a", "b"], "but not for its own record"


def test_notes_make_a_turn_lazy_and_one_strict_record_among_them_does_not() -> None:
    bench = Bench()
    step = bench.shell.step
    lazy = step([do(lambda core: (core.env.note("a"), core.env.send(2, "a")))], 1.0)
    assert (lazy.records, lazy.lazy) == ([Record((), "a")], True)
    assert ("send", "a") in bench.take()
    mixed = step([do(lambda core: (core.env.note("b"), core.env.persist("c"), core.env.note("d")))], 2.0)
    assert [each.value for each in mixed.records] == ["b", "c", "d"], "in one order"
    assert not mixed.lazy
    assert step([do(lambda core: core.env.note("e"))], 3.0).lazy, "the next is lazy again"
    assert not step([do(lambda core: core.env.send(2, "f"))], 4.0).lazy
    assert ("send", "f") not in bench.take()
    assert ("send", "f") in bench.durable(2)


# --- the roster and blame, as a core asks for them ---


def test_what_a_core_changes_and_blames_takes_effect_before_its_records_are_durable() -> None:
    bench = Bench()
    host_change = Meet("host:4", b"key", 4)

    def act(core: Puppet) -> None:
        core.env.persist("member")
        core.env.meet("host:4", b"key", 4)
        core.env.blame(3, "lied", evidence="proof")
        core.env.broadcast("welcome")

    turn = bench.shell.step([do(act)], 1.0)
    assert turn.blames == [Blame(3, "lied", "proof")]
    assert bench.take() == [("append", "member"), ("roster", host_change), ("blame", 3), ("holds",)]
    assert turn.sends == [Send((1, 2, 3, 4), (), "welcome")]


# --- checkpoints ---


class Stateful(Puppet):
    """Has a state that a checkpoint says."""

    state: tuple[str, ...] = ("state",)

    def checkpoint(self) -> Sequence[str]:
        return self.state


def test_a_checkpoint_stands_for_the_records_of_its_turn() -> None:
    bench = Bench(core=Stateful)
    bench.recorder.checkpoint_due = True
    assert bench.act(records=record("r"), sends=say("a")) == [("replace", "state"), ("holds",)]
    bench.recorder.checkpoint_due = False
    assert bench.act(records=record("s")) == [("append", "s")]
    assert bench.durable(1) == [("releases", True), ("send", "a")]


def test_a_checkpoint_is_only_written_with_records() -> None:
    bench = Bench(core=Stateful)
    bench.recorder.checkpoint_due = True
    assert bench.act(sends=say("a")) == [("releases", False), ("send", "a")]


def test_a_state_that_is_its_inputs_is_not_replaced() -> None:
    bench = Bench(core=Stateful)
    bench.host.root.state = ()
    bench.recorder.checkpoint_due = True
    assert bench.act(records=record("r")) == [("append", "r")]


# --- snapshots that are loaded ---


def test_what_comes_after_a_snapshot_of_the_same_core_waits_until_it_is_loaded() -> None:
    bench = Bench()
    assert bench.act(outputs=["a", Load("s"), "b"], jobs=[job("j")]) == [
        ("releases", False),
        ("output", "a", ()),
        ("load", "s", ()),
        ("settle",),
    ]
    assert bench.shell.is_loading
    assert bench.act(sends=say("m"), outputs=["c"]) == [("releases", False), ("send", "m"), ("settle",)]
    assert bench.loaded() == [
        ("adopts", ()),
        ("output", "b", ()),
        ("job", "j"),
        ("output", "c", ()),
        ("settle",),
    ]
    assert not bench.shell.is_loading
    assert ("output", "d", ()) in bench.act(outputs=["d"])


def test_only_the_path_and_those_below_wait() -> None:
    bench = Bench()
    bench.act(outputs=[Output(LEFT, Load("s"))])
    events = bench.act(
        outputs=["root", Output(LEFT, "left"), Output(BELOW, "below"), Output(RIGHT, "right")],
        jobs=[job("left", LEFT), job("below", BELOW), job("right", RIGHT), job("root")],
    )
    assert events == [
        ("releases", False),
        ("output", "root", ()),
        ("output", "right", RIGHT),
        ("job", "right"),
        ("job", "root"),
        ("settle",),
    ]
    assert bench.loaded(LEFT) == [
        ("adopts", LEFT),
        ("output", "left", LEFT),
        ("output", "below", BELOW),
        ("job", "left"),
        ("job", "below"),
        ("settle",),
    ]


def test_a_snapshot_behind_another_of_its_path_waits_too() -> None:
    bench = Bench()
    assert bench.act(outputs=[Load("s"), "a", Load("t"), "b"])[1:] == [("load", "s", ()), ("settle",)]
    assert bench.loaded() == [("adopts", ()), ("output", "a", ()), ("load", "t", ()), ("settle",)]
    assert bench.shell.is_loading
    assert bench.loaded() == [("adopts", ()), ("output", "b", ()), ("settle",)]


def test_two_snapshots_are_loaded_side_by_side_and_keep_the_order_of_each_path() -> None:
    bench = Bench()
    loads = [Output(BELOW, Load("s")), Output(BELOW, 1), Output(LEFT, Load("t")), Output(BELOW, 2), Output(LEFT, 3)]
    assert bench.act(outputs=loads)[1:-1] == [("load", "s", BELOW), ("load", "t", LEFT)]
    assert bench.loaded(BELOW) == [("adopts", BELOW), ("settle",)], "the snapshot above it is still to come"
    assert bench.loaded(LEFT)[1:-1] == [("output", 3, LEFT), ("output", 1, BELOW), ("output", 2, BELOW)]


def test_a_node_is_current_when_what_it_recovered_has_gone_up() -> None:
    def started(on_start: Any) -> Bench:
        bench = Bench.__new__(Bench)
        bench.recorder = Recorder()
        bench.host = Host(lambda env: Puppet(env, on_start), 1, (1, 2), streams(0))
        bench.shell = Shell(bench.host, bench.recorder, bench.recorder, Load)
        assert bench.shell.is_loading
        bench.shell.start(0.0)
        return bench

    assert not started(None).shell.is_loading
    assert not started(lambda core: core.env.deliver("log")).shell.is_loading
    held = started(lambda core: (core.env.persist("life"), core.env.deliver("log")))
    assert held.shell.is_loading
    held.durable(1)
    assert not held.shell.is_loading
    loading = started(lambda core: core.env.deliver(Load("s")))
    assert loading.shell.is_loading
    loading.loaded()
    assert not loading.shell.is_loading


# --- pauses between what goes up ---


def go_on(bench: Bench, pauses_after: int | None) -> list[Event]:
    bench.recorder.pauses_after = pauses_after
    bench.shell.go_on()
    return bench.take()


def test_a_pause_keeps_the_order_of_what_goes_up_and_holds_no_message() -> None:
    bench = Bench()
    bench.act(records=record("r"), outputs=["a", "b"], jobs=[job("j")])
    bench.act(outputs=["c"])
    bench.recorder.pauses_after = 1
    assert bench.durable(1) == [("releases", True), ("output", "a", ()), ("settle",), ("releases", True)]
    assert bench.act(sends=say("m"), outputs=["d"], jobs=[job("k")]) == [("releases", False), ("send", "m")]
    assert go_on(bench, 3) == [("output", "b", ()), ("job", "j"), ("output", "c", ()), ("settle",)]
    assert go_on(bench, None) == [("output", "d", ()), ("job", "k"), ("settle",)]
    assert go_on(bench, 1) == [("settle",)], "nothing is left"


def test_what_waited_for_a_snapshot_goes_up_with_pauses_and_before_what_came_later() -> None:
    bench = Bench()
    bench.act(outputs=[Output(LEFT, Load("s")), *(Output(LEFT, n) for n in range(3))])
    bench.recorder.pauses_after = 1
    assert bench.act(outputs=["a", "b"]) == [("releases", False), ("output", "a", ()), ("settle",)]
    bench.recorder.pauses_after = 2
    assert bench.loaded(LEFT) == [("adopts", LEFT), ("output", 0, LEFT), ("output", 1, LEFT), ("settle",)]
    assert go_on(bench, 1) == [("output", 2, LEFT), ("settle",)]
    assert go_on(bench, 1) == [("output", "b", ()), ("settle",)]


def test_a_snapshot_behind_a_pause_holds_what_comes_after_it() -> None:
    bench = Bench()
    bench.recorder.pauses_after = 1
    bench.act(outputs=["a", Load("s"), "b"])
    assert go_on(bench, 1) == [("load", "s", ()), ("settle",)]
    assert go_on(bench, None) == [("settle",)]
    assert bench.loaded() == [("adopts", ()), ("output", "b", ()), ("settle",)]


def test_a_node_is_not_current_while_a_pause_holds_what_it_recovered() -> None:
    bench = Bench.__new__(Bench)
    bench.recorder = Recorder()
    bench.host = Host(lambda env: Puppet(env, lambda core: (env.deliver("a"), env.deliver("b"))), 1, (1, 2), streams(0))
    bench.shell = Shell(bench.host, bench.recorder, bench.recorder, Load)
    bench.recorder.pauses_after = 1
    bench.shell.start(0.0)
    assert bench.shell.is_loading
    go_on(bench, None)
    assert not bench.shell.is_loading


# --- planted faults ---


def waits_for_its_records(kind: type[Shell]) -> list[Event]:
    return Bench(kind).act(records=record("r"), sends=say("a"))


def waits_for_earlier_records(kind: type[Shell]) -> list[Event]:
    bench = Bench(kind)
    bench.act(records=record("r"))
    return bench.act(sends=say("a"))


def outputs_before_jobs(kind: type[Shell]) -> list[Event]:
    return Bench(kind).act(outputs=["a"], jobs=[job("j")])


def waits_for_a_snapshot(kind: type[Shell]) -> list[Event]:
    bench = Bench(kind)
    bench.act(outputs=[Load("s")])
    return bench.act(outputs=["a"])


def writes_its_state(kind: type[Shell]) -> list[Event]:
    bench = Bench(kind, core=Stateful)
    bench.recorder.checkpoint_due = True
    return bench.act(records=record("r"))[:1]


SCENES = (
    waits_for_its_records,
    waits_for_earlier_records,
    outputs_before_jobs,
    waits_for_a_snapshot,
    writes_its_state,
)


@pytest.mark.parametrize(
    ("mutant", "shows"),
    [
        (NoBarrier, {waits_for_its_records, waits_for_earlier_records}),
        (OutOfOrder, {waits_for_earlier_records}),
        (JobsFirst, {outputs_before_jobs}),
        (Overtaking, {waits_for_a_snapshot}),
        (EmptyCheckpoint, {writes_its_state}),
    ],
)
def test_a_planted_fault_shows_where_it_is_and_nowhere_else(mutant: type[Shell], shows: set[Any]) -> None:
    assert {scene for scene in SCENES if scene(mutant) != scene(Shell)} == shows


class Midway(Recorder):
    """An App whose output "long" ends when its timer is up for the second time."""

    rest = 0

    @property
    def is_midway(self) -> bool:
        return self.rest > 0

    def output(self, value: Any, path: Path = ROOT) -> None:
        super().output(value, path)
        self.rest = 2 if value == "long" else 0

    def on_timer(self, key: Any) -> None:
        self.add("timer of the app", key)
        self.rest -= 1


def test_an_app_in_the_middle_of_an_output_is_given_nothing_until_its_timer_has_ended_it() -> None:
    bench = Bench(recorder=Midway())
    began = bench.act(outputs=["long", "next"], jobs=[job("j")])
    assert began == [("releases", False), ("output", "long", ROOT), ("settle",)]
    assert ("output", "later", ROOT) not in bench.act(outputs=["later"])
    bench.shell.fired("go on")
    assert bench.take() == [("timer of the app", "go on")]
    bench.shell.fired("go on")
    ended = [("timer of the app", "go on"), ("output", "next", ROOT), ("job", "j"), ("output", "later", ROOT)]
    assert bench.take() == ended
    assert ("output", "last", ROOT) in bench.act(outputs=["last"])
