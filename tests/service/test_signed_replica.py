"""A Replica of signed requests: a session is its owner's alone, and a request that is replayed has no effect."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.kernel import Job
from quorate.kernel.work import Work
from quorate.parts import requests as signed
from quorate.parts.crypto.keys import Signer, Symbolic
from quorate.parts.log import configuration
from quorate.parts.log.entries import CONFIGURATION
from quorate.parts.log.replicated import Dropped, Leads, Screen, Screened
from quorate.service import signed as module
from quorate.service.deadlines import NEVER, TICK
from quorate.service.readings import GO_ON, LATE
from quorate.service.replica import Replica
from quorate.service.requests import (
    Apply,
    CloseSession,
    Code,
    Command,
    Failure,
    Inspect,
    OpenSession,
    Reconfigure,
    Result,
    Results,
    encode,
)
from quorate.service.signed import SignedReplica

from tests.service.replicas import Bench, put, query

SCHEME = Symbolic(range(4))
ANN, BOB = SCHEME.client(1), SCHEME.client(2)


class SignedBench(Bench):
    """A bench whose log holds signed requests; each command given to ``commit`` is Ann's, alone in a request."""

    def __init__(self, kind: type[Replica] = SignedReplica, **limits: int) -> None:
        super().__init__(kind, **limits)

    def open(self, owner: Signer, nonce: int = 1) -> int:
        """A session; its id."""
        self.commit(by(owner, OpenSession(nonce)))
        found = self.replica.sessions.opened(owner.public, nonce)
        assert found is not None
        return found

    def results(self) -> list[tuple[Any, int, tuple[Any, ...]]]:
        """The answers that leave now: client, request, and the data or code of each answer by its place."""
        found = []
        for client, reply in self.settle():
            assert isinstance(reply, Results), reply
            assert [answer.id for answer in reply.answers] == list(range(len(reply.answers)))
            said = (a.data if isinstance(a, Result) else a.code for a in reply.answers)
            found.append((client, reply.id, tuple(said)))
        return found


def by(owner: Signer, *commands: Any) -> bytes:
    """A request."""
    return signed.sign(owner, [encode(command) for command in commands])


@pytest.fixture
def bench() -> SignedBench:
    return SignedBench()


# --- answers ---


def test_a_request_is_submitted_as_it_came_and_all_its_commands_are_answered_together(bench: SignedBench) -> None:
    session = bench.open(ANN)
    value = by(ANN, put(session, 1, b"a"), put(session, 2, b"b"))
    bench.request("ann", Command(7, value))
    assert (bench.settle(), bench.port.submitted) == ([], [value])
    bench.commit(value)
    assert bench.results() == [("ann", 7, (b"1:a", b"2:b"))]
    assert bench.settle() == []


def test_everybody_who_sent_a_request_is_answered_once_for_each_time(bench: SignedBench) -> None:
    value = by(ANN, OpenSession(1))
    for client, number in (("ann", 1), ("ann", 1), ("relay", 9)):
        bench.request(client, Command(number, value))
    bench.commit(value)
    session = bench.replica.sessions.opened(ANN.public, 1)
    expected = (b"%d" % session,)
    assert bench.results() == [("ann", 1, expected), ("ann", 1, expected), ("relay", 9, expected)]
    assert bench.replica._requests_count == 0


def test_a_request_that_comes_after_it_was_applied_is_answered_from_the_table(bench: SignedBench) -> None:
    session = bench.open(ANN)
    value = by(ANN, put(session, 1, b"a"), put(session, 2, b"b"))
    bench.commit(value)
    bench.request("ann", Command(3, value))
    bench.request("ann", Command(4, by(ANN, OpenSession(1))))
    bench.replica.stalled("disk full")  # what is known can be told without a disk
    bench.request("ann", Command(5, by(ANN, put(session, 2, b"b"))))
    assert bench.results() == [
        ("ann", 3, (b"1:a", b"2:b")),
        ("ann", 4, (b"%d" % session,)),
        ("ann", 5, (b"2:b",)),
    ]
    assert bench.port.submitted == []


