"""Slots: exact effects of the log over a child that decides what its test says, then whole groups over Paxos."""

from collections.abc import Sequence
from typing import Any

import pytest

from quorate.kernel import Asked, Core, Done, Env, Fired, Host, Input, Received, Record, Send, Stalled, Submitted, Turn
from quorate.parts.log.entries import NOOP, Entry
from quorate.parts.log.replicated import Busy, Decided, Dropped, Leads, ReadFailed, ReadReady
from quorate.parts.quorum import Threshold
from quorate.parts.slots import TAG, Chosen, Fetch, Life, Reached, Slots, SlotsConfig, Told
from quorate.sim.chance import streams
from quorate.trials.campaign import Task, run_task

PEERS = (1, 2, 3)
SMALL = SlotsConfig(window=3, message_entries_max=2, pending_max=4)


class Oracle(Core):
    """A single-shot core that decides when told to; it shows what is proposed as a record."""

    records = (str,)

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.remembers: list[str] = []

    def submit(self, values: Sequence[bytes]) -> None:
        """Show what is proposed."""
        self.remembers = [values[0].decode("latin1")]
        self.env.persist(self.remembers[0])

    def on_done(self, key: Any, result: Any) -> None:
        """The decision."""
        self.env.deliver(result)

    def on_stalled(self, why: str | None) -> None:
        self.stalled = why

    def restore(self, record: str) -> None:
        """As before."""
        self.remembers = [record]

    def checkpoint(self) -> list[str]:
        """Something to remember, once it has proposed."""
        return self.remembers


class Log:
    """One Host. Each method takes one step and returns its Turn."""

    def __init__(self, node: int = 1, records: Sequence[Record] = (), config: SlotsConfig = SMALL) -> None:
        self.host = Host(lambda env: Slots(env, config, Oracle), node, PEERS, streams(0))
        for record in records:
            self.host.restore(record)
        self.now = 0.0
        self.started = self.host.start(0.0)

    @property
    def open(self) -> list[int]:
        """The slots that are."""
        return [path[0][1] for path in self.host.cores if path]

    def step(self, *inputs: Input) -> Turn:
        return self.host.step(inputs, self.now)

    def on(self, sender: int, *messages: Any) -> Turn:
        return self.step(*[Received(sender, message) for message in messages])

    def decide(self, slot: int, value: bytes) -> Turn:
        return self.step(Done("decide", value, (("slot", slot),)))

    def beat(self) -> Turn:
        self.now += SMALL.beat_s
        return self.step(Fired("beat"))


def tagged(serial: int, data: bytes, node: int = 1, life: int = 1, kind: int = 0) -> bytes:
    return TAG.pack(node, life, serial, kind) + data


def noop(serial: int, node: int = 1) -> bytes:
    return tagged(serial, b"", node, kind=NOOP)


def proposals(turn: Turn) -> dict[int, bytes]:
    """What was proposed in which slot."""
    return {r.path[0][1]: r.value.encode("latin1") for r in turn.records if r.path}


def chosen(turn: Turn) -> list[Any]:
    """What the log itself recorded."""
    return [record.value for record in turn.records if not record.path]


def to(node: int, message: Any) -> Send:
    return Send((node,), (), message)


def test_a_start_begins_a_life_and_opens_the_window() -> None:
    log = Log()
    assert log.started.records == [Record((), Life(1))]
    assert log.started.sends == [to(2, Reached(0)), to(3, Reached(0))]
    assert log.started.outputs == [Leads(0, 1)]
    assert log.open == [1, 2, 3]


def test_values_go_into_the_lowest_slots_and_what_finds_none_waits() -> None:
    log = Log()
    turn = log.step(Submitted((b"a", b"b", b"c", b"d")))
    assert proposals(turn) == {1: tagged(1, b"a"), 2: tagged(2, b"b"), 3: tagged(3, b"c")}
    assert proposals(log.decide(1, tagged(1, b"a"))) == {4: tagged(4, b"d")}


