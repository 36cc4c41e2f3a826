"""The Replica's promises to clients: once, only once, to whoever asked last, and never a wrong 'nothing happened'."""

import pytest

from quorate.parts.log import configuration
from quorate.parts.log.entries import CONFIGURATION, NOOP
from quorate.parts.log.replicated import Decided, Dropped, Leads, ReadFailed, ReadReady
from quorate.service import replica as module
from quorate.service.replica import CHANGES_MAX, Replica
from quorate.service.requests import Apply, CloseSession, Code, Failure, OpenSession, Reconfigure, Result, encode

from tests.service.replicas import Bench, command, put, query


@pytest.fixture
def bench() -> Bench:
    """A replica with one session, 1."""
    made = Bench()
    made.commit(OpenSession(99))
    return made


# --- commands ---


def test_a_command_is_submitted_as_it_came_and_answered_once_it_commits(bench: Bench) -> None:
    entry = encode(put(1, 1, b"hello"))
    bench.request("ann", command(7, put(1, 1, b"hello")))
    assert bench.settle() == []
    assert bench.port.submitted == [entry]
    bench.commit(entry)
    assert bench.port.replies == []  # answers leave when the run of outputs ends
    assert bench.settle() == [("ann", Result(7, b"1:hello"))]
    assert bench.settle() == []


def test_a_session_is_answered_with_its_index_to_whoever_has_the_nonce(bench: Bench) -> None:
    bench.request("ann", command(1, OpenSession(5)))
    bench.request("bob", command(1, OpenSession(6)))
    bench.commit(OpenSession(4), OpenSession(6), OpenSession(5))
    assert bench.settle() == [("bob", Result(1, b"3")), ("ann", Result(1, b"4"))]


def test_a_repeated_serial_is_applied_once_and_answered_from_the_table(bench: Bench) -> None:
    bench.commit(put(1, 1, b"a"), put(1, 1, b"a"), put(1, 2, b"b"), put(1, 1, b"a"))
    assert bench.machine.commands == [b"a", b"b"]
    bench.request("ann", command(9, put(1, 1, b"a")))
    assert bench.settle() == [("ann", Result(9, b"1:a"))]
    assert bench.port.submitted == []


def test_a_repeat_that_waits_gets_the_first_result(bench: Bench) -> None:
    bench.request("ann", command(1, put(1, 1, b"a")))
    bench.commit(put(1, 1, b"a"))
    bench.settle()
    bench.replica._commands[1, 1] = ("bob", 2)  # the copy was submitted before the first was applied here
    bench.commit(put(1, 1, b"a"))
    assert bench.settle() == [("bob", Result(2, b"1:a"))]


def test_once_holds_across_a_snapshot(bench: Bench) -> None:
    bench.commit(put(1, 1, b"a"), put(1, 2, b"b", 1))
    other = Bench()
    other.restore(bench.snapshot())
    assert other.state() == bench.state()
    other.commit(put(1, 1, b"a"), put(1, 2, b"b", 1), put(1, 3, b"c", 2))
    assert other.machine.commands == [b"a", b"b", b"c"]
    other.request("ann", command(4, put(1, 2, b"b")))
    assert other.settle() == [("ann", Result(4, b"2:b"))]


def test_a_copy_that_comes_after_its_answer_was_acknowledged_changes_nothing(bench: Bench) -> None:
    bench.commit(put(1, 1, b"a"), put(1, 2, b"b", 2))
    assert 1 not in bench.replica.sessions.find(1).results
    bench.request("ann", command(3, put(1, 1, b"a")))
    bench.commit(put(1, 1, b"a"))
    assert bench.machine.commands == [b"a", b"b"]
    [(client, failure)] = bench.settle()
    assert (client, failure.id, failure.code) == ("ann", 3, Code.NO_SESSION)


def test_serials_may_be_applied_out_of_order(bench: Bench) -> None:
    bench.commit(put(1, 3, b"c", 1), put(1, 1, b"a", 1), put(1, 2, b"b", 1), put(1, 3, b"c", 1))
    assert bench.machine.commands == [b"c", b"a", b"b"]