@pytest.fixture
def used(bench: SignedBench) -> tuple[SignedBench, list[bytes]]:
    """Requests that have had their effect: answered and acknowledged, closed, of nobody's session, expired."""
    session, closed = bench.open(ANN), bench.open(BOB)
    spent = [
        by(ANN, put(session, 1, b"a")),
        by(ANN, put(session, 2, b"b", answered_below=2)),
        by(BOB, CloseSession(closed)),
        by(BOB, put(closed, 1, b"c")),
        by(BOB, put(session, 1, b"a"), put(session, 9, b"z")),
        by(ANN, OpenSession(1)),
    ]
    for value in spent:
        bench.commit(value)
    bench.settle()
    return bench, spent


def screened(bench: SignedBench, *values: bytes) -> tuple[int, ...]:
    """What the core is told of them."""
    work = Work(bench.replica)
    done = work.begin(Job((), "screen", Screen(values)))
    while done is None:
        (done,) = work.step() or (None,)
    assert isinstance(done.result, Screened)
    return done.result.spent


def test_what_has_had_its_effect_is_answered_as_the_log_would_and_is_not_ordered_again(
    used: tuple[SignedBench, list[bytes]],
) -> None:
    bench, spent = used
    for number, value in enumerate(spent):
        bench.request("anybody", Command(number, value))
        (at_once,) = bench.settle()
        assert bench.port.submitted == []
        bench.replica._requests[sha256(value).digest()] = [("anybody", number, NEVER)]
        bench.replica._requests_count += 1
        bench.commit(value)
        assert bench.settle() == [at_once], "what others say who have it from the log"


def test_the_core_is_told_what_has_had_its_effect(used: tuple[SignedBench, list[bytes]]) -> None:
    bench, spent = used
    session = bench.replica.sessions.opened(ANN.public, 1)
    assert session is not None
    reached = (bench.replica.applied_index + 1) * signed.COMMANDS_MAX
    open_still = [
        by(ANN, put(session, 3, b"d")),
        by(ANN, put(session, 2, b"b"), put(session, 3, b"d")),
        by(ANN, CloseSession(session)),
        by(ANN, OpenSession(2)),
        by(ANN, Inspect(1, b"query")),
        by(ANN, put(reached, 1, b"of a session that may begin")),
        by(BOB, CloseSession(reached)),
        by(BOB, put(reached - 1, 1, b"of none")),
        b"no request",
    ]
    values = [value for pair in zip(spent, open_still, strict=False) for value in pair] + open_still[len(spent) :]
    answered = {values[place] for place in screened(bench, *values)}
    assert answered == {*spent, open_still[-2]}
    many = [*[open_still[0]] * 200, spent[0]]
    assert screened(bench, *many) == (200,)


def test_a_request_that_is_known_in_part_goes_through_the_log(bench: SignedBench) -> None:
    session = bench.open(ANN)
    bench.commit(by(ANN, put(session, 1, b"a")))
    value = by(ANN, put(session, 1, b"a"), put(session, 2, b"b"))
    bench.request("ann", Command(1, value))
    assert (bench.settle(), bench.port.submitted) == ([], [value])
    bench.commit(value)
    assert bench.results() == [("ann", 1, (b"1:a", b"2:b"))]
    assert bench.machine.commands == [b"a", b"b"]


@pytest.mark.parametrize(
    "entry", [b"", b"\xc1", encode(OpenSession(1)), signed.sign(ANN, [b"\xc1"]), by(ANN, OpenSession(1)) + b"\0"]
)
def test_what_is_no_signed_request_is_refused(bench: SignedBench, entry: bytes) -> None:
    bench.request("ann", Command(1, entry))
    [(client, failure)] = bench.settle()
    assert (client, failure.id, failure.code, bench.port.submitted) == ("ann", 1, Code.MALFORMED, [])


def test_a_stalled_node_and_a_full_one_refuse(bench: SignedBench) -> None:
    bench.replica.stalled("disk full")
    bench.request("ann", Command(1, by(ANN, OpenSession(1))))
    assert bench.settle() == [("ann", Failure(1, Code.STORAGE, "disk full"))]
    small = SignedBench(pending_max=1)
    small.request("ann", Command(1, by(ANN, OpenSession(1))))
    small.request("bob", Command(2, by(BOB, OpenSession(1))))
    [(client, failure)] = small.settle()
    assert (client, failure.code) == ("bob", Code.BUSY)