def test_decisions_are_recorded_and_delivered_in_the_order_of_slots() -> None:
    log = Log()
    turn = log.decide(2, tagged(1, b"b", node=2))
    assert chosen(turn) == [Chosen(2, (tagged(1, b"b", node=2),))]
    assert turn.outputs == ()
    turn = log.decide(1, tagged(1, b"a", node=3))
    assert turn.outputs == [Decided(1, [Entry(0, b"a"), Entry(0, b"b")])]
    assert turn.sends == [to(2, Reached(2)), to(3, Reached(2))]
    assert log.open == [3, 4, 5], "decided slots are retired"


def test_a_value_that_lost_its_slot_is_proposed_in_a_later_one_and_only_then() -> None:
    log = Log()
    log.step(Submitted((b"a",)))
    turn = log.decide(1, tagged(1, b"theirs", node=2))
    assert proposals(turn) == {2: tagged(1, b"a")}
    assert proposals(log.decide(2, tagged(1, b"a"))) == {}


def test_a_value_without_a_tag_is_a_noop() -> None:
    log = Log()
    assert log.decide(1, b"odd").outputs == [Decided(1, [Entry(0, b"", NOOP)])]


def test_a_read_waits_for_a_noop_proposed_after_it_came() -> None:
    log = Log()
    assert proposals(log.step(Asked((7, 8)))) == {1: noop(1)}
    assert proposals(log.step(Asked((9,)))) == {}, "shares the next"
    turn = log.decide(1, noop(1, node=2))
    assert turn.outputs == [Decided(1, [Entry(0, b"", NOOP)])], "another's no-op may be older than the read"
    assert proposals(turn) == {2: noop(1)}
    turn = log.decide(2, noop(1))
    assert turn.outputs == [Decided(2, [Entry(0, b"", NOOP)]), ReadReady((7, 8))]
    assert proposals(turn) == {3: noop(2)}


def test_a_read_waits_for_all_slots_below() -> None:
    log = Log()
    log.step(Submitted((b"a",)))
    assert proposals(log.step(Asked((7,)))) == {2: noop(2)}
    assert log.decide(2, noop(2)).outputs == ()
    assert log.decide(1, tagged(1, b"a")).outputs[-1] == ReadReady((7,))


def test_too_much_is_refused() -> None:
    log = Log()
    turn = log.step(Submitted((b"a",) * 5), Asked((1, 2, 3, 4, 5)))
    assert turn.outputs == [
        Busy((b"a",), "too many values wait for a slot"),
        ReadFailed((5,), "too many reads wait for a slot"),
    ]


def test_a_gap_that_lasts_is_filled_with_noops() -> None:
    log = Log()
    log.decide(3, tagged(1, b"c", node=2))
    assert proposals(log.beat()) == {}, "it may close by itself"
    assert proposals(log.beat()) == {1: noop(1), 2: noop(2)}
    assert proposals(log.decide(1, tagged(9, b"a", node=3))) == {}, "a no-op that was for a gap is not tried again"


def test_who_is_behind_fetches_and_is_told_in_pieces() -> None:
    log, far = Log(), Log(2)
    values = tuple(tagged(n, b"%d" % n, node=2) for n in (1, 2, 3))
    for slot, value in enumerate(values, 1):
        far.decide(slot, value)
    assert log.on(2, Reached(3)).sends == [to(2, Fetch(1))]
    told = Told(1, values[:2], 3)
    assert far.on(1, Fetch(1)).sends == [to(1, told)]
    turn = log.on(2, told)
    assert turn.outputs == [Decided(1, [Entry(0, b"1"), Entry(0, b"2")])]
    assert to(2, Fetch(3)) in turn.sends
    assert log.on(2, told) == Turn(), "a copy"
    assert far.on(1, Fetch(4)) == Turn()


def test_one_that_is_little_behind_and_has_voted_waits_for_its_own_learner_first() -> None:
    log = Log()
    log.step(Submitted((b"a",)))
    assert log.on(2, Reached(1)).sends == ()
    assert to(2, Fetch(1)) in log.beat().sends