def test_an_older_answered_below_takes_nothing_back(bench: Bench) -> None:
    bench.commit(put(1, 1, b"a"), put(1, 5, b"b", 3), put(1, 6, b"c", 1), put(1, 2, b"late", 1))
    assert bench.machine.commands == [b"a", b"b", b"c"]


def test_too_many_unanswered_commands_are_refused_until_some_are_acknowledged(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNANSWERED_PER_SESSION_MAX", 3)
    bench.request("ann", command(1, put(1, 4, b"d")))
    bench.commit(*(put(1, serial, b"%d" % serial) for serial in range(1, 5)))
    assert bench.machine.commands == [b"1", b"2", b"3"]
    [(_, failure)] = bench.settle()
    assert failure.code is Code.NO_SESSION
    bench.commit(put(1, 5, b"5", 3))
    assert bench.machine.commands[-1] == b"5"


def test_a_command_of_a_session_that_expired_is_not_applied() -> None:
    bench = Bench(sessions_max=1)
    bench.commit(OpenSession(1), OpenSession(2))
    bench.request("ann", command(1, put(1, 1)))
    bench.request("bob", command(2, put(77, 1)))
    bench.commit(put(1, 1), put(77, 1))
    assert bench.machine.commands == []
    assert [(client, answer.code) for client, answer in bench.settle()] == [
        ("ann", Code.NO_SESSION),
        ("bob", Code.NO_SESSION),
    ]


def test_a_closed_session_applies_nothing_more(bench: Bench) -> None:
    bench.commit(CloseSession(1), put(1, 1), CloseSession(1))
    assert bench.machine.commands == []
    assert len(bench.replica.sessions) == 0


def test_the_newest_asker_gets_the_answer_and_nobody_else(bench: Bench) -> None:
    bench.request("old link", command(1, put(1, 1)))
    bench.request("new link", command(1, put(1, 1)))
    bench.commit(put(1, 1), put(1, 1))
    assert bench.settle() == [("new link", Result(1, b"1:x"))]


def test_entries_that_are_no_commands_count_and_do_nothing(bench: Bench) -> None:
    before = bench.state()[1:]
    bench.commit(encode(put(1, 1)), kind=NOOP)
    bench.commit(encode(put(1, 1)), kind=CONFIGURATION)
    bench.commit(b"", b"\xc1", b"\x91\xa5apply", b"\x93\xa4open\x01\x02")
    assert bench.state() == (7, *before)


def test_a_gap_in_the_log_is_our_own_mistake(bench: Bench) -> None:
    with pytest.raises(AssertionError):
        bench.replica.output(Decided(9, []))


# --- refusals ---


def test_what_is_no_command_is_malformed_and_goes_no_further(bench: Bench) -> None:
    for number, entry in enumerate((b"", b"\xc1", encode([1, 2]), encode(put(1, 1))[:-1], encode(put(1, 1)) + b"x")):
        bench.request("ann", module.Command(number, entry))
        [(client, answer)] = bench.settle()
        assert (client, answer.id, answer.code) == ("ann", number, Code.MALFORMED)
    assert bench.port.submitted == []


def test_a_disk_that_takes_nothing_refuses_commands_and_fresh_reads(bench: Bench) -> None:
    """What is said of freshness is an output of the core, which waits for the disk."""
    bench.replica.stalled("disk full: 28")
    bench.request("ann", command(1, put(1, 1)))
    bench.request("ann", query(2))
    assert [answer for _, answer in bench.settle()] == [
        Failure(1, Code.STORAGE, "disk full: 28", None),
        Failure(2, Code.STORAGE, "disk full: 28", None),
    ]
    assert bench.port.asked == []
    bench.replica.stalled(None)
    bench.request("ann", command(3, put(1, 1)))
    assert bench.settle() == []
    assert len(bench.port.submitted) == 1


def test_who_waits_when_the_disk_hangs_is_turned_away_without_a_name(bench: Bench) -> None:
    """A command may have taken place, a read has not; who leads is known from before the disk hung, and may be over."""
    bench.replica.output(Leads(1, 7))
    bench.request("ann", command(1, put(1, 1)))
    bench.request("ann", query(2))
    bench.settle()
    bench.replica.stalled("it hangs")
    answers = {answer.id: (answer.code, answer.leader) for _, answer in bench.settle()}
    assert answers == {1: (Code.LEADER_CHANGED, None), 2: (Code.STORAGE, None)}


def test_what_the_node_does_not_take_in_is_refused(bench: Bench) -> None:
    bench.request("ann", command(1, put(1, 1)))
    bench.settle()
    bench.replica.refused(bench.port.submitted, "too much waits")
    [(_, answer)] = bench.settle()
    assert (answer.id, answer.code, answer.why) == (1, Code.BUSY, "too much waits")


def test_no_more_than_pending_max_commands_and_reads_wait() -> None:
    bench = Bench(pending_max=3)
    bench.request("ann", command(0, OpenSession(1)))
    for serial in (1, 2, 3):
        bench.request("ann", command(serial, put(1, serial)))
        bench.request("ann", query(10 + serial))
    bench.request("ann", query(14))
    assert [(answer.id, answer.code) for _, answer in bench.settle()] == [
        (3, Code.BUSY),
        (14, Code.BUSY),
    ]
    assert (len(bench.port.submitted), bench.port.asked) == (3, [0, 1, 2])
    bench.commit(OpenSession(1))
    bench.replica.output(ReadReady((0,)))
    bench.settle()
    bench.request("ann", command(20, put(1, 9)))
    bench.request("ann", query(21))
    assert bench.settle() == []


# --- clients that leave ---


def test_nothing_waits_for_a_client_that_has_left(bench: Bench) -> None:
    for client in ("ann", "bob"):
        bench.request(client, command(1, OpenSession(ord(client[0]))))
        bench.request(client, command(2, put(9, ord(client[0]))))
        bench.request(client, query(3))
        bench.request(client, query(4, serializable=True))
        bench.request(client, Reconfigure(5, CHANGE))
    bench.replica.closed("ann")
    bench.commit(OpenSession(ord("a")), OpenSession(ord("b")), put(9, ord("a")), put(9, ord("b")))
    bench.commit(CHANGE, kind=CONFIGURATION)
    bench.replica.output(ReadReady((0, 1)))
    assert {(client, answer.id) for client, answer in bench.settle()} == {("bob", number) for number in range(1, 6)}


def test_what_a_client_submitted_before_it_left_takes_effect_and_its_session_knows(bench: Bench) -> None:
    bench.commit(OpenSession(1))
    bench.request("ann", command(1, put(1, 1, b"x")))
    bench.replica.closed("ann")
    bench.commit(*bench.port.submitted)
    assert bench.machine.commands == [b"x"]
    bench.request("ann again", command(2, put(1, 1, b"x")))
    assert bench.settle() == [("ann again", Result(2, b"1:x"))]
    assert len(bench.port.submitted) == 1


def test_the_same_command_over_another_connection_outlives_the_first(bench: Bench) -> None:
    bench.commit(OpenSession(1))
    for connection in ("old", "new"):
        bench.request(connection, command(1, put(1, 1, b"x")))
    bench.replica.closed("old")
    bench.commit(put(1, 1, b"x"))
    assert bench.settle() == [("new", Result(1, b"1:x"))]


def test_a_client_that_leaves_makes_room() -> None:
    bench = Bench(pending_max=2)
    for serial in (1, 2):
        bench.request("ann", command(serial, put(1, serial)))
        bench.request("ann", query(serial))
    bench.replica.closed("ann")
    bench.request("bob", command(1, put(1, 9)))
    bench.request("bob", query(2))
    assert bench.settle() == []


def test_many_that_leave_are_forgotten_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """To search all that waits for each of a thousand clients that leave at once would hold the node up for seconds."""
    monkeypatch.setattr(module, "WAITING_PER_CLOSED", 10)
    bench = Bench()
    for number in range(100):
        bench.request(f"client {number}", query(number))
    searched = []
    for number in range(20):
        bench.replica.closed(f"client {number}")
        searched.append(len(bench.replica._asking))
    assert searched == [100] * 9 + [90] * 9 + [81] * 2


# --- what the protocol says ---


def test_dropped_commands_are_refused_once_with_the_reason(bench: Bench) -> None:
    bench.request("ann", command(1, put(1, 1)))
    bench.request("bob", command(2, OpenSession(8)))
    values = tuple(bench.port.submitted)
    for _ in range(2):
        bench.replica.output(Dropped((*values, b"\xc1", encode(CloseSession(1)), encode(put(5, 5))), "no leader"))
    assert bench.settle() == [
        ("ann", Failure(1, Code.UNAVAILABLE, "no leader", None)),
        ("bob", Failure(2, Code.UNAVAILABLE, "no leader", None)),
    ]


def test_a_new_leader_answers_all_that_wait_once(bench: Bench) -> None:
    bench.replica.output(Leads(1, 2))
    bench.request("ann", command(1, put(1, 1)))
    bench.request("bob", command(2, OpenSession(8)))
    bench.request("cid", query(3))
    bench.replica.output(Leads(2, None))
    bench.replica.output(Leads(3, 2))  # the same one again: it still has what it was given
    assert bench.settle() == []
    bench.replica.output(Leads(4, 3))
    bench.replica.output(Leads(5, 1))
    assert bench.settle() == [
        ("ann", Failure(1, Code.LEADER_CHANGED, "node 3 leads now", 3)),
        ("bob", Failure(2, Code.LEADER_CHANGED, "node 3 leads now", 3)),
    ]
    bench.commit(put(1, 1), OpenSession(8))
    assert bench.settle() == []
    bench.request("ann", command(4, put(1, 1)))
    assert bench.settle() == [("ann", Result(4, b"1:x"))]


def test_reads_that_fail_are_refused_and_forgotten(bench: Bench) -> None:
    bench.request("ann", query(1))
    bench.settle()
    bench.replica.output(ReadFailed((0, 5), "leadership was lost"))
    bench.replica.output(ReadReady((0,)))
    assert bench.settle() == [("ann", Failure(1, Code.UNAVAILABLE, "leadership was lost", None))]


def test_an_output_of_no_known_kind_is_none_of_its_business(bench: Bench) -> None:
    before = bench.state()
    bench.replica.output(object())
    assert (bench.state(), bench.settle()) == (before, [])


# --- reads and batches ---


def test_a_linearizable_read_waits_for_its_token_and_sees_all_that_was_applied_before(bench: Bench) -> None:
    bench.request("ann", query(1, b"late"))
    bench.commit(put(1, 1), put(1, 2))
    assert bench.settle() == []
    assert bench.port.asked == [0]
    bench.commit(put(1, 3))
    bench.replica.output(ReadReady((0,)))
    assert bench.settle() == [("ann", Result(1, b"3 stored for late"))]


def test_reads_asked_together_are_asked_of_the_protocol_together(bench: Bench) -> None:
    for number in range(3):
        bench.request("ann", query(number))
    assert bench.port.asked == []
    bench.settle()
    bench.settle()
    assert bench.port.asked == [0, 1, 2]


def test_a_serializable_read_asks_nobody_and_sees_all_that_was_applied(bench: Bench) -> None:
    bench.commit(put(1, 1))
    bench.request("ann", query(1, b"now", serializable=True))
    assert bench.settle() == [("ann", Result(1, b"1 stored for now"))]
    assert bench.port.asked == []


def test_a_batch_goes_on_over_turns_and_ends_when_it_is_large(bench: Bench) -> None:
    serial = 0
    for turn in range(1, 4):
        for _ in range(module.BATCH_MAX // 2):
            serial += 1
            bench.commit(put(1, serial, b"x", serial))
        bench.settle()
        assert bench.machine.batches == ([] if turn < 2 else [module.BATCH_MAX])
    assert bench.machine.open


def test_a_snapshot_ends_the_batch(bench: Bench) -> None:
    bench.commit(put(1, 1))
    bench.snapshot()
    assert (bench.machine.batches, bench.machine.open) == ([1], False)


def test_a_batch_ends_when_its_commands_are_large(bench: Bench) -> None:
    """Their records wait in memory until then, and are written at once."""
    bench.commit(OpenSession(1))
    largest = bytes(module.COMMAND_BYTES_MAX)
    for serial in range(1, 4):
        bench.commit(put(1, serial, largest))
        bench.settle()
    assert 3 * len(largest) > module.BATCH_BYTES_MAX
    assert bench.machine.batches == [3]
    bench.commit(put(1, 4))
    bench.settle()
    assert bench.machine.batches == [3], "and it is counted anew"


# --- planted bugs ---


class AppliesTwice(Replica):
    """Forgets to look the serial up."""

    def _once(self, session, command: Apply) -> bytes | None:
        return self.machine.apply(command.operation)


class TellsEveryLeader(Replica):
    """Forgets that what waited was answered."""

    def _follow(self, leader: int | None) -> None:
        waiting = dict(self._commands)
        super()._follow(leader)
        self._commands = waiting


class ReadsEarly(Replica):
    """Serves a linearizable read without asking."""

    def _query(self, client, request) -> None:
        self._answers.append((client, Result(request.id, self.read(request.query))))


@pytest.mark.parametrize(
    ("bug", "catches"),
    [
        (AppliesTwice, test_a_repeated_serial_is_applied_once_and_answered_from_the_table),
        (TellsEveryLeader, test_a_new_leader_answers_all_that_wait_once),
        (ReadsEarly, test_a_linearizable_read_waits_for_its_token_and_sees_all_that_was_applied_before),
    ],
)
def test_planted_bugs_are_caught(bug: type[Replica], catches) -> None:
    sick = Bench(bug)
    sick.commit(OpenSession(99))
    with pytest.raises(AssertionError):
        catches(sick)


# --- changes of members ---


CHANGE = configuration.encode_change((1, 2, 3), 7)


def test_a_change_of_members_is_submitted_as_it_came_and_answered_when_the_log_has_it(bench: Bench) -> None:
    bench.request("a", Reconfigure(1, CHANGE))
    bench.request("b", Reconfigure(9, CHANGE))
    assert (bench.settle(), bench.port.submitted) == ([], [CHANGE, CHANGE])
    bench.commit(configuration.encode_change((1,), 7), kind=CONFIGURATION)
    assert bench.settle() == []
    bench.commit(CHANGE, CHANGE, kind=CONFIGURATION)
    assert bench.settle() == [("a", Result(1, b"")), ("b", Result(9, b""))]
    assert (bench.replica.applied_index, bench.machine.commands) == (4, [])


def test_what_is_no_change_of_members_is_refused_and_not_submitted(bench: Bench) -> None:
    for value in (b"", encode(OpenSession(1)), configuration.PREFIX, CHANGE[:-1]):
        bench.request("a", Reconfigure(1, value))
        assert bench.settle() == [("a", Failure(1, Code.MALFORMED, "this is no change of members"))]
    bench.replica.stalled("disk full")
    bench.request("a", Reconfigure(2, CHANGE))
    assert bench.settle() == [("a", Failure(2, Code.STORAGE, "disk full"))]
    assert bench.port.submitted == []


def test_a_change_that_may_be_lost_is_to_be_sent_again(bench: Bench) -> None:
    bench.request("a", Reconfigure(1, CHANGE))
    bench.replica.output(Dropped((CHANGE,), "no leader is known"))
    assert bench.settle() == [("a", Failure(1, Code.UNAVAILABLE, "no leader is known"))]
    bench.request("a", Reconfigure(2, CHANGE))
    bench.replica.output(Leads(5, 3))
    assert bench.settle() == [("a", Failure(2, Code.LEADER_CHANGED, "node 3 leads now", 3))]
    bench.commit(CHANGE, kind=CONFIGURATION)
    assert bench.settle() == []


def test_of_too_many_changes_that_wait_the_oldest_give_way(bench: Bench) -> None:
    others = [configuration.encode_change((1, 2), epoch) for epoch in range(CHANGES_MAX - 1)]
    for value in (CHANGE, *others):
        bench.request("a", Reconfigure(1, value))
    bench.request("b", Reconfigure(2, others[0]))
    assert bench.settle() == [("a", Failure(1, Code.UNAVAILABLE, "too many changes of members are waiting"))]
    bench.commit(others[0], kind=CONFIGURATION)
    assert bench.settle() == [("a", Result(1, b"")), ("b", Result(2, b""))]