def test_nothing_waits_for_a_client_that_has_left(bench: SignedBench) -> None:
    shared, own = by(ANN, OpenSession(1)), by(BOB, OpenSession(1))
    for client, value in (("leaves", shared), ("stays", shared), ("leaves", own), ("leaves", own)):
        bench.request(client, Command(1, value))
    bench.replica.closed("leaves")
    assert bench.replica._requests_count == 1
    bench.commit(shared)
    bench.commit(own)
    assert [client for client, _, _ in bench.results()] == ["stays"]
    assert bench.replica.sessions.opened(BOB.public, 1) is not None
    assert bench.replica._requests_count == 0


def test_dropped_requests_are_refused_and_make_room(bench: SignedBench) -> None:
    value = by(ANN, OpenSession(1))
    bench.request("ann", Command(1, value))
    bench.replica.output(Dropped((b"\xc1", value), "too much"))
    assert bench.settle() == [("ann", Failure(1, Code.UNAVAILABLE, "too much"))]
    assert bench.replica._requests_count == 0


def test_a_new_leader_changes_nothing_for_those_who_wait(bench: SignedBench) -> None:
    value = by(ANN, OpenSession(1))
    bench.request("ann", Command(1, value))
    for term, leader in ((1, 2), (2, None), (3, 3)):
        bench.replica.output(Leads(term, leader))
    assert (bench.settle(), bench.replica.leader) == ([], 3)
    bench.commit(value)
    assert [client for client, _, _ in bench.results()] == ["ann"]