def test_passed_slots_that_have_votes_stay_and_others_are_closed_or_never_opened() -> None:
    """The votes of an open slot may be the last copy of its value."""
    log = Log()
    log.step(Submitted((b"a", b"b")))
    turn = log.on(2, Reached(10, 10))
    assert turn.sends == [to(2, Fetch(1))]
    assert log.open == [1, 2, 11, 12, 13]
    log.on(2, Reached(20, 20))
    assert log.open == [1, 2, 21, 22, 23]
    values = tuple(tagged(n, b"", node=2) for n in range(1, 21))
    log.on(2, Told(1, values, 20))
    assert log.open == [21, 22, 23]


def test_slots_that_one_node_alone_has_passed_stay_open() -> None:
    """It may be gone for good, and its values with it."""
    log = Log()
    assert log.on(2, Reached(2)) == Turn()
    assert log.open == [1, 2, 3]
    assert log.beat().sends == [to(2, Reached(0)), to(3, Reached(0)), to(2, Fetch(1))]
    log.on(3, Reached(1))
    assert log.open == [2, 3, 4], "nodes 2 and 3 hold the first"
    assert log.beat().sends[:2] == [to(2, Reached(0, 1)), to(3, Reached(0, 1))]
    assert proposals(log.step(Submitted((b"a",)))) == {3: tagged(1, b"a")}, "the second is decided, and not for us"


def test_a_quorum_may_be_another_than_a_majority() -> None:
    host = Host(lambda env: Slots(env, SMALL, Oracle, quorum=Threshold(PEERS, 3)), 1, PEERS, streams(0))
    host.start(0.0)
    for sender in (2, 3):
        host.step([Received(sender, Reached(2))], 0.0)
    assert ("slot", 1) in [path[0] for path in host.cores if path], "node 1 may be all that lives"


def test_slots_that_open_on_a_full_disk_are_told() -> None:
    log = Log()
    log.step(Stalled("disk full"))
    log.on(2, Reached(5, 5))
    assert log.open == [6, 7, 8]
    assert [log.host.cores[("slot", slot),].stalled for slot in (6, 7, 8)] == ["disk full"] * 3


def test_one_step_may_bring_the_messages_of_hundreds_of_slots() -> None:
    """As after a pause; the window moves as they say, and nothing piles up."""
    log = Log()
    backlog: list[Received] = []
    for slot in range(1, 400):
        backlog += [Received(2, Fetch(1), (("slot", slot),)), Received(2, Reached(slot, slot - 2))]
    turn = log.step(*backlog)
    assert not [blame for blame in turn.blames if "waiting" in blame.why]
    assert log.open == [398, 399, 400]


def test_a_value_of_ours_in_a_passed_slot_waits_to_hear_who_won() -> None:
    log = Log()
    log.step(Submitted((b"a",)))
    assert proposals(log.on(2, Reached(10))) == {}
    theirs = tuple(tagged(n, b"", node=2) for n in range(1, 11))
    assert proposals(log.on(2, Told(1, theirs, 10))) == {11: tagged(1, b"a")}


def test_a_restart_delivers_again_and_keeps_slots_that_have_records() -> None:
    log = Log()
    log.step(Submitted((b"a", b"b", b"c")))
    log.decide(1, tagged(1, b"a"))
    log.decide(3, tagged(3, b"c"))
    records = log.host.checkpoint()
    again = Log(records=records)
    assert again.started.outputs == [Decided(1, [Entry(0, b"a")]), Leads(0, 1)]
    assert again.open == [2, 4]
    again.step()
    assert sorted(again.open) == [2, 4]
    assert again.host.root.life == 2  # type: ignore[attr-defined]
    assert proposals(again.step(Submitted((b"d",)))) == {2: tagged(1, b"d", life=2)}
    assert again.on(2, Told(1, (b"", b"", b""), 3)).outputs[0].first_index == 2


def test_a_restart_delivers_much_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quorate.parts.slots.PORTION_ENTRIES", 2)
    log = Log()
    for slot in range(1, 6):
        log.decide(slot, tagged(slot, b"%d" % slot))
    outputs = Log(records=log.host.checkpoint()).started.outputs[:-1]
    assert [output.first_index for output in outputs] == [1, 3, 5]
    assert [entry.data for output in outputs for entry in output.entries] == [b"%d" % slot for slot in range(1, 6)]


def test_no_path_is_used_twice_and_late_messages_of_retired_slots_are_dropped() -> None:
    log = Log()
    log.decide(1, tagged(1, b"a"))
    for host in (log.host, Log(records=log.host.checkpoint()).host):
        late = [Received(2, Fetch(1), (("slot", 1),))] * 1000
        assert host.step(late, 1.0).blames == ()


def test_the_lowest_node_heard_lately_is_the_hint() -> None:
    log = Log(3)
    assert log.started.outputs == (), "it has just begun, and may hear of a lower one"
    assert log.on(1, Reached(0)).outputs == [Leads(0, 1)]
    for _ in range(9):
        assert log.on(2, Reached(0)).outputs == ()
        log.beat()
    log.on(2, Reached(0))
    outputs = [output for _ in range(11) for output in log.beat().outputs]
    assert outputs == [Leads(0, 2), Leads(0, 3)]


def test_a_full_disk_stops_what_would_be_written() -> None:
    log = Log()
    assert log.step(Stalled("disk full"), Submitted((b"a",))).outputs == [Dropped((b"a",), "disk full")]
    assert log.step(Asked((1,))) == Turn()
    assert log.on(2, Told(1, (b"x",), 1)) == Turn()
    assert proposals(log.step(Stalled(None))) == {1: noop(1)}


def test_a_node_with_a_full_disk_sends_clients_elsewhere() -> None:
    log = Log()
    log.now = 5.0
    log.on(2, Reached(0))
    log.step(Stalled("disk full"))
    turn = log.beat()
    assert (turn.outputs, turn.sends) == ([Leads(0, 2)], ())
    log.step(Stalled(None))
    turn = log.beat()
    assert (turn.outputs, turn.sends) == ([Leads(0, 1)], [to(2, Reached(0)), to(3, Reached(0))])


def test_no_well_typed_message_raises_or_takes_long() -> None:
    top = 2**62 - 1
    messages = [Reached(0), Reached(5), Reached(top), Fetch(0), Fetch(1), Fetch(top), Told(0, (b"",), top)]
    messages += [Told(top, (b"",), top), Told(1, (), top), Told(1, (b"", b"x"), 0), Told(2, (b"",) * 9, top)]
    for first in messages:
        log = Log()
        log.on(2, first)
        log.step(*[Received(sender, message) for message in messages for sender in PEERS], Submitted((b"a",)))
        log.beat()
        assert len(log.open) <= 2 * SMALL.window, "what we voted in, and a window"


@pytest.mark.parametrize(
    "wrong", [{"window": 0}, {"window": 10**6}, {"beat_s": 0.0}, {"beat_s": 2.0}, {"message_entries_max": 0}]
)
def test_a_config_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SlotsConfig(**wrong)
    with pytest.raises(ValueError, match="pending_max"):
        SlotsConfig(pending_max=0)


@pytest.mark.parametrize("seed", range(4))
def test_over_paxos_it_is_a_replicated_log(seed: int) -> None:
    assert run_task(Task(protocol="paxos", seed=seed, nodes=5, duration_s=5.0)).holds


@pytest.mark.parametrize("mutant", ["reuses-ballot", "chooses-freely", "mixes-ballots"])
def test_a_planted_bug_in_a_slot_is_seen(mutant: str) -> None:
    """The rest take more seeds: ``quorate sim paxos --mutants``."""
    runs = (run_task(Task(protocol="paxos", seed=seed, nodes=3, mutant=mutant)) for seed in range(20))
    assert not all(outcome.holds for outcome in runs)