def test_large_answers_go_out_in_pieces_that_say_their_places(
    bench: SignedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESULTS_BYTES_MAX", 10)
    session = bench.open(ANN)
    value = by(ANN, *(put(session, serial, b"x" * size) for serial, size in enumerate((3, 3, 20, 1), 1)))
    bench.request("ann", Command(5, value))
    bench.commit(value)
    pieces = [reply for _, reply in bench.settle()]
    assert [[answer.id for answer in piece.answers] for piece in pieces] == [[0, 1], [2], [3]]
    assert {piece.id for piece in pieces} == {5}


# --- owners ---


def test_a_session_is_there_for_its_owner_alone(bench: SignedBench) -> None:
    session = bench.open(ANN)
    bench.commit(by(ANN, put(session, 1, b"mine")))
    before = bench.replica.sessions.encode()
    forged = by(BOB, put(session, 2, b"forged"), put(session, 1, b"again"), CloseSession(session))
    bench.request("bob", Command(1, forged))
    bench.commit(forged)
    assert bench.results() == [("bob", 1, (Code.NO_SESSION, Code.NO_SESSION, b""))]
    assert (bench.machine.commands, bench.replica.sessions.encode()) == ([b"mine"], before)
    bench.request("bob", Command(2, by(BOB, put(session, 1, b"mine"))))  # nor is he told Ann's results
    assert bench.results() == [("bob", 2, (Code.NO_SESSION,))]


def test_a_stranger_keeps_no_session_alive() -> None:
    bench = SignedBench(sessions_max=2)
    first = bench.open(ANN, 1)
    second = bench.open(ANN, 2)
    bench.commit(by(BOB, put(first, 1)))
    bench.open(BOB)
    assert bench.replica.sessions.use(first, ANN.public) is None
    assert bench.replica.sessions.use(second, ANN.public) is not None


def test_an_opening_that_is_replayed_opens_nothing_new(bench: SignedBench) -> None:
    value = by(ANN, OpenSession(1))
    bench.commit(value, value)
    bench.request("relay", Command(1, value))
    [(_, _, (first,))] = bench.results()
    assert len(bench.replica.sessions) == 1
    assert bench.open(BOB, 1) != int(first)
    assert bench.open(ANN, 2) != int(first)


def test_two_openings_of_one_request_are_two_sessions(bench: SignedBench) -> None:
    value = by(ANN, OpenSession(1), OpenSession(2), OpenSession(1))
    bench.request("ann", Command(1, value))
    bench.commit(value)
    [(_, _, (one, two, again))] = bench.results()
    assert one == again != two
    assert len(bench.replica.sessions) == 2


def test_the_whole_past_of_a_session_that_ended_has_no_effect_when_it_is_replayed(bench: SignedBench) -> None:
    opening = by(ANN, OpenSession(1))
    bench.commit(opening)
    session = bench.replica.sessions.opened(ANN.public, 1)
    past = [opening, by(ANN, put(session, 1, b"a")), by(ANN, put(session, 2, b"b")), by(ANN, CloseSession(session))]
    bench.commit(*past[1:])
    bench.commit(*past)
    assert bench.machine.commands == [b"a", b"b"]


def test_what_is_no_command_is_refused_in_its_place(bench: SignedBench) -> None:
    session = bench.open(ANN)
    value = signed.sign(ANN, [b"\xc1", encode(put(session, 1, b"a"))])
    bench.replica._requests[module.sha256(value).digest()] = [("ann", 1, NEVER)]  # request() would have refused it
    bench.commit(value, b"\xc1", encode(put(session, 2, b"unsigned")))
    assert bench.results() == [("ann", 1, (Code.MALFORMED, b"1:a"))]
    assert bench.machine.commands == [b"a"]


# --- reads in the log ---


def test_a_read_in_the_log_sees_what_stands_before_it_and_nothing_after(bench: SignedBench) -> None:
    session = bench.open(ANN)
    value = by(ANN, put(session, 1, b"a"), Inspect(5, b"q"), put(session, 2, b"b"))
    bench.request("ann", Command(1, value))
    bench.commit(value)
    assert bench.results() == [("ann", 1, (b"1:a", b"1 stored for q", b"2:b"))]
    assert bench.machine.batches == [1]


def test_a_read_in_the_log_changes_no_state(bench: SignedBench) -> None:
    session = bench.open(ANN)
    bench.commit(by(ANN, put(session, 1, b"a")))
    before = bench.state()[1:]
    bench.commit(by(BOB, Inspect(1, b"q")), by(BOB, Inspect(1, b"q")))
    assert bench.state()[1:] == before


def test_a_long_read_in_the_log_is_answered_by_itself_from_its_place(bench: SignedBench) -> None:
    session = bench.open(ANN)
    value = by(ANN, put(session, 1, b"a"), Inspect(5, b"3 steps"), put(session, 2, b"b"))
    bench.request("ann", Command(1, value))
    bench.commit(value)
    [(client, others)] = bench.settle()
    assert (client, others) == ("ann", Results(1, (Result(0, b"1:a"), Result(2, b"2:b"))))
    assert bench.fire(GO_ON) == []
    assert bench.fire(GO_ON) == [("ann", Results(1, (Result(1, b"1 stored for 3 steps"),)))]


def test_a_read_in_the_log_is_made_for_those_who_asked_here(bench: SignedBench) -> None:
    """Others have asked other nodes, or have gone."""
    value = by(ANN, Inspect(5, b"3 steps"))
    bench.commit(value)
    assert bench.machine.steps == 0
    bench.request("ann", Command(1, value))
    bench.commit(value)
    assert bench.machine.under_way == 1
    bench.replica.closed("ann")
    assert bench.machine.under_way == 0


def test_nobody_waits_for_a_long_read_in_the_log_past_the_last_deadline(bench: SignedBench) -> None:
    value = by(ANN, Inspect(5, b"900 steps"))
    bench.request("ann", Command(1, value, 1500))
    bench.request("ann", Command(2, value, 2500))
    bench.commit(value)
    bench.settle()
    for under_way in (1, 1, 1, 0):
        bench.fire(TICK)
        assert bench.machine.under_way == under_way


def test_a_call_that_is_asked_again_while_it_is_under_way_is_not_begun_again(bench: SignedBench) -> None:
    """It is answered from its first place, each request in its own frame and place."""
    session = bench.open(ANN)
    first = by(ANN, Inspect(5, b"3 steps", 7))
    again = by(ANN, put(session, 1, b"a"), Inspect(6, b"3 steps", 7))
    for number, value in ((1, first), (2, again)):
        bench.request("ann", Command(number, value, 1500 * number))
        bench.commit(value)
    assert bench.settle() == [("ann", Results(2, (Result(0, b"1:a"),)))]
    assert bench.machine.under_way == 1
    bench.fire(TICK), bench.fire(TICK), bench.fire(TICK)
    assert bench.machine.under_way == 1, "as long as its last deadline says"
    assert bench.fire(GO_ON) == []
    answer = b"0 stored for 3 steps"
    assert bench.fire(GO_ON) == [
        ("ann", Results(1, (Result(0, answer),))),
        ("ann", Results(2, (Result(1, answer),))),
    ]


@pytest.mark.parametrize(
    "other",
    [
        by(ANN, Inspect(6, b"3 steps", 8)),
        by(BOB, Inspect(6, b"3 steps", 7)),
        by(ANN, Inspect(6, b"4 steps", 7)),
        by(ANN, Inspect(6, b"3 steps")),
    ],
    ids=["another call", "another client", "another query", "does not say"],
)
def test_what_may_be_another_call_is_begun(bench: SignedBench, other: bytes) -> None:
    """An older answer than its own may be older than the call."""
    for number, value in ((1, by(ANN, Inspect(5, b"3 steps", 7))), (2, other)):
        bench.request("ann", Command(number, value))
        bench.commit(value)
    assert bench.machine.under_way == 2


def test_two_that_do_not_say_which_call_they_are_of_are_two(bench: SignedBench) -> None:
    for nonce in (5, 6):
        value = by(ANN, Inspect(nonce, b"3 steps"))
        bench.request("ann", Command(nonce, value))
        bench.commit(value)
    assert bench.machine.under_way == 2


def test_whoever_waits_for_a_request_is_forgotten_and_told(bench: SignedBench) -> None:
    """It may be ordered yet. The link has an answer: the port reads on as long as it does not wait for too much."""
    session = bench.open(ANN)
    late, later = by(ANN, put(session, 1, b"a")), by(ANN, put(session, 2, b"b"))
    for number, value, remaining_ms in ((1, late, 1500), (2, late, 1500), (3, later, 2500), (4, later, 0)):
        bench.request("ann", Command(number, value, remaining_ms))
    assert bench.settle() == bench.fire(TICK) == bench.fire(TICK) == []
    assert bench.fire(TICK) == [("ann", Failure(number, Code.LEADER_CHANGED, LATE)) for number in (1, 2)]
    assert bench.fire(TICK) == [("ann", Failure(3, Code.LEADER_CHANGED, LATE))]
    bench.commit(late, later)
    assert bench.results() == [("ann", 4, (b"2:b",))]


def test_reads_past_the_log_are_as_ever(bench: SignedBench) -> None:
    bench.request("ann", query(1, b"now", serializable=True))
    assert bench.settle() == [("ann", Result(1, b"0 stored for now"))]
    bench.request("ann", query(2, b"later"))
    assert bench.settle() == []
    assert bench.port.asked == [0]


# --- snapshots ---

owners = st.sampled_from([ANN, BOB])
small = st.integers(0, 3)
sessions = st.integers(0, 6).map(lambda index: index * signed.COMMANDS_MAX)
commands = st.one_of(
    st.builds(OpenSession, small),
    st.builds(Apply, sessions, small, small, st.binary(max_size=2)),
    st.builds(CloseSession, sessions),
    st.builds(Inspect, small, st.binary(max_size=2)),
)
requests = st.builds(lambda owner, body: by(owner, *body), owners, st.lists(commands, min_size=1, max_size=3))


@given(st.lists(st.one_of(requests, st.binary(max_size=9)), max_size=20), st.lists(st.booleans(), max_size=20))
def test_equal_logs_make_equal_tables_with_snapshots_or_without(log: list[bytes], cuts: list[bool]) -> None:
    whole, pieces = SignedBench(sessions_max=2), SignedBench(sessions_max=2)
    if log:
        whole.commit(*log)
    for position, entry in enumerate(log):
        pieces.commit(entry)
        if position < len(cuts) and cuts[position]:
            data = pieces.snapshot()
            pieces = SignedBench(sessions_max=2)
            pieces.restore(data)
    assert pieces.state() == whole.state()
    assert pieces.replica.sessions._owned == whole.replica.sessions._owned


def test_owners_and_nonces_come_back_from_a_snapshot(bench: SignedBench) -> None:
    session = bench.open(ANN)
    bench.commit(by(ANN, put(session, 1, b"a")))
    other = SignedBench()
    other.restore(bench.snapshot())
    assert other.open(ANN) == session
    other.commit(by(BOB, put(session, 2, b"b")), by(ANN, put(session, 1, b"a")), by(ANN, put(session, 2, b"c")))
    assert other.machine.commands == [b"a", b"c"]


def test_who_waits_while_a_snapshot_arrives_is_told_to_come_again(bench: SignedBench) -> None:
    value = by(ANN, OpenSession(1))
    for number in (1, 2):
        bench.request("ann", Command(number, value))
    other = SignedBench()
    other.commit(value)
    bench.restore(other.snapshot())
    assert [(client, reply.id, reply.code) for client, reply in bench.settle()] == [
        ("ann", 1, Code.UNAVAILABLE),
        ("ann", 2, Code.UNAVAILABLE),
    ]
    assert bench.replica._requests_count == 0
    bench.request("ann", Command(3, value))
    assert [number for _, number, _ in bench.results()] == [3]


# --- planted bugs ---


class AsksForNoOwner(SignedReplica):
    """Takes every session for the client's own."""

    def _apply_signed(self, first, place, command, owner):
        found = dict(self.sessions.decode(self.sessions.encode())).get(getattr(command, "session", None))
        return super()._apply_signed(first, place, command, owner if found is None else found.owner)


class NamesSessionsByNonce(SignedReplica):
    """Gives a session that is opened again the id that it had."""

    def _apply_signed(self, first, place, command, owner):
        return super()._apply_signed(getattr(command, "nonce", first), 0, command, owner)


class ReadsLate(SignedReplica):
    """Answers a read in the log from what is stored, and not from what was applied."""

    def _end_batch_if_there_is_space(self):
        self.machine.open = False
        return


@pytest.mark.parametrize(
    ("bug", "catches"),
    [
        (AsksForNoOwner, test_a_session_is_there_for_its_owner_alone),
        (NamesSessionsByNonce, test_the_whole_past_of_a_session_that_ended_has_no_effect_when_it_is_replayed),
        (ReadsLate, test_a_read_in_the_log_sees_what_stands_before_it_and_nothing_after),
    ],
)
def test_planted_bugs_are_caught(bug: type[SignedReplica], catches) -> None:
    with pytest.raises(AssertionError):
        catches(SignedBench(bug))


# --- changes of members ---


def administered(epoch: int = 7, owner: Signer = ANN) -> bytes:
    """A signed change of members."""
    return signed.sign(owner, [configuration.encode_change((1, 2, 3, 4), epoch)])


def test_a_change_of_members_is_answered_when_the_log_has_it(bench: SignedBench) -> None:
    value = administered()
    bench.request("ann", Reconfigure(1, value))
    bench.request("ann", Reconfigure(2, value))
    assert (bench.settle(), bench.port.submitted) == ([], [value, value])
    bench.commit(administered(8), kind=CONFIGURATION)
    assert bench.settle() == []
    bench.commit(value, kind=CONFIGURATION)
    assert bench.settle() == [("ann", Results(n, (Result(0, b""),))) for n in (1, 2)]
    assert (bench.replica._requests_count, bench.machine.commands) == (0, [])


def test_a_change_of_members_that_does_not_count_is_no_command(bench: SignedBench) -> None:
    """The core took it for one: it is of another epoch, or another had it ordered."""
    value = administered()
    bench.request("ann", Reconfigure(1, value))
    bench.commit(value)
    assert bench.results() == [("ann", 1, (Code.MALFORMED,))]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        configuration.encode_change((1, 2, 3, 4)),
        by(ANN, OpenSession(1)),
        signed.sign(ANN, [configuration.encode_change((1, 2, 3, 4)), configuration.encode_change((1, 2, 3, 5))]),
    ],
    ids=["nothing", "not signed", "a command", "two"],
)
def test_what_is_no_signed_change_of_members_is_refused(bench: SignedBench, value: bytes) -> None:
    bench.request("ann", Reconfigure(1, value))
    assert bench.settle() == [("ann", Failure(1, Code.MALFORMED, "this is no signed change of members"))]
    assert bench.port.submitted == []


def test_a_change_of_members_is_no_command(bench: SignedBench) -> None:
    bench.request("ann", Command(1, administered()))
    assert bench.settle() == [("ann", Failure(1, Code.MALFORMED, "this cluster takes signed requests alone"))]
    assert bench.port.submitted == []
